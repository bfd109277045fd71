"""Angles between vectors, accurate and differentiable also near 0 and pi.

Only the directions of the vectors count, for all lengths from the smallest normal
number to the largest. A zero vector is at a right angle to every vector, with zero
gradient.
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
    (Kahan's formula) is accurate at both ends, where the arc cosine loses half of the
    digits. Directions that agree to a few ulps in every component have angle 0, and
    opposite ones :math:`\pi`. The derivative rule is computed from the vectors:
    :math:`\partial\theta / \partial x = -t / \|x\|` with the unit tangent :math:`t` at
    :math:`\hat x` that points to :math:`\hat y`. The gradient has its full length at
    every angle that the vectors resolve, however small.

    Args:
        x: Vectors, floating, ``[..., d]``.
        y: Vectors, floating, of a shape that broadcasts with ``x``.

    Returns:
        Angles in ``[0, pi]``, in radians, ``[...]``, float32 at least. At 0 and pi,
        where the tangent does not exist, the gradient is zero. A zero vector is at
        angle pi / 2 to every vector, with zero gradient.

    Raises:
        TypeError: If ``x`` or ``y`` is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> x, y = jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-7])
        >>> float(sx.sphere.angle(x, y))
        1e-07
        >>> jax.grad(sx.sphere.angle)(x, y)
        Array([ 0., -1.], dtype=float32)

    References:
        W. Kahan, `How Futile are Mindless Assessments of Roundoff in Floating-Point
        Computation? <https://people.eecs.berkeley.edu/~wkahan/Mindless.pdf>`_, 2006.
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
    decrease = _rotation(gap, x, dx) - sign * _rotation(gap, y, dy)
    return _angle(x, y), jnp.where(_have_directions(x, y), -decrease, 0.0)


def _rotation(gap: jax.Array, x: jax.Array, dx: jax.Array) -> jax.Array:
    """Angle by which a change ``dx`` rotates ``x`` towards ``gap``, in radians."""
    # From x itself, not its direction: the backward pass then keeps only the gap.
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
    """``v - u`` and 1, or ``v + u`` and -1 if the angle is obtuse, for unit vectors."""
    # The gap has the same tangent part at u as v has. For close vectors the difference
    # is exact, and v - (v . u) u would be rounding noise in an arbitrary direction.
    sign = jnp.where(dot(u, v) < 0.0, -1.0, 1.0).astype(u.dtype)
    return v - sign[..., None] * u, sign


def _above_noise(gap: jax.Array, u: jax.Array) -> jax.Array:
    """``gap``, or zero if every component is at most a few ulps of that of ``u``."""
    # A compiler may sum the squares of two equal vectors in different orders.
    noise = 4.0 * jnp.finfo(u.dtype).eps * jnp.abs(u)
    is_noise = jnp.all(jnp.abs(gap) <= noise, axis=-1, keepdims=True)
    return jnp.where(is_noise, 0.0, gap)


def tangent_part(u: jax.Array, v: jax.Array) -> jax.Array:
    """The part of the unit vector ``v`` that is tangent at the unit vector ``u``."""
    gap, _ = _gap(u, v)
    return remove_along(u, gap)
