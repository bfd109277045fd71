"""Closeness of class prototypes to their mean: cheap substitutes for an energy."""

from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import compiled
from sphax._masking import weighted_mean
from sphax._numerics import widen
from sphax.energy._class_energy import as_batch
from sphax.sphere import direction

Kind = Literal["mean", "pairwise"]


def inter_class_energy(
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    kind: Kind = "mean",
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Closeness of the classes of a batch to all, without pairs (SphereFace+, Caffe).

    With the mean :math:`m` of the directions of all prototypes:

    - ``"mean"``: :math:`\operatorname{mean}_b\, \hat w_{y_b} \cdot \hat m`, the cosine
      to the mean, which is a constant as in the authors' code;
    - ``"pairwise"``: the inverse of
      :math:`\operatorname{mean}_{b, j} \|\hat w_{y_b} - \hat w_j\|^2` over the classes
      of the batch and all classes, which is
      :math:`1 / (2 - 2\, m \cdot \operatorname{mean}_b \hat w_{y_b})`. The authors'
      code has its gradient at a constant :math:`m`, up to a factor; here it is exact.

    Both are to be minimized. They cost one pass over the prototypes, and see no pairs:
    they are lowest when the mean is 0, even if classes coincide. They approximate a
    :func:`class_energy`. The authors recommend weights of 1 to 10 for batches of 256
    and of 0.1 to 2 for 128.

    Args:
        prototypes: One direction for each class, floating, ``[classes, features]``;
            their lengths do not count.
        labels: Classes of the batch, integer, ``[batch]``, in ``[0, classes)``. A class
            counts as often as it occurs.
        kind: ``"mean"`` or ``"pairwise"``.
        where: Boolean mask or weights of the labels, ``[batch]``.

    Returns:
        The energy, a scalar in float32 at least; 0, with zero gradient, when ``where``
        leaves nothing. ``"pairwise"`` is finite for coincident prototypes, of the order
        of an inverse epsilon, with zero gradient. A zero prototype adds nothing to the
        mean, with zero gradient. NaN, with the gradient of the classes of the batch, if
        a label is not in ``[0, classes)``, unless masked.

    Raises:
        TypeError: If ``prototypes`` are not floating, or ``labels`` not integer.
        ValueError: If shapes do not fit or ``kind`` is unknown.

    Example:
        >>> sx.energy.inter_class_energy(jnp.eye(4), jnp.array([0, 2]))
        Array(0.5, dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018; the authors' SphereFace+.
    """
    check_choice("kind", kind, ("mean", "pairwise"))
    prototypes, batch, _ = as_batch(prototypes, labels, where)
    return _inter_class_energy(prototypes, batch, kind=kind)


@compiled("kind")
def _inter_class_energy(prototypes, batch, *, kind):
    if not len(prototypes):
        return jnp.zeros((), batch.weights.dtype) * batch.nan_if_unknown
    units = direction(widen(prototypes))
    mean = jnp.mean(units, axis=0)
    if kind == "mean":
        mean = jax.lax.stop_gradient(direction(mean))
    products = jnp.matmul(units[batch.labels], mean, precision="highest")
    energy = weighted_mean(products, batch.weights)
    if kind == "pairwise":
        gap = 2.0 - 2.0 * energy
        resolution = 4.0 * float(jnp.finfo(gap.dtype).eps)
        gap = jnp.where(gap < resolution, resolution, gap)
        energy = jnp.where(jnp.any(batch.weights != 0.0), 1.0 / gap, 0.0)
    return energy * batch.nan_if_unknown
