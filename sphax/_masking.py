"""What `where` means: a mask, or weights, of the rows of a batch.

A row of weight zero is zeroed before any product, so that a NaN in it reaches nothing;
where no weight is left, a mean is 0 with zero gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sphax._checks import as_array
from sphax._numerics import divide, dot


def as_weights(
    where: jax.typing.ArrayLike | None, shape: tuple[int, ...], of: str
) -> jax.Array | None:
    """``where`` as an array; raises unless a mask or weights of the shape of ``of``.

    Negative weights raise as well, and become NaN where they are traced.
    """
    if where is None:
        return None
    where = as_array("where", where)
    if where.dtype != jnp.bool_ and not jnp.issubdtype(where.dtype, jnp.floating):
        raise TypeError(
            f"where must be a boolean mask or floating weights, got {where.dtype}."
        )
    if where.shape != shape:
        raise ValueError(
            f"where must have the shape of {of}, {shape}, got {where.shape}."
        )
    if where.dtype == jnp.bool_:
        return where
    if not isinstance(where, Tracer) and where.is_fully_addressable:
        lowest = np.min(np.asarray(where), initial=0.0)
        if lowest < 0.0:
            raise ValueError(f"where must not be negative, got {lowest}.")
        return where
    return jnp.where(where < 0.0, jnp.nan, where)


def zero_masked(x: jax.Array, where: jax.Array | None) -> jax.Array:
    """The vectors ``[..., d]``, zero where the weight ``[...]`` is."""
    return x if where is None else jnp.where(where[..., None].astype(bool), x, 0)


def weighted_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """``sum(weights * values) / sum(weights)``, 0 if the weights are."""
    if weights is None:
        # Not `jnp.mean`, which is NaN of nothing.
        return jnp.sum(values) / max(values.size, 1)
    weights = weights.astype(values.dtype)
    return divide(jnp.sum(weights * values), jnp.sum(weights))


def weight_of_pairs(weights: jax.Array) -> jax.Array:
    """Sum over ordered pairs of two of the products of their weights, of ``[n]``."""
    # A difference of squares would leave rounding where one outweighs the rest.
    before = jnp.cumsum(jnp.pad(weights, (1, 0))[:-1])
    return 2.0 * dot(weights, before)


def log_mean_exp(exponents: jax.Array, weights: jax.Array) -> jax.Array:
    """Logarithm of the weighted mean of powers on the last axis, 0 if no weight is."""
    total = jnp.sum(weights, axis=-1)
    is_empty = total == 0.0
    # Finite weights for an empty sum: its logarithm has no gradient that the `where`
    # below could stop.
    safe = jnp.where(is_empty[..., None], 1.0, weights)
    log_sum = jax.nn.logsumexp(exponents, axis=-1, b=safe)
    return jnp.where(is_empty, 0.0, log_sum - jnp.log(jnp.where(is_empty, 1.0, total)))


def pair_weights(
    where: jax.Array | None, n: int, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """Weight of every pair of ``n`` rows, ``[n, n]``; 0 for a row with itself."""
    others = 1.0 - jnp.eye(n, dtype=dtype)
    if where is None:
        return others
    weights = where.astype(dtype)
    return weights[:, None] * weights[None, :] * others
