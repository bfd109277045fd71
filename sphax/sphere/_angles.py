"""Directions and the angles between them.

A zero vector is at a right angle to everything and gets no gradient through its
direction. All others count by theirs, from the smallest normal number to the largest.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_vectors
from sphax._numerics import divide, dot, inverse_power, widen
from sphax.sphere._lengths import direction, length, remove_along


def angle(x: ArrayLike, y: ArrayLike) -> jax.Array:
    r"""Angle between vectors, their geodesic distance on the sphere, in radians.

    :math:`\theta = 2 \operatorname{atan2}(\|\hat x - \hat y\|, \|\hat x + \hat y\|)`
    keeps its digits at both ends, where the arc cosine loses half of them. Vectors that
    agree to a few ulps in every component are at angle 0, or :math:`\pi`. The
    derivative is a rule of its own, formed from the vectors:
    :math:`\partial\theta / \partial x = -t / \|x\|` with :math:`t` the unit tangent at
    :math:`\hat x` that points to :math:`\hat y`. It has full length at every angle that
    the vectors resolve, however small.

    Args:
        x: Vectors, floating, ``[..., d]``.
        y: Vectors, floating, of a shape that broadcasts with ``x``.

    Returns:
        Angles in ``[0, pi]``, ``[...]``, float32 at least. At 0 and pi, where the
        tangent does not exist, the gradient is zero. A zero vector is at angle pi / 2
        to every vector, with zero gradient.

    Raises:
        TypeError: If ``x`` or ``y`` is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> x, y = jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-7])
        >>> float(sx.sphere.angle(x, y))
        1e-07
        >>> jax.grad(sx.sphere.angle)(x, y)
        Array([ 0., -1.], dtype=float32)
    """
    x, y = map(widen, as_vectors(x=x, y=y))
    dtype = jnp.promote_types(x.dtype, y.dtype)
    return _angle(*jnp.broadcast_arrays(x.astype(dtype), y.astype(dtype)))


@jax.custom_jvp
def _angle(x: jax.Array, y: jax.Array) -> jax.Array:
    u, v = direction(x), direction(y)
    gap, sign = _gap(u, v)
    near = length(_above_noise(gap, u))
    far = length(v + sign[..., None] * u)
    is_acute = sign > 0.0
    half = jnp.arctan2(jnp.where(is_acute, near, far), jnp.where(is_acute, far, near))
    return jnp.where(_have_directions(x, y), 2.0 * half, math.pi / 2)


@_angle.defjvp
def _angle_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    u = direction(x)
    gap, sign = _gap(u, direction(y))
    gap = _above_noise(gap, u)
    closing = _rate(gap, x, dx) - sign * _rate(gap, y, dy)
    return _angle(x, y), jnp.where(_have_directions(x, y), -closing, 0.0)


def _rate(gap: jax.Array, x: jax.Array, dx: jax.Array) -> jax.Array:
    """Speed of the direction of ``x`` towards ``gap``, in radians."""
    # In x itself, not in its direction: the gap is all that the backward pass keeps.
    norm = length(x)
    # A power of two brings its products into range.
    scale = inverse_power(norm)
    norm, x, dx = norm * scale, x * scale[..., None], dx * scale[..., None]
    along = divide(dot(gap, x), norm)
    sine = length(gap - divide(along, norm)[..., None] * x)
    tangential = dot(gap, dx) - divide(along, norm) * dot(x, dx)
    return divide(tangential, sine * norm)


def _have_directions(x: jax.Array, y: jax.Array) -> jax.Array:
    return (length(x) != 0.0) & (length(y) != 0.0)


def _gap(u: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``v - u``, or ``v + u`` if they are opposite, and the sign, 1 or -1."""
    # It has the same tangent part at u as v. The difference is exact for close vectors,
    # where v - (v . u) u would leave rounding noise with a direction of its own.
    sign = jnp.where(dot(u, v) < 0.0, -1.0, 1.0).astype(u.dtype)
    return v - sign[..., None] * u, sign


def _above_noise(gap: jax.Array, u: jax.Array) -> jax.Array:
    """``gap``, or zero if it is a few ulps of ``u`` in every component."""
    # A compiler may sum the squares of two equal vectors in different orders.
    noise = 4.0 * jnp.finfo(u.dtype).eps * jnp.abs(u)
    is_noise = jnp.all(jnp.abs(gap) <= noise, axis=-1, keepdims=True)
    return jnp.where(is_noise, 0.0, gap)


def tangent_part(u: jax.Array, v: jax.Array) -> jax.Array:
    """The part of the unit vector ``v`` that is tangent at the unit vector ``u``."""
    gap, _ = _gap(u, v)
    return remove_along(u, gap)
