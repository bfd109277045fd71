"""Arithmetic that is right at zero and at both ends of the range of a dtype."""

from functools import partial

import jax
import jax.numpy as jnp


def widen(x: jax.Array) -> jax.Array:
    """``x`` in the dtype in which lengths, angles and losses are computed.

    Its gradient comes back in the dtype of ``x``, clipped to the range of that.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return bound_gradient(wide, float(jnp.finfo(x.dtype).max))


def widen_narrow(x: jax.Array) -> jax.Array:
    """``x`` in float32 at least, where only the gradient of 16 bits is clipped."""
    return x if x.dtype.itemsize > 2 else widen(x)


def bounded(x: jax.Array) -> jax.Array:
    """``x`` itself, whose gradient is clipped to the range of its dtype."""
    return bound_gradient(x, float(jnp.finfo(x.dtype).max))


def bound_gradient(x: jax.Array, limit: float) -> jax.Array:
    """``x`` itself, whose gradient is clipped to ``[-limit, limit]``."""
    return _within(x, limit=limit)


# Jitted, since the solver traces its functions in every call.
@partial(jax.jit, static_argnames="limit")
def _within(x, *, limit):
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


def finite_limit(dtype: jax.typing.DTypeLike, size: int) -> float:
    """Size up to which the inner product with a unit vector is finite in float32.

    Of vectors with ``size`` entries; not beyond the range of the dtype.
    """
    wide = jnp.finfo(jnp.promote_types(dtype, jnp.float32))
    return min(float(jnp.finfo(dtype).max), 0.25 * float(wide.max) / max(size, 1))


def inverse_power(x: jax.Array) -> jax.Array:
    """A power of two next to ``1 / x``, without gradient, of ``x >= 0``; 1 of 0."""
    info = jnp.finfo(x.dtype)
    inside = jnp.where(x == 0.0, 1.0, jax.lax.stop_gradient(x))
    inside = jnp.clip(inside, 4.0 * float(info.tiny), float(info.max) / 16.0)
    return 1.0 / jax.lax.reduce_precision(inside, info.nexp, 0)


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Inner product along the last axis."""
    return jnp.sum(x * y, axis=-1)


def divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x / y``, and 0 with zero gradient where ``y`` is 0."""
    is_zero = y == 0.0
    return jnp.where(is_zero, 0.0, x / jnp.where(is_zero, 1.0, y))


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Square root of ``x >= 0``; at 0 its gradient is 0, not infinite."""
    # This way round, NaN is not taken for zero.
    is_zero = x == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, x)))


def sin2_noise_floor(dtype: jax.typing.DTypeLike) -> float:
    """The squared sine above which the gradient of an angle is not noise.

    Vectors have ``dtype``; their products, accumulated in float32 at least, put noise
    of an epsilon on the squared sine. The difference of vectors in the gradient has
    noise of their own epsilon, of which the sine must be a multiple.
    """
    product_epsilon = jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps
    return max(float(product_epsilon), (4.0 * float(jnp.finfo(dtype).eps)) ** 2)
