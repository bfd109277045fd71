"""Length and direction of the vectors on the last axis, right at zero.

A vector counts as zero when its squared length is below the smallest normal number
(in float32: a length below 1.1e-19), where the square has lost its digits. The
derivative rules are written out, ``sqrt`` has none at zero, and are differentiable in
their turn.
"""

from functools import partial

import jax
import jax.numpy as jnp


@jax.jit
def widen(x: jax.Array) -> jax.Array:
    """``x`` in the dtype in which lengths, angles and losses are computed.

    Its gradient comes back in the dtype of ``x``, clipped to the range of that.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return bound_gradient(wide, float(jnp.finfo(x.dtype).max))


def bound_gradient(x: jax.Array, limit: float) -> jax.Array:
    """``x`` itself, whose gradient is clipped to ``[-limit, limit]``.

    Call it under ``jit``: it compiles anew in every eager call.
    """
    # The solution of y = x. It is the one linear function that JAX differentiates
    # forwards as it is, and backwards by a transpose of our own.
    return jax.lax.custom_linear_solve(_identity, x, _solution, partial(_clip, limit))


def _identity(x):
    return x


def _solution(_, x):
    return x


def _clip(limit, _, x):
    low, high = jnp.asarray(-limit, x.dtype), jnp.asarray(limit, x.dtype)
    return jax.lax.clamp(low, x, high)


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Inner product along the last axis."""
    return jnp.sum(x * y, axis=-1)


def divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x / y``, and 0 with zero gradient where ``y`` is 0."""
    is_zero = y == 0.0
    return jnp.where(is_zero, 0.0, x / jnp.where(is_zero, 1.0, y))


def remove_along(unit: jax.Array, x: jax.Array) -> jax.Array:
    """``x`` less its component along ``unit``."""
    return x - dot(unit, x)[..., None] * unit


@jax.custom_jvp
def length(x: jax.Array) -> jax.Array:
    """Euclidean length ``[..., d] -> [...]``; 0 with zero gradient at zero."""
    square = dot(x, x)
    # This way round, NaN is not taken for zero.
    is_zero = square < jnp.finfo(x.dtype).tiny
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))


@length.defjvp
def _length_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return length(x), dot(direction(x), dx)


@jax.custom_jvp
def direction(x: jax.Array) -> jax.Array:
    """``x / |x|`` along the last axis; zero with zero gradient at zero."""
    # A quotient, not a product with the reciprocal: exact along the axes.
    return divide(x, length(x)[..., None])


@direction.defjvp
def _direction_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    unit = direction(x)
    return unit, divide(remove_along(unit, dx), length(x)[..., None])
