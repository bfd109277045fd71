"""Masks and weights of the rows of a batch, given as ``where``.

A row with weight zero is replaced by zeros before any product, so that a NaN in it does
not propagate. A mean over rows that all have weight zero is 0, with zero gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sphax._checks import as_array
from sphax._numerics import divide, dot


def as_weights(
    where: jax.typing.ArrayLike | None,
    shape: tuple[int, ...],
    of: str,
    *,
    name: str = "where",
) -> jax.Array | None:
    """``where`` as an array; raises unless a mask or weights of the given shape.

    Negative weights raise an error too; traced ones become NaN instead.

    Args:
        where: Boolean mask, floating weights, or None.
        shape: The shape that it must have.
        of: Name of the array that has this shape, for the message.
        name: Name of the argument.
    """
    if where is None:
        return None
    where = as_array(name, where)
    if where.dtype != jnp.bool_ and not jnp.issubdtype(where.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be a boolean mask or floating weights, got {where.dtype}."
        )
    if where.shape != shape:
        raise ValueError(
            f"{name} must have the shape of {of}, {shape}, got {where.shape}."
        )
    if where.dtype == jnp.bool_:
        return where
    if not isinstance(where, Tracer) and where.is_fully_addressable:
        lowest = np.min(np.asarray(where), initial=0.0)
        if lowest < 0.0:
            raise ValueError(f"{name} must not be negative, got {lowest}.")
        return where
    return jnp.where(where < 0.0, jnp.nan, where)


def zero_masked(x: jax.Array, where: jax.Array | None) -> jax.Array:
    """Vectors ``[..., d]``, replaced by zeros where the weight ``[...]`` is zero."""
    return x if where is None else jnp.where(where[..., None].astype(bool), x, 0)


def weighted_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """``sum(weights * values) / sum(weights)``, or 0 if all weights are 0."""
    if weights is None:
        # Not `jnp.mean`, which is NaN for an empty array.
        return jnp.sum(values) / max(values.size, 1)
    weights = weights.astype(values.dtype)
    return divide(jnp.sum(weights * values), jnp.sum(weights))


def total_pair_weight(weights: jax.Array) -> jax.Array:
    """Sum of ``weights[i] * weights[j]`` over all ordered pairs with ``i != j``."""
    # Not sum(w)^2 - sum(w^2), which is rounding noise if one weight exceeds the rest.
    before = jnp.cumsum(jnp.pad(weights, (1, 0))[:-1])
    return 2.0 * dot(weights, before)


def log_mean_exp(exponents: jax.Array, weights: jax.Array) -> jax.Array:
    """Logarithm of the weighted mean of exponentials on the last axis.

    0, with zero gradient, where all weights are 0.
    """
    total = jnp.sum(weights, axis=-1)
    is_empty = total == 0.0
    # An empty sum takes weights of 1, since the `where` below cannot stop the infinite
    # gradient of the logarithm of 0.
    safe = jnp.where(is_empty[..., None], 1.0, weights)
    log_sum = jax.nn.logsumexp(exponents, axis=-1, b=safe)
    return jnp.where(is_empty, 0.0, log_sum - jnp.log(jnp.where(is_empty, 1.0, total)))


def pair_weights(
    where: jax.Array | None, n: int, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """Weight of every pair of ``n`` rows, ``[n, n]``; 0 on the diagonal."""
    others = 1.0 - jnp.eye(n, dtype=dtype)
    if where is None:
        return others
    weights = where.astype(dtype)
    return weights[:, None] * weights[None, :] * others
