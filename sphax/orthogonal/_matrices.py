"""What the maps share: arguments as matrices, and products that keep orthogonality."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import as_floating
from sphax._norms import length


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


def one_by_one(function: Callable[..., Any], *matrices: jax.Array) -> Any:
    """``function`` of matrices ``[..., m, n]``, which on a CPU is given one at a time.

    For factorisations and solves. Those of a batch share XLA's threads there, and wait
    for each other forever where a program has more of them side by side than threads,
    as with a few layers (jaxlib 0.10).
    """
    batch = matrices[0].shape[:-2]
    if not batch:
        return function(*matrices)

    def loop(*matrices):
        flat = tuple(x.reshape(-1, *x.shape[-2:]) for x in matrices)
        results = jax.lax.map(lambda each: function(*each), flat)
        return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), results)

    return jax.lax.platform_dependent(*matrices, cpu=loop, default=function)


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
