"""Objectives of the two players of a sphere GAN: moments of geodesic distances."""

import jax
from jax.typing import ArrayLike

from sphax._checks import as_vectors, check_count
from sphax._compiled import compiled
from sphax._masking import weighted_mean
from sphax.sphere import angle_to_north_pole


def sphere_gan_critic(
    real: ArrayLike, fake: ArrayLike, *, moments: int = 3
) -> jax.Array:
    r"""Loss of the critic of a sphere GAN.

    The critic maps a sample to a point q of a plane, and so to a point of the sphere,
    at the angle :math:`\theta(q)` from the north pole, see
    :func:`sphax.sphere.angle_to_north_pole`. It moves real samples away from the pole
    and generated ones, of the generator, towards it:

    .. math::
        L_D = \sum_{r=1}^{R} \Bigl( \operatorname{mean}_j \theta(q^\text{fake}_j)^r
        - \operatorname{mean}_i \theta(q^\text{real}_i)^r \Bigr).

    Angles are in :math:`[0, \pi]`, so the loss is bounded: critic and weights need
    neither clipping nor a penalty of the gradient.

    Args:
        real: Outputs of the critic for real samples, floating, ``[..., d]``.
        fake: Those for generated samples, ``[..., d]``.
        moments: :math:`R`, 1 or more; 3 in the paper.

    Returns:
        The loss, a scalar in float32 at least. The mean of no samples is 0, with zero
        gradient.

    Raises:
        TypeError: If ``real`` or ``fake`` is not floating.
        ValueError: If either has no vectors on its last axis, or ``moments`` is below
            1.

    Example:
        >>> real, fake = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])
        >>> sx.losses.sphere_gan_critic(real, fake, moments=1)
        Array(-2.7468016, dtype=float32)

    References:
        Park, Kwon, `Sphere Generative Adversarial Network Based on Geometric Moment
        Matching <https://doi.org/10.1109/CVPR.2019.00442>`_, CVPR 2019.
    """
    (real,), (fake,) = as_vectors(real=real), as_vectors(fake=fake)
    check_count("moments", moments)
    return _moments(fake, moments=int(moments)) - _moments(real, moments=int(moments))


def sphere_gan_generator(fake: ArrayLike, *, moments: int = 3) -> jax.Array:
    r"""Loss of the generator of a sphere GAN, which moves its samples from the pole.

    The part of :func:`sphere_gan_critic` that depends on the generator, with the other
    sign: :math:`L_G = -\sum_r \operatorname{mean}_j \theta(q^\text{fake}_j)^r`.

    Args:
        fake: Outputs of the critic for generated samples, floating, ``[..., d]``.
        moments: :math:`R`, 1 or more; 3 in the paper.

    Returns:
        The loss, a scalar in float32 at least. The mean of no samples is 0, with zero
        gradient.

    Raises:
        TypeError: If ``fake`` is not floating.
        ValueError: If it has no vectors on its last axis, or ``moments`` is below 1.

    Example:
        >>> sx.losses.sphere_gan_generator(jnp.array([[0.0, 0.0]]), moments=1)
        Array(-3.1415927, dtype=float32)

    References:
        Same as :func:`sphere_gan_critic`.
    """
    (fake,) = as_vectors(fake=fake)
    check_count("moments", moments)
    return -_moments(fake, moments=int(moments))


@compiled("moments")
def _moments(points: jax.Array, *, moments: int) -> jax.Array:
    """Sum over the moments of the mean power of the angle to the pole."""
    angles = angle_to_north_pole(points)
    powers = angles
    for _ in range(moments - 1):  # Horner's scheme
        powers = angles * (1.0 + powers)
    return weighted_mean(powers, None)
