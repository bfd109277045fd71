"""Arc sine of a cosine, with a gradient that is not noise near 1 and -1."""

import math
from functools import partial

import jax
import jax.numpy as jnp

# asin(x) = x + x^3 P(x^2) on [0, 1/2]: S. Moshier, Cephes, single/asinf.c.
_COEFFICIENTS = (4.2163199e-2, 2.4181311e-2, 4.5470026e-2, 7.4953003e-2, 1.66667524e-1)


def arcsin(cosines: jax.Array, noise_floor: float) -> jax.Array:
    r"""Arc sine of clipped cosines, with zero gradient next to 1 and -1.

    The angle by which two vectors fall short of a right angle. The slope
    :math:`1/\sin\theta` grows without bound at the ends, while the change of the cosine
    that it multiplies, formed from a difference of vectors, vanishes as
    :math:`\sin\theta`: close to the ends, their product would be noise.

    Args:
        cosines: Floating, any shape; rounding may have left them outside [-1, 1].
        noise_floor: The gradient is zero where :math:`\sin^2\theta` is below it.

    Returns:
        Angles in ``[-pi / 2, pi / 2]``, shape and dtype of ``cosines``.

    Example:
        >>> sx.sphere.arcsin(jnp.array([0.0, 0.5, 1.0]), 1e-7)
        Array([0.       , 0.5235988, 1.5707964], dtype=float32)
        >>> jax.grad(sx.sphere.arcsin)(1.0, 1e-7)
        Array(0., dtype=float32, weak_type=True)
    """
    return _arcsin(cosines, noise_floor)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _arcsin(cosines: jax.Array, noise_floor: float) -> jax.Array:
    del noise_floor
    x = jnp.clip(cosines, -1.0, 1.0)
    # XLA's own is a scalar atan2 on CPU, which takes as long as the convolution.
    return _fast_arcsin(x) if x.dtype == jnp.float32 else jnp.arcsin(x)


@_arcsin.defjvp
def _arcsin_jvp(noise_floor, primals, tangents):
    (cosines,), (change,) = primals, tangents
    square = (1.0 - cosines) * (1.0 + cosines)
    is_end = square < noise_floor
    slope = jax.lax.rsqrt(jnp.where(is_end, 1.0, square))
    return _arcsin(cosines, noise_floor), jnp.where(is_end, 0.0, slope) * change


def _fast_arcsin(x: jax.Array) -> jax.Array:
    """Arc sine in float32, to two ulps, odd; for all of [-1, 1]."""
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
