"""Arc sine of a cosine, with a gradient that is not noise near 1 and -1."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._numerics import sin2_noise_floor

# asin(x) = x + x^3 P(x^2) on [0, 1/2]: S. Moshier, Cephes, single/asinf.c.
_COEFFICIENTS = (4.2163199e-2, 2.4181311e-2, 4.5470026e-2, 7.4953003e-2, 1.66667524e-1)


def arcsin(cosines: ArrayLike, noise_floor: float | None = None) -> jax.Array:
    r"""Arc sine of cosines between vectors, with zero gradient next to -1 and 1.

    For the cosine of an angle :math:`\theta` it is :math:`\pi / 2 - \theta`, with full
    accuracy near a right angle. Its slope :math:`1/\sin\theta` grows without bound
    towards -1 and 1, where the gradient of a cosine with respect to the vectors
    vanishes as :math:`\sin\theta`. Their product is rounding noise close to -1 and 1;
    :func:`angle` resolves small angles.

    Args:
        cosines: Floating, any shape. Values outside [-1, 1] (rounding) are clipped.
        noise_floor: The gradient is zero where :math:`\sin^2\theta` is smaller. By
            default the largest :math:`\sin^2\theta` that may be rounding noise for
            vectors in the dtype of the cosines; pass a larger one for cosines of
            vectors in a narrower dtype, or 0 for an exact argument.

    Returns:
        Angles in ``[-pi / 2, pi / 2]``, shape and dtype of ``cosines``, in radians.

    Raises:
        TypeError: If ``cosines`` is not floating.

    Example:
        >>> sx.sphere.arcsin(jnp.array([0.0, 0.5, 1.0]))
        Array([0.       , 0.5235988, 1.5707964], dtype=float32)
        >>> jax.grad(sx.sphere.arcsin)(1.0)
        Array(0., dtype=float32, weak_type=True)

    References:
        S. Moshier, `Cephes <https://www.netlib.org/cephes/>`_, single/asinf.c, for the
        series in float32.
    """
    cosines = as_floating("cosines", cosines)
    if noise_floor is None:
        noise_floor = sin2_noise_floor(cosines.dtype)
    return _arcsin(cosines, noise_floor)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _arcsin(cosines: jax.Array, noise_floor: float) -> jax.Array:
    del noise_floor
    x = jnp.clip(cosines, -1.0, 1.0)
    # On CPU, XLA computes it by a scalar atan2, which takes as long as a convolution.
    return _fast_arcsin(x) if x.dtype == jnp.float32 else jnp.arcsin(x)


@_arcsin.defjvp
def _arcsin_jvp(noise_floor, primals, tangents):
    (cosines,), (change,) = primals, tangents
    square = (1.0 - cosines) * (1.0 + cosines)
    is_end = square < noise_floor
    slope = jax.lax.rsqrt(jnp.where(is_end, 1.0, square))
    return _arcsin(cosines, noise_floor), jnp.where(is_end, 0.0, slope) * change


def _fast_arcsin(x: jax.Array) -> jax.Array:
    """Arc sine in float32 on [-1, 1], accurate to two ulps; an odd function."""
    size = jnp.abs(x)
    is_large = size > 0.5
    # asin(x) = pi / 2 - 2 asin(sqrt((1 - x) / 2)), where it is steep.
    square = jnp.where(is_large, 0.5 * (1.0 - size), size * size)
    root = jnp.where(is_large, jnp.sqrt(square), size)
    series = jnp.zeros_like(x)
    for coefficient in _COEFFICIENTS:
        series = series * square + coefficient
    small = root + root * square * series
    positive = jnp.where(is_large, math.pi / 2 - 2.0 * small, small)
    return jnp.where(x < 0.0, -positive, positive)
