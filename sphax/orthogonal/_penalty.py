"""Orthogonality penalties: distances of a Gram matrix from the identity."""

from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_choice, check_count, check_flag, check_key
from sphax._compiled import compiled
from sphax._masking import zero_masked
from sphax._numerics import widen
from sphax.sphere import direction, inner_products, length

Kind = Literal["soft", "double_soft", "mutual_coherence", "spectral"]
_KINDS = ("soft", "double_soft", "mutual_coherence", "spectral")


def orthogonality_penalty(
    points: jax.typing.ArrayLike,
    *,
    kind: Kind = "soft",
    normalize: bool = False,
    iterations: int = 2,
    key: jax.Array | None = None,
    where: jax.typing.ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Distance of vectors from an orthonormal set.

    With the vectors as the rows of :math:`W`, ``[n, d]``:

    - ``"soft"``: :math:`\|W W^\top - I\|_F^2`;
    - ``"double_soft"``: :math:`\|W W^\top - I\|_F^2 + \|W^\top W - I\|_F^2`, which is
      twice the soft one plus :math:`d - n`: it has twice its gradient;
    - ``"mutual_coherence"``: :math:`\max_{i \ne j} |\cos\theta_{ij}|`, of directions
      always (for unit vectors, the largest entry of :math:`|W W^\top - I|`);
    - ``"spectral"``: the largest singular value of :math:`A = W W^\top - I`, estimated
      by power iteration, :math:`\|A v\|` with :math:`v` the direction of
      :math:`A^{k-1} v_0` for a random :math:`v_0`. It is never too large.

    Nothing is averaged. More vectors than dimensions cannot be orthonormal: the minimum
    of the first two kinds is then :math:`n - d`, at tight frames, which may contain the
    same direction twice. Lengths matter unless ``normalize`` is set.

    Args:
        points: The vectors, floating, ``[n, d]``; see :func:`sphax.neurons.to_rows`.
        kind: One of the four above.
        normalize: Whether to use the directions of the vectors only.
        iterations: :math:`k`, products with :math:`A`, 1 or more; ``"spectral"`` only.
        key: Key that draws :math:`v_0`, preferably a new one in each step; required by
            ``"spectral"``.
        where: Boolean mask of the vectors to include, ``[n]``. The others are zeroed
            first: a NaN in them reaches nothing.
        precision: Precision of matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The penalty, a scalar in float32 at least; 0, with zero gradient, if ``where``
        excludes everything. Unless only directions matter, lengths of about 1e9 and
        more overflow float32, to infinity or NaN. The first two kinds are smooth.
        ``"mutual_coherence"`` has a kink where several pairs are equally coherent; they
        share its gradient. ``"mutual_coherence"`` and ``"spectral"`` have a kink at 0,
        where rounding decides between a gradient of zero and one of order 1. The
        gradient at a zero vector is zero, except for ``"spectral"`` without
        ``normalize``, whose products have their ordinary gradient there.

    Raises:
        TypeError: If ``points`` is not floating, ``where`` is not boolean, or an option
            has the wrong type.
        ValueError: If shapes do not fit, ``kind`` is unknown, ``iterations`` is below
            1, or a key is missing.

    Example:
        >>> sx.orthogonal.orthogonality_penalty(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        Array(9., dtype=float32)

    References:
        Bansal, Chen, Wang, `Can We Gain More from Orthogonality Regularizations in
        Training Deep CNNs? <https://arxiv.org/abs/1810.09102>`_, NeurIPS 2018;
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017 (the soft kind, with weight 1e-4).
    """
    points = as_floating("points", points)
    if points.ndim != 2:
        raise ValueError(f"points must be [n, d], got shape {points.shape}.")
    check_choice("kind", kind, _KINDS)
    check_flag("normalize", normalize)
    if kind == "spectral":
        check_count("iterations", iterations)
        if key is None:
            raise ValueError(
                "kind='spectral' starts from a random vector, got key=None; give a"
                " jax.random.key, a new one each step."
            )
        check_key(key)
    else:
        iterations, key = 0, None
    return _penalty(
        points,
        _as_mask(where, points),
        key,
        kind=kind,
        normalize=bool(normalize),
        iterations=int(iterations),
        precision=precision,
    )


@compiled("kind", "normalize", "iterations", "precision")
def _penalty(points, mask, key, *, kind, normalize, iterations, precision):
    rows = widen(zero_masked(points, mask))
    if normalize or kind == "mutual_coherence":
        rows = direction(rows)
    if kind == "mutual_coherence":
        penalty = _mutual_coherence(rows, precision)
    elif kind == "spectral":
        penalty = _spectral(rows, _random_unit(key, mask), iterations, precision)
    else:
        penalty = _soft(rows, mask, precision)
        if kind == "double_soft":
            penalty = 2.0 * penalty + (rows.shape[1] - jnp.sum(mask))
    return jnp.where(jnp.any(mask != 0.0), penalty, 0.0)


def _soft(rows, mask, precision):
    """The squared distance of the Gram matrix from the identity."""
    n, d = rows.shape
    if n <= d:
        gram, identity, surplus = _gram(rows, precision), jnp.diag(mask), 0.0
    else:
        # |W W' - I|^2 - n = |W' W - I|^2 - d, and the second matrix is smaller.
        gram, identity = _gram(rows.T, precision), jnp.eye(d, dtype=rows.dtype)
        surplus = jnp.sum(mask) - d
    return jnp.sum(jnp.square(gram - identity)) + surplus


def _mutual_coherence(rows, precision):
    cosines = _gram(rows, precision)
    # The absolute value, of slope 0 at 0, where jnp.abs has slope 1.
    coherence = cosines * jnp.sign(cosines)
    is_pair = ~jnp.eye(len(rows), dtype=bool)
    return jnp.max(jnp.where(is_pair, coherence, 0.0), initial=0.0)


def _spectral(rows, vector, iterations, precision):
    def product(vector):
        # Two products with the rows: the Gram matrix is never formed.
        combined = jnp.matmul(vector, rows, precision=precision)
        return jnp.matmul(rows, combined, precision=precision) - vector

    vector = jax.lax.fori_loop(
        0, iterations - 1, lambda _, vector: direction(product(vector)), vector
    )
    return length(product(vector))


def _gram(rows, precision):
    return inner_products(rows, rows, precision=precision)


def _random_unit(key, mask):
    return direction(mask * jax.random.normal(key, mask.shape, mask.dtype))


def _as_mask(where, points):
    """1 for each row that is included and 0 for the others, in float32 at least."""
    mask = jnp.ones(len(points), bool) if where is None else jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"where must be a boolean mask, got dtype {mask.dtype}.")
    if mask.shape != points.shape[:1]:
        raise ValueError(
            "where must have the shape of points without their last axis,"
            f" {points.shape[:1]}, got {mask.shape}."
        )
    return mask.astype(jnp.promote_types(points.dtype, jnp.float32))
