"""Random orthogonal matrices, uniform in the Haar measure."""

import jax
import jax.numpy as jnp

from sphax._checks import check_flag, check_key
from sphax._compiled import compiled
from sphax._linalg import sign_of_determinant
from sphax.orthogonal._gram_schmidt import gram_schmidt


def random_orthogonal(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike = jnp.float32,
    *,
    special: bool = False,
) -> jax.Array:
    r"""Orthogonal matrices, or orthonormal frames, drawn from the Haar measure.

    They are made by :func:`gram_schmidt` of a Gaussian matrix. The factor of a plain QR
    decomposition, whose diagonal has any sign, would not be uniform.

    Args:
        key: PRNG key.
        shape: ``(..., m, n)`` with :math:`m \ge n`.
        dtype: Floating dtype of the result, which is computed in float32 at least.
        special: Whether to draw rotations only, from SO(n), of square matrices;
            otherwise, from O(n), determinants are 1 or -1 with equal probability.

    Returns:
        Matrices with orthonormal columns, of the shape given.

    Raises:
        TypeError: If ``key`` is not a PRNG key, or ``dtype`` not floating.
        ValueError: If ``shape`` is not ``(..., m, n)`` with ``m >= n``, or not square
            for rotations.

    Example:
        >>> q = sx.orthogonal.random_orthogonal(jax.random.key(0), (4, 4))
        >>> bool(sx.orthogonal.orthogonality_error(q) < 1e-5)
        True

    References:
        Mezzadri, `How to Generate Random Matrices from the Classical Compact Groups
        <https://arxiv.org/abs/math-ph/0609050>`_, 2007.
    """
    check_key(key)
    check_flag("special", special)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}.")
    if not isinstance(shape, (tuple, list)) or len(shape) < 2:
        raise TypeError(f"shape must be (..., m, n), got {shape!r}.")
    if shape[-1] > shape[-2]:
        raise ValueError(f"shape must be (..., m, n) with m >= n, got {shape}.")
    if special and shape[-1] != shape[-2]:
        raise ValueError(f"rotations are square, got shape {shape}; use special=False.")
    return _random_orthogonal(key, shape=tuple(shape), dtype=dtype, special=special)


@compiled("shape", "dtype", "special")
def _random_orthogonal(key, *, shape, dtype, special):
    wide = jnp.promote_types(dtype, jnp.float32)
    q = gram_schmidt(jax.random.normal(key, shape, wide))
    if special:
        sign = sign_of_determinant(q)
        q = q.at[..., 0].multiply(sign[..., None])
    return q.astype(dtype)
