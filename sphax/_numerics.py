"""Arithmetic that is safe at zero and near the limits of a dtype."""

from functools import partial

import jax
import jax.numpy as jnp


def widen(x: jax.Array) -> jax.Array:
    """``x`` in float32 at least, the dtype for lengths, angles and losses.

    Its gradient is returned in the dtype of ``x``, clipped to the range of this dtype.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return bound_gradient(wide, float(jnp.finfo(x.dtype).max))


def widen_narrow(x: jax.Array) -> jax.Array:
    """``x`` in float32 at least; clips the gradient only if ``x`` has 16 bits."""
    return x if x.dtype.itemsize > 2 else widen(x)


def bounded(x: jax.Array) -> jax.Array:
    """``x`` itself, with its gradient clipped to the range of its dtype."""
    return bound_gradient(x, float(jnp.finfo(x.dtype).max))


def bound_gradient(x: jax.Array, limit: float) -> jax.Array:
    """``x`` itself, with its gradient clipped to ``[-limit, limit]``."""
    return _within(x, limit=limit)


# Jitted, since `custom_linear_solve` traces its functions in every call.
@partial(jax.jit, static_argnames="limit")
def _within(x, *, limit):
    # The solution y of the linear equation y = x. JAX has no other way to give a linear
    # function a custom transpose and keep its forward derivative.
    return jax.lax.custom_linear_solve(_identity, x, _solution, partial(_clip, limit))


def _identity(x):
    return x


def _solution(_, x):
    return x


def _clip(limit, _, x):
    low, high = jnp.asarray(-limit, x.dtype), jnp.asarray(limit, x.dtype)
    return jax.lax.clamp(low, x, high)


def finite_limit(dtype: jax.typing.DTypeLike, size: int) -> float:
    """Largest entry of vectors whose inner products with unit vectors are finite.

    The vectors have ``size`` entries; the products are in float32 at least. Not larger
    than the largest number of the dtype.
    """
    wide = jnp.finfo(jnp.promote_types(dtype, jnp.float32))
    return min(float(jnp.finfo(dtype).max), 0.25 * float(wide.max) / max(size, 1))


def inverse_power(x: jax.Array) -> jax.Array:
    """A power of two close to ``1 / x`` for ``x >= 0``, without gradient; 1 at 0."""
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
    # Compared so that NaN stays NaN.
    is_zero = x == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, x)))


@jax.custom_jvp
def first_largest(x: jax.Array) -> jax.Array:
    """The largest along the last axis; the first of several has all the gradient."""
    return _largest_and_place(x)[0]


@first_largest.defjvp
def _first_largest_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    largest, place = _largest_and_place(x)
    places = jnp.arange(x.shape[-1]).reshape((1,) * (x.ndim - 1) + (-1,))
    return largest, jnp.sum(dx, axis=-1, where=places == place[..., None])


def _largest_and_place(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Entry by entry: XLA on CPU (jaxlib 0.10) takes ten times as long for `argmax` over
    # a short axis.
    largest = x[..., 0]
    place = jnp.zeros_like(largest, dtype=jnp.int32)
    for i in range(1, x.shape[-1]):
        # A NaN stays, as the largest.
        stays = (x[..., i] <= largest) | jnp.isnan(largest)
        largest = jnp.where(stays, largest, x[..., i])
        place = jnp.where(stays, place, i)
    return largest, place


def sin2_noise_floor(dtype: jax.typing.DTypeLike) -> float:
    """The squared sine of an angle above which its gradient is not rounding noise.

    For vectors of dtype ``dtype``. Their products, accumulated in float32 at least, add
    an error of one epsilon to the squared sine. The gradient contains a difference of
    the vectors, with an error of one epsilon of their dtype; the sine must be several
    times as large.
    """
    product_epsilon = jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps
    return max(float(product_epsilon), (4.0 * float(jnp.finfo(dtype).eps)) ** 2)
