"""Objectives of the sphere GAN: definition, players against each other, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx


def moment_sum(points, moments):
    """In NumPy, by the point on the sphere and its angle to the pole."""
    square = np.sum(points.astype(np.float64) ** 2, axis=-1)
    angle = np.arccos((square - 1) / (square + 1))
    return sum(np.mean(angle**r) for r in range(1, moments + 1))


@pytest.mark.parametrize("moments", [1, 3])
def test_moments_of_angles(moments):
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(size=(n, 4)).astype(np.float32) for n in (5, 7))
    of_real, of_fake = (moment_sum(x, moments) for x in (real, fake))
    found = sx.losses.sphere_gan_critic(real, fake, moments=moments)
    np.testing.assert_allclose(found, of_fake - of_real, rtol=1e-5)
    found = sx.losses.sphere_gan_generator(fake, moments=moments)
    np.testing.assert_allclose(found, -of_fake, rtol=1e-5)


def test_critic_and_generator_pull_generated_samples_apart():
    fake = jnp.array([[0.3, 0.4], [0.0, 0.0], [30.0, 40.0]], jnp.bfloat16)
    by_critic = jax.grad(sx.losses.sphere_gan_critic, 1)(fake[:1], fake)
    by_generator = jax.grad(sx.losses.sphere_gan_generator)(fake)
    assert by_critic.dtype == jnp.bfloat16
    np.testing.assert_array_equal(by_critic, -by_generator)
    # The critic lengthens vectors, which so come closer to the pole.
    assert np.all(np.asarray(by_critic[jnp.array([0, 2])], np.float32) < 0.0)
    np.testing.assert_array_equal(np.asarray(by_critic[1], np.float32), [0.0, 0.0])


def test_errors():
    with pytest.raises(ValueError, match="moments must be 1 or more, got 0"):
        sx.losses.sphere_gan_generator(jnp.ones((2, 3)), moments=0)
    with pytest.raises(TypeError, match="fake must be floating"):
        sx.losses.sphere_gan_critic(jnp.ones((2, 3)), jnp.ones((2, 3), int))
