"""Tangent vectors and geodesics of the unit sphere.

Points need not have unit length: only their direction counts.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_vectors
from sphax._numerics import divide, dot, widen
from sphax.sphere._angles import angle, tangent_part
from sphax.sphere._lengths import direction, length, remove_along


def project_to_tangent(point: ArrayLike, vector: ArrayLike) -> jax.Array:
    r"""Tangent part of a vector, :math:`(I - \hat p \hat p^\top) v`.

    Args:
        point: Point :math:`p` at which the result is tangent, floating, ``[..., d]``.
        vector: Vector :math:`v`, floating, ``[..., d]``.

    Returns:
        Tangent vector, broadcast shape, dtype of ``vector``; ``vector`` itself if
        ``point`` is zero.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> sx.sphere.project_to_tangent(jnp.array([0.0, 2.0]), jnp.array([3.0, 4.0]))
        Array([3., 0.], dtype=float32)
    """
    point, vector = as_vectors(point=point, vector=vector)
    unit = direction(widen(point))
    return remove_along(unit, widen(vector)).astype(vector.dtype)


def exp_map(point: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""End of the geodesic from a point with a given initial velocity.

    :math:`\exp_p(v) = \cos(\|v\|)\, \hat p + \sin(\|v\|)\, \hat v`, the inverse of
    :func:`log_map`.

    Args:
        point: Start :math:`p`, floating, ``[..., d]``.
        tangent: Velocity :math:`v`, tangent at ``point``, floating, ``[..., d]``; its
            length is the angle travelled, in radians.

    Returns:
        Unit vector, dtype of ``point``; for a zero tangent, the direction of
        ``point``, with the identity as derivative.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> quarter_circle = jnp.array([0.0, jnp.pi / 2])
        >>> sx.sphere.exp_map(jnp.array([1.0, 0.0]), quarter_circle)
        Array([-0.,  1.], dtype=float32)
    """
    point, tangent = as_vectors(point=point, tangent=tangent)
    unit, velocity = direction(widen(point)), widen(tangent)
    travelled = length(velocity)[..., None]
    # The sinc function is smooth at zero. It multiplies the velocity itself, so that
    # the derivative there is the identity.
    moved = jnp.cos(travelled) * unit + jnp.sinc(travelled / math.pi) * velocity
    return moved.astype(point.dtype)


def log_map(point: ArrayLike, other: ArrayLike) -> jax.Array:
    r"""Initial velocity of the geodesic from one point to another.

    :math:`\log_p(q) = \theta\, t` with the angle :math:`\theta` between the points and
    the unit tangent :math:`t` at :math:`\hat p` that points to :math:`\hat q`, the
    inverse of :func:`exp_map`.

    Args:
        point: Start :math:`p`, floating, ``[..., d]``.
        other: End :math:`q`, floating, ``[..., d]``.

    Returns:
        Tangent vector at ``point``, dtype of ``point``, with length in ``[0, pi]``.
        Zero for equal points, and for opposite points, which no single shortest
        geodesic joins.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> sx.sphere.log_map(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
        Array([0.    , 1.5708], dtype=float32)
    """
    point, other = as_vectors(point=point, other=other)
    p, q = widen(point), widen(other)
    tangent = tangent_part(direction(p), direction(q))
    sine = length(tangent)
    is_start = (sine == 0.0) & (dot(p, q) > 0.0)
    stretch = jnp.where(is_start, 1.0, divide(angle(p, q), sine))
    return (stretch[..., None] * tangent).astype(point.dtype)


def retract(point: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""Retraction by normalization, :math:`(\hat p + v) / \|\hat p + v\|`.

    Agrees with :func:`exp_map` to second order in :math:`v`.

    Args:
        point: Start :math:`p`, floating, ``[..., d]``.
        tangent: Step :math:`v`, floating, ``[..., d]``.

    Returns:
        Unit vector, dtype of ``point``; zero if the step ends at the origin.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> sx.sphere.retract(jnp.array([1.0, 0.0]), jnp.array([0.0, 0.75]))
        Array([0.8, 0.6], dtype=float32)
    """
    point, tangent = as_vectors(point=point, tangent=tangent)
    unit = direction(widen(point))
    return direction(unit + widen(tangent)).astype(point.dtype)


def parallel_transport(
    start: ArrayLike, end: ArrayLike, tangent: ArrayLike
) -> jax.Array:
    r"""Parallel transport of a tangent vector along the geodesic between two points.

    With :math:`m` the direction of the midpoint :math:`\hat p + \hat q`, a tangent
    vector :math:`v` at :math:`p` becomes :math:`v - 2 (m \cdot v) m`: the reflection
    that maps :math:`\hat p` to :math:`-\hat q`. It preserves lengths and angles.

    Args:
        start: Point :math:`p`, floating, ``[..., d]``.
        end: Point :math:`q`, floating, ``[..., d]``.
        tangent: Vector :math:`v`, tangent at ``start``, floating, ``[..., d]``.

    Returns:
        Vector tangent at ``end``, dtype of ``tangent``; unchanged between opposite
        points, which no single shortest geodesic joins.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If their vectors differ in length, or shapes do not broadcast.

    Example:
        >>> east, north = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0])
        >>> sx.sphere.parallel_transport(east, north, north)
        Array([-1.,  0.,  0.], dtype=float32)
    """
    start, end, tangent = as_vectors(start=start, end=end, tangent=tangent)
    p, q, v = widen(start), widen(end), widen(tangent)
    middle = direction(direction(p) + direction(q))
    return (v - 2.0 * dot(middle, v)[..., None] * middle).astype(tangent.dtype)
