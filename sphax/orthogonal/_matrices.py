"""What the maps share: arguments as matrices, and products that keep orthogonality."""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating
from sphax.sphere import length


def as_square(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless it is floating, ``[..., n, n]``."""
    array = as_floating(name, x)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"{name} must be [..., n, n], got shape {array.shape}.")
    return array


def as_tall(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless it is floating, ``[..., m, n]`` with m >= n."""
    array = as_floating(name, x)
    if array.ndim < 2 or array.shape[-1] > array.shape[-2]:
        raise ValueError(
            f"{name} must be [..., m, n] with m >= n, since its columns become"
            f" orthonormal, got shape {array.shape}; transpose a wide one."
        )
    return array


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Matrix product at the precision of its dtype, on accelerators too."""
    return jnp.matmul(x, y, precision="highest")


def identity_like(x: jax.Array) -> jax.Array:
    """The identity in the shape and dtype of square matrices."""
    return jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


def symmetric_part(x: jax.Array) -> jax.Array:
    """``(x + x') / 2``."""
    return (x + x.mT) / 2.0


def frobenius_norm(x: jax.Array) -> jax.Array:
    """Length of all entries of each matrix, ``[...]``; 0 with zero gradient at zero."""
    return length(x.reshape(*x.shape[:-2], -1))


def skew_of_upper(a: jax.Array) -> jax.Array:
    """The skew-symmetric matrix with the strictly upper triangle of ``a``."""
    upper = jnp.triu(a, 1)
    return upper - upper.mT


def size_of(x: jax.Array) -> jax.Array:
    """Largest magnitude in each matrix, 1 for zero, ``[..., 1, 1]``; a constant."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    return jax.lax.stop_gradient(jnp.where(largest == 0.0, 1.0, largest))


def share_within(x: jax.Array, limit: float) -> jax.Array:
    """Factor that brings the largest sum of a row of magnitudes down to the limit.

    ``[..., 1, 1]``, 1 where that sum is smaller; a constant. The sum bounds the
    singular values of skew-symmetric matrices.
    """
    size = size_of(x)
    # Of entries up to one: no sum overflows.
    sums = jnp.sum(jnp.abs(x) / size, axis=-1, keepdims=True)
    bound = jnp.max(sums, axis=-2, keepdims=True)
    within = limit / jnp.where(bound == 0.0, 1.0, bound)
    return jax.lax.stop_gradient(jnp.minimum(1.0, within / size))
