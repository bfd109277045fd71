"""Bounds of the likelihood for latent variables on a sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import sphax as sx

VMF = sx.distributions.VonMisesFisher
MEANS = np.eye(4, dtype=np.float32)[:3]
CONCENTRATIONS = np.array([0.5, 3.0, 20.0], np.float32)
VALUES = np.array([-1.0, -2.5, -0.5], np.float32)


def test_negative_elbo():
    """Against SciPy's entropies, with weights; a masked NaN reaches nothing."""
    posterior = VMF(jnp.asarray(MEANS), jnp.asarray(CONCENTRATIONS))
    surface = 2 * np.pi**2
    entropies = [
        scipy.stats.vonmises_fisher(mean, k).entropy()
        for mean, k in zip(MEANS.astype(float), CONCENTRATIONS.tolist(), strict=True)
    ]
    divergences = np.log(surface) - np.array(entropies)
    found = sx.losses.negative_elbo(VALUES, posterior)
    np.testing.assert_allclose(found, np.mean(divergences - VALUES), rtol=1e-5)
    weights = np.array([1.0, 3.0, 0.0], np.float32)
    broken = np.where(weights > 0, VALUES, np.nan)
    found = sx.losses.negative_elbo(broken, posterior, weight=0.5, where=weights)
    expected = np.average(0.5 * divergences - VALUES, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    equal = sx.losses.negative_elbo(VALUES, posterior, prior=posterior)
    np.testing.assert_allclose(equal, -np.mean(VALUES), rtol=1e-6)


def test_importance_weighted_elbo():
    """Against the definition, and exact where the posterior is that of the model."""
    k, samples = 3.0, 5
    posterior = VMF(jnp.asarray(MEANS), k)
    points = posterior.sample(jax.random.key(0), (samples,))
    values = np.random.default_rng(0).normal(size=(samples, 3)).astype(np.float32)
    found = sx.losses.importance_weighted_elbo(values, posterior, points)
    log_q = np.stack(
        [
            scipy.stats.vonmises_fisher(mean, 3).logpdf(
                np.asarray(points[:, i], float)
                / np.linalg.norm(np.asarray(points[:, i], float), axis=-1)[:, None]
            )
            for i, mean in enumerate(MEANS.astype(float))
        ],
        axis=-1,
    )
    terms = values - np.log(2 * np.pi**2) - log_q
    expected = scipy.special.logsumexp(terms, axis=0) - np.log(samples)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
    # With p(x | z) = exp(k <mean, z>), all weights are p(x).
    cosines = jnp.einsum("kid,id->ki", points, jnp.asarray(MEANS), precision="highest")
    found = sx.losses.importance_weighted_elbo(k * cosines, posterior, points)
    uniform = sx.distributions.SphericalUniform(4)
    exact = sx.distributions.kl_divergence(uniform, posterior)
    np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda vmf: sx.losses.negative_elbo(VALUES[:2], vmf),
            ValueError,
            r"posterior must be a batch .*\(2,\), got \(3,\)",
        ),
        (
            lambda vmf: sx.losses.negative_elbo(VALUES, 3),  # pyright: ignore[reportArgumentType]
            TypeError,
            "posterior must be a sphax.distributions.VonMisesFisher",
        ),
        (
            lambda vmf: sx.losses.importance_weighted_elbo(
                VALUES[None], vmf, jnp.ones((2, 3, 4))
            ),
            ValueError,
            r"points must have .*\(1, 3, 4\), got \(2, 3, 4\)",
        ),
        (
            lambda vmf: sx.losses.importance_weighted_elbo(
                VALUES[None][:0], vmf, jnp.ones((0, 3, 4))
            ),
            ValueError,
            "one sample or more",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(VMF(jnp.asarray(MEANS), jnp.asarray(CONCENTRATIONS)))
