"""Stereographic projection between the plane and the sphere."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_vectors
from sphax._compiled import compiled
from sphax._numerics import inverse_power, widen
from sphax.sphere._lengths import length


def inverse_stereographic(points: ArrayLike) -> jax.Array:
    r"""Points of the unit sphere above those of the plane (stereographic projection).

    .. math::
        \Pi(q) = \frac{(2 q,\ \|q\|^2 - 1)}{\|q\|^2 + 1}

    The line from the north pole :math:`N = (0, \dots, 0, 1)` to :math:`q` in the plane
    of the equator meets the sphere in :math:`\Pi(q)`: the origin is the south pole,
    unit vectors are the equator, and vectors of great length are close to the north
    pole. Angles between curves are kept, lengths are not.

    Args:
        points: :math:`q`, floating, ``[..., d]``, of any length.

    Returns:
        Unit vectors, ``[..., d + 1]``, dtype of ``points``, computed in float32 at
        least. Values and gradients are finite up to the largest lengths, where both
        vanish but for the last coordinate, which is 1. Close to the north pole that
        coordinate does not resolve the angle to it; :func:`angle_to_north_pole` does.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If ``points`` has no axis, or its last axis is empty.

    Example:
        >>> sx.sphere.inverse_stereographic(jnp.array([[0.0, 0.0], [3.0, 0.0]]))
        Array([[ 0. ,  0. , -1. ],
               [ 0.6,  0. ,  0.8]], dtype=float32)

    References:
        Park, Kwon, `Sphere Generative Adversarial Network Based on Geometric Moment
        Matching <https://doi.org/10.1109/CVPR.2019.00442>`_, CVPR 2019.
    """
    (points,) = as_vectors(points=points)
    return _inverse_stereographic(points)


@compiled()
def _inverse_stereographic(points: jax.Array) -> jax.Array:
    q = widen(points)
    r = length(q)[..., None]
    # Above and below the line are multiplied by the square of this power of two, so
    # that no square overflows.
    one = inverse_power(jnp.maximum(r, 1.0))
    long = r * one
    below = one * one + long * long
    around = 2.0 * one * (q * one) / below
    last = (long - one) * (long + one) / below
    return jnp.concatenate([around, last], axis=-1).astype(points.dtype)


def angle_to_north_pole(points: ArrayLike) -> jax.Array:
    r"""Geodesic distance of :func:`inverse_stereographic` from the north pole.

    .. math::
        d(N, \Pi(q)) = 2 \operatorname{arccot} \|q\|,

    :math:`\pi` at the origin, a right angle for unit vectors, and about
    :math:`2 / \|q\|` for long ones, with all digits. Its gradient is
    :math:`-2 \hat q / (1 + \|q\|^2)`.

    Args:
        points: :math:`q`, floating, ``[..., d]``.

    Returns:
        Angles in radians in [0, pi], ``[...]``, float32 at least. At the origin, where
        it has no direction, the gradient is zero.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If ``points`` has no axis, or its last axis is empty.

    Example:
        >>> sx.sphere.angle_to_north_pole(jnp.array([[0.0, 0.0], [3e4, 4e4]]))
        Array([3.1415927e+00, 4.0000e-05], dtype=float32)

    References:
        Park, Kwon, `Sphere Generative Adversarial Network Based on Geometric Moment
        Matching <https://doi.org/10.1109/CVPR.2019.00442>`_, CVPR 2019.
    """
    (points,) = as_vectors(points=points)
    return _angle_to_north_pole(points)


@compiled()
def _angle_to_north_pole(points: jax.Array) -> jax.Array:
    return 2.0 * jnp.arctan2(1.0, length(widen(points)))
