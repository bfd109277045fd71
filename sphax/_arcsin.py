"""Arc sine of a cosine: the angle by which vectors are short of a right angle."""

import math
from functools import partial

import jax
import jax.numpy as jnp

# asin(x) = x + x^3 P(x^2) on [0, 1/2]: S. Moshier, Cephes, single/asinf.c.
_COEFFICIENTS = (4.2163199e-2, 2.4181311e-2, 4.5470026e-2, 7.4953003e-2, 1.66667524e-1)


def resolution_of(dtype: jax.typing.DTypeLike) -> float:
    """The squared sine from which on the gradient of an angle means something.

    Vectors have ``dtype``; their products, accumulated in float32 at least, put noise
    of an epsilon on the squared sine. The difference of vectors in the gradient has
    noise of their own epsilon, of which the sine must be a multiple.
    """
    of_products = jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps
    return max(float(of_products), (4.0 * float(jnp.finfo(dtype).eps)) ** 2)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def arcsin(cosines: jax.Array, resolution: float) -> jax.Array:
    r"""Arc sine of clipped cosines, with zero gradient next to 1 and -1.

    The slope :math:`1/\sin\theta` grows without bound there, and the change of the
    cosine that it multiplies, formed from a difference of vectors, vanishes as
    :math:`\sin\theta`. Where :math:`\sin^2\theta` is below ``resolution``, the product
    would be noise.
    """
    del resolution
    x = jnp.clip(cosines, -1.0, 1.0)
    # XLA's own is a scalar atan2 on CPU, which takes as long as the convolution.
    return _fast_arcsin(x) if x.dtype == jnp.float32 else jnp.arcsin(x)


@arcsin.defjvp
def _arcsin_jvp(resolution, primals, tangents):
    (cosines,), (change,) = primals, tangents
    square = (1.0 - cosines) * (1.0 + cosines)
    is_end = square < resolution
    slope = jax.lax.rsqrt(jnp.where(is_end, 1.0, square))
    return arcsin(cosines, resolution), jnp.where(is_end, 0.0, slope) * change


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
