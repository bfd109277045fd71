"""How far an image may move without a change of its class, proved."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_classes, as_floating, as_labels, check_range
from sphax._compiled import compiled
from sphax._numerics import divide, widen
from sphax.sphere import length


def certified_radius(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lipschitz: float | jax.Array = 1.0,
    prototypes: ArrayLike | None = None,
) -> jax.Array:
    r"""Radius of the ball of inputs that are certainly classified alike.

    If the logits :math:`f` are Lipschitz continuous in the Euclidean norm with a
    constant :math:`L`, the difference of two of them is with :math:`\sqrt 2 L`. So no
    input closer than

    .. math::
        r = \frac{\min_{j \ne y} (f_y - f_j)}{\sqrt 2\, L}

    is given another class. If instead the features :math:`z` are Lipschitz continuous
    with the constant :math:`L` and the logits are
    :math:`f_j = \langle w_j, z \rangle + b_j`, the prototypes give a larger radius,

    .. math::
        r = \min_{j \ne y} \frac{f_y - f_j}{L\, \|w_y - w_j\|}.

    The certified accuracy at :math:`\epsilon` is the share of examples with a radius
    above :math:`\epsilon`. Cosines as logits do not qualify: :math:`z / \|z\|` is not
    Lipschitz continuous at 0. Use products with unit prototypes instead.

    Args:
        logits: :math:`f`, floating, ``[..., classes]``, two classes or more.
        labels: :math:`y`, integer, ``[...]``, in ``[0, classes)``; the radius of any
            other label is NaN.
        lipschitz: :math:`L`, positive, for inputs in the units of the radius: divide it
            by the standard deviation if inputs are divided by that first. It is for the
            network in exact arithmetic: multiply it by the errors of its layers.
        prototypes: :math:`w`, floating, ``[classes, features]``, or None.

    Returns:
        Radii, ``[...]``, float32 at least; 0 where the label does not have the largest
        logit, or shares it. A class with the prototype of the label bounds nothing if
        its logit is smaller: the radius is infinite if all classes are such.

    Raises:
        TypeError: If ``logits`` or ``prototypes`` are not floating, labels not integer,
            or ``lipschitz`` not a number.
        ValueError: If shapes do not fit, or ``lipschitz`` is out of range.

    Example:
        >>> logits, labels = jnp.array([[3.0, 1.0], [3.0, 1.0]]), jnp.array([0, 1])
        >>> sx.metrics.certified_radius(logits, labels)
        Array([1.4142, 0. ], dtype=float32)

    References:
        Tsuzuku et al., `Lipschitz-Margin Training <https://arxiv.org/abs/1802.04034>`_,
        NeurIPS 2018; Singla et al., `Improved Deterministic l2 Robustness
        <https://arxiv.org/abs/2108.04062>`_, ICLR 2022 (with prototypes).
    """
    logits = as_floating("logits", logits)
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError(
            "logits must be [..., classes] with two classes or more, got shape"
            f" {logits.shape}."
        )
    labels = as_labels(labels, logits.shape[:-1], "logits")
    check_range("lipschitz", lipschitz, 0.0, exclude_low=True)
    if prototypes is not None:
        prototypes = as_floating("prototypes", prototypes)
        if prototypes.ndim != 2 or len(prototypes) != logits.shape[-1]:
            raise ValueError(
                f"prototypes must be [{logits.shape[-1]}, features], a row for each"
                f" logit, got shape {prototypes.shape}."
            )
    return _certified_radius(logits, labels, lipschitz, prototypes)


@compiled()
def _certified_radius(
    logits: jax.Array,
    labels: jax.Array,
    lipschitz: float | jax.Array,
    prototypes: jax.Array | None,
) -> jax.Array:
    classes, is_known = as_classes(labels, logits.shape[-1])
    f = widen(logits)
    own = jnp.take_along_axis(f, classes[..., None], axis=-1)
    is_other = ~jax.nn.one_hot(classes, f.shape[-1], dtype=bool)
    gaps = own - f
    if prototypes is None:
        distances = jnp.full_like(f, 2.0**0.5)
    else:
        w = widen(prototypes)
        between = jax.lax.map(lambda row: length(w - row[None]), w)
        distances = between[classes].astype(f.dtype)
    # A class at no distance has a constant difference of logits.
    radii = jnp.where(distances > 0.0, divide(gaps, distances), jnp.inf)
    radii = jnp.where(gaps > 0.0, radii, 0.0)
    nearest = jnp.min(jnp.where(is_other, radii, jnp.inf), axis=-1)
    return nearest / lipschitz * jnp.where(is_known, 1.0, jnp.nan)
