"""Points at given angles to a mean direction, in random directions around it."""

import jax
import jax.numpy as jnp

from sphax._numerics import dot
from sphax.sphere import direction


def tangent_normal(mean: jax.Array, angle: jax.Array, key: jax.Array) -> jax.Array:
    r"""Random points at given angles to a mean direction.

    The tangent-normal decomposition of a random point that is symmetric about
    :math:`\mu`: :math:`x = \cos\theta\, \mu + \sin\theta\, v`, with :math:`v` uniform
    on the unit vectors that are orthogonal to :math:`\mu`.

    The derivative in :math:`\mu` is the infinitesimal rotation that takes :math:`\mu`
    to :math:`\mu + d\mu`, :math:`dx = (d\mu\, \mu^\top - \mu\, d\mu^\top)\, x`.
    Rotations leave the law of :math:`v` alone, so its expectation is exact; it is
    bounded, whereas the derivative of :math:`v` for fixed random numbers has an
    infinite variance in three dimensions. The derivative in :math:`\theta` is that of
    the formula, which is finite at both poles.

    Args:
        mean: Mean direction :math:`\mu`, unit or zero vectors, ``[..., d]``.
        angle: :math:`\theta` in radians, ``[...]``, which may depend on parameters.
        key: Random key.

    Returns:
        Unit vectors, ``[..., d]``; uniform on the sphere where ``mean`` is zero.
    """
    normal = jax.random.normal(key, mean.shape, mean.dtype)
    # Twice: a draw nearly along the mean keeps rounding errors along it the first time,
    # which would show in the length of the point, mostly in few dimensions.
    for _ in range(2):
        normal = direction(normal - dot(mean, normal)[..., None] * mean)
    is_zero = jnp.all(mean == 0.0, axis=-1)
    angle = jnp.where(is_zero, jnp.pi / 2, angle)
    return _point(mean, angle, jax.lax.stop_gradient(normal))


@jax.custom_jvp
def _point(mean, angle, normal):
    return jnp.cos(angle)[..., None] * mean + jnp.sin(angle)[..., None] * normal


@_point.defjvp
def _point_jvp(primals, tangents):
    (mean, angle, normal), (d_mean, d_angle, _) = primals, tangents
    x = _point(mean, angle, normal)
    turned = dot(mean, x)[..., None] * d_mean - dot(d_mean, x)[..., None] * mean
    slope = jnp.cos(angle)[..., None] * normal - jnp.sin(angle)[..., None] * mean
    return x, turned + slope * d_angle[..., None]
