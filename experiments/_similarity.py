"""How alike two images are once brightness and contrast do not count.

Images are ``[..., height, width, channels]``, and so are what they are compared with.
"""

import jax
import jax.numpy as jnp
from jax import lax

import sphax as sx


def correlation(images: jax.Array, others: jax.Array) -> jax.Array:
    """Pearson's, over pixels and channels: the cosine between images less their means.

    No affine change of intensity with positive contrast changes it.

    Returns:
        ``[...]``; 0 where an image is constant.
    """
    units = [sx.sphere.normalize(_centered(x)) for x in (images, others)]
    return jnp.sum(units[0] * units[1], axis=-1)


def matched(images: jax.Array, others: jax.Array) -> jax.Array:
    """``images``, each with the mean and the standard deviation of the other."""
    directions = sx.sphere.normalize(_centered(images))
    lengths = jnp.linalg.norm(_centered(others), axis=-1, keepdims=True)
    mean = jnp.mean(others, axis=(-3, -2, -1), keepdims=True)
    return (lengths * directions).reshape(images.shape) + mean


def structural_similarity(
    images: jax.Array, others: jax.Array, *, window: int = 7
) -> jax.Array:
    r"""SSIM of pixels in [0, 1], mean over the windows within the image.

    .. math::
        \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}, \qquad
        C_1 = 0.01^2,\ C_2 = 0.03^2,

    with means and sample covariances over square windows, which are even here; those of
    the paper are Gaussian, and wider than a digit.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural
        Similarity, IEEE TIP 2004, Eq. 13.
    """

    def mean(x: jax.Array) -> jax.Array:
        shape = (*(1,) * (x.ndim - 3), window, window, 1)
        sums = lax.reduce_window(x, 0.0, lax.add, shape, (1,) * x.ndim, "VALID")
        return sums / window**2

    def covariance(x: jax.Array, y: jax.Array) -> jax.Array:
        return (mean(x * y) - mean(x) * mean(y)) * window**2 / (window**2 - 1)

    x, y, c1, c2 = images, others, 0.01**2, 0.03**2
    of_means = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
    variances = covariance(x, x) + covariance(y, y)
    of_patterns = (2 * covariance(x, y) + c2) / (variances + c2)
    return jnp.mean(of_means * of_patterns, axis=(-3, -2, -1))


def _centered(images: jax.Array) -> jax.Array:
    """Flat and less their means, ``[..., pixels]``."""
    flat = images.reshape(*images.shape[:-3], -1)
    return flat - jnp.mean(flat, axis=-1, keepdims=True)
