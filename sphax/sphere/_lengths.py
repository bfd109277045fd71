"""Lengths and directions of vectors, safe at zero and for extreme lengths.

Vectors are scaled by a power of two, which is exact, so that lengths are accurate from
the smallest normal number to the largest. The derivative rules are explicit, since
``sqrt`` has no derivative at zero; they can be differentiated again.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating, as_vectors
from sphax._numerics import divide, dot, inverse_power, safe_sqrt, widen, widen_narrow

# Number of entries from which a branch is faster than reading the array again.
_MANY = 2**22


def length(x: ArrayLike) -> jax.Array:
    r"""Euclidean length of each vector, :math:`\|x\|`.

    Args:
        x: Vectors, floating, ``[..., d]``; ``d`` may be 0.

    Returns:
        Lengths, ``[...]``, in float32 at least; 0 with zero gradient for a zero vector,
        NaN for a vector with an infinite entry.

    Raises:
        TypeError: If ``x`` is not floating.
        ValueError: If ``x`` has no axis.

    Example:
        >>> sx.sphere.length(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
        Array([5., 0.], dtype=float32)
    """
    x = as_floating("x", x)
    if x.ndim == 0:
        raise ValueError(f"x must have vectors on the last axis, got shape {x.shape}.")
    return _length(widen_narrow(x))


def normalize(x: ArrayLike) -> jax.Array:
    r"""Direction of each vector, :math:`\hat x = x / \|x\|`.

    The derivative rule is :math:`(I - \hat x \hat x^\top) / \|x\|`.

    Args:
        x: Vectors, floating, ``[..., d]``.

    Returns:
        Unit vectors, shape and dtype of ``x``, computed in float32 at least; zero, with
        zero gradient, for a zero vector.

    Raises:
        TypeError: If ``x`` is not floating.
        ValueError: If ``x`` has no axis, or its last axis is empty.

    Example:
        >>> sx.sphere.normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
        Array([[0.6, 0.8], [0. , 0. ]], dtype=float32)
    """
    (x,) = as_vectors(x=x)
    return _direction(widen(x)).astype(x.dtype)


def direction(x: ArrayLike) -> jax.Array:
    r"""Direction of each vector in float32 at least, :math:`\hat x = x / \|x\|`.

    A building block for functions that go on in float32. :func:`normalize` returns the
    dtype of ``x``, and clips the gradient to the range of that dtype.

    Args:
        x: Vectors, floating, ``[..., d]``.

    Returns:
        Unit vectors, ``[..., d]``, in float32 at least; zero, with zero gradient, for a
        zero vector. The gradient at very short vectors may overflow to infinity.

    Raises:
        TypeError: If ``x`` is not floating.
        ValueError: If ``x`` has no axis, or its last axis is empty.

    Example:
        >>> sx.sphere.direction(jnp.array([3.0, 4.0], jnp.bfloat16))
        Array([0.6, 0.8], dtype=float32)
    """
    (x,) = as_vectors(x=x)
    return _direction(widen_narrow(x))


@jax.custom_jvp
def _length(x: jax.Array) -> jax.Array:
    if x.size < _MANY:
        return _scaled_length(x)
    # If the squares of all lengths are in range, the vectors are read only once.
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
    return _length_near_one(x * scale[..., None]) / scale


@_length.defjvp
def _length_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    # Products, since a compiler recomputes them in the backward pass, and would keep a
    # quotient in memory.
    scale = _scale(x)
    scaled = x * scale[..., None]
    inverse = divide(jnp.ones_like(scale), _length_near_one(scaled))
    return _length(x), dot(scaled * inverse[..., None], dx)


@jax.custom_jvp
def _direction(x: jax.Array) -> jax.Array:
    scaled = x * _scale(x)[..., None]
    # A quotient, not a product with the reciprocal: exact along the axes.
    return divide(scaled, _length_near_one(scaled)[..., None])


@_direction.defjvp
def _direction_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    unit = _direction(x)
    # The division comes first here, so last in the transpose, where the tangent part is
    # then finite.
    change = divide(dx, _length(x)[..., None])
    return unit, remove_along(unit, change)


def _length_near_one(x: jax.Array) -> jax.Array:
    """Length of a vector whose largest entry is about 1."""
    # The minimum changes nothing. Without it a compiler would rewrite the squares of
    # scaled constants as products of squares, which are out of range. Not `clip`: XLA
    # on CPU (jaxlib 0.10) keeps a copy of all vectors for it.
    inside = jnp.minimum(jnp.abs(x), 2.0**60)
    square = dot(inside, inside)
    return safe_sqrt(square)


def _scale(x: jax.Array) -> jax.Array:
    """A power of two that brings the largest entry to about 1; NaN if that is inf."""
    largest = jnp.max(jnp.abs(x), axis=-1, initial=0.0)
    return jnp.where(jnp.isinf(largest), jnp.nan, inverse_power(largest))


def remove_along(unit: jax.Array, x: jax.Array) -> jax.Array:
    """``x`` without its component along ``unit``."""
    return x - dot(unit, x)[..., None] * unit
