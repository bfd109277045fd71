"""Length and direction of the vectors on the last axis, right at zero.

Vectors are scaled by a power of two, which is exact, so that lengths are right from the
smallest normal number to the largest. The derivative rules are written out, ``sqrt``
has none at zero, and are differentiable in their turn.
"""

from functools import partial

import jax
import jax.numpy as jnp

# Entries of an array from which on a second look at all of them takes longer than a
# branch that avoids it.
_MANY = 2**22


def widen(x: jax.Array) -> jax.Array:
    """``x`` in the dtype in which lengths, angles and losses are computed.

    Its gradient comes back in the dtype of ``x``, clipped to the range of that.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return bound_gradient(wide, float(jnp.finfo(x.dtype).max))


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
    if x.size < _MANY:
        return _scaled_length(x)
    # If all are of usual lengths, whose squares are in range, they are read once only.
    square, info = dot(x, x), jnp.finfo(x.dtype)
    least = float(info.tiny) / float(info.eps) ** 2
    is_usual = jnp.all((square > least) & (square < jnp.inf))
    return jax.lax.cond(is_usual, _root, _scaled_length_of, square, x)


def _root(square, x):
    del x
    return jnp.sqrt(square)


def _scaled_length_of(square, x):
    del square
    return _scaled_length(x)


def _scaled_length(x):
    scale = _scale(x)
    return _length(x * scale[..., None]) / scale


@length.defjvp
def _length_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    # Products, which a compiler forms again: it keeps a quotient for the backward pass.
    scale = _scale(x)
    scaled = x * scale[..., None]
    inverse = divide(jnp.ones_like(scale), _length(scaled))
    return length(x), dot(scaled * inverse[..., None], dx)


@jax.custom_jvp
def direction(x: jax.Array) -> jax.Array:
    """``x / |x|`` along the last axis; zero with zero gradient at zero."""
    scaled = x * _scale(x)[..., None]
    # A quotient, not a product with the reciprocal: exact along the axes.
    return divide(scaled, _length(scaled)[..., None])


@direction.defjvp
def _direction_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    unit = direction(x)
    # Divided first, so last in the transpose, where the tangent part is then finite.
    change = divide(dx, length(x)[..., None])
    return unit, remove_along(unit, change)


def _length(x: jax.Array) -> jax.Array:
    """Length of a vector whose largest entry is about 1."""
    # A compiler would multiply the squares of constants by the squares of their scales,
    # which are out of range, if there were nothing in between. This is not `clip`, for
    # which XLA on CPU (jaxlib 0.10) keeps a copy of all vectors.
    inside = jnp.minimum(jnp.abs(x), 2.0**60)
    square = dot(inside, inside)
    # This way round, NaN is not taken for zero.
    is_zero = square == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))


def _scale(x: jax.Array) -> jax.Array:
    """A power of two that brings the largest entry to about 1; NaN if that is inf."""
    largest = jnp.max(jnp.abs(x), axis=-1, initial=0.0)
    return jnp.where(jnp.isinf(largest), jnp.nan, inverse_power(largest))


def inverse_power(x: jax.Array) -> jax.Array:
    """A power of two next to ``1 / x``, without gradient, of ``x >= 0``; 1 of 0."""
    info = jnp.finfo(x.dtype)
    inside = jnp.where(x == 0.0, 1.0, jax.lax.stop_gradient(x))
    inside = jnp.clip(inside, 4.0 * float(info.tiny), float(info.max) / 16.0)
    return 1.0 / jax.lax.reduce_precision(inside, info.nexp, 0)
