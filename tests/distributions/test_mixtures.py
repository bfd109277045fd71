"""Mixtures and their estimation, beside their definition in NumPy and SciPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

import sphax as sx

N, D, K = 60, 3, 3
RNG = np.random.default_rng(0)
X = np.repeat(np.eye(D), N // K, axis=0) + 0.35 * RNG.normal(size=(N, D))
X *= RNG.uniform(0.5, 2.0, (N, 1))
WEIGHTS = RNG.uniform(0.2, 2.0, N)
SMALL = np.float32
fit_mixture: Any = sx.distributions.fit_mixture


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vmf_log_density(x, mean, k):
    """In three dimensions, where it is elementary, ``[n, K]``."""
    return k * (x @ mean.T) + np.log(k / (4.0 * np.pi * np.sinh(k)))


def power_log_density(x, mean, k):
    return k * np.log1p(x @ mean.T) + np.log((k + 1) / (4.0 * np.pi)) - k * np.log(2.0)


def expect(x, mean, k, log_weights, *, is_hard):
    """Responsibilities and log densities."""
    logs = vmf_log_density(x, mean, k) + log_weights
    if is_hard:
        best = np.argmax(logs, axis=1)
        return np.eye(len(k))[best], np.max(logs, axis=1)
    total = np.asarray(scipy.special.logsumexp(logs, axis=1))
    return np.exp(logs - total[:, None]), total


def maximize(x, weights, share, *, share_concentration):
    mass = weights[:, None] * share
    total, sums = mass.sum(0), mass.T @ x
    lengths = np.linalg.norm(sums, axis=1)
    resultant = lengths / total
    if share_concentration:
        resultant = np.full(len(total), lengths.sum() / total.sum())
    k = [
        scipy.optimize.brentq(lambda k, r=r: 1 / np.tanh(k) - 1 / k - r, 1e-4, 600)
        for r in resultant
    ]
    return sums / lengths[:, None], np.array(k), np.log(total / total.sum())


def parameters_of(mixture):
    vmf = mixture.components
    values = (vmf.mean_direction, vmf.concentration, mixture.log_weights)
    return [np.asarray(x, np.float64) for x in values]


@pytest.mark.parametrize(
    ("assignments", "share_concentration"),
    [("soft", False), ("soft", True), ("hard", False)],
)
def test_every_iteration(assignments, share_concentration, key, x64):
    """From the parameters of the first iteration on, those of NumPy."""
    found = [
        fit_mixture(
            X,
            K,
            key=key,
            assignments=assignments,
            share_concentration=share_concentration,
            iterations=jnp.asarray(iterations),
            tolerance=0.0,
            weights=WEIGHTS,
            block_size=16,
        )
        for iterations in range(1, 6)
    ]
    expected = parameters_of(found[0].mixture)
    x = unit(X)
    for each in found:
        for got, value in zip(parameters_of(each.mixture), expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-8, atol=1e-9)
        share, logs = expect(x, *expected, is_hard=assignments == "hard")
        np.testing.assert_allclose(each.log_likelihood, WEIGHTS @ logs, rtol=1e-9)
        np.testing.assert_array_equal(each.labels, np.argmax(share, axis=1))
        expected = maximize(x, WEIGHTS, share, share_concentration=share_concentration)
    likelihoods = [float(each.log_likelihood) for each in found]
    assert np.all(np.diff(likelihoods) >= -1e-9)
    assert likelihoods[-1] > likelihoods[0]


def test_the_truth_is_found(key):
    """Also a large concentration in float32, from small distances with their digits."""
    true = np.array([2e4, 20.0, 40.0], SMALL), np.array([0.2, 0.3, 0.5], SMALL)
    vmf = sx.distributions.VonMisesFisher(
        jnp.eye(3, 4, dtype=SMALL), jnp.asarray(true[0])
    )
    points = sx.distributions.Mixture(vmf, jnp.log(true[1])).sample(key, (4000,))
    found = fit_mixture(points, 3, key=jax.random.key(1), tolerance=1e-7)
    assert found.converged
    mean, k, log_weights = parameters_of(found.mixture)
    order = np.argmax(mean, axis=1)
    np.testing.assert_array_equal(np.sort(order), np.arange(3))
    np.testing.assert_allclose(mean, np.eye(3, 4)[order], atol=0.02)
    np.testing.assert_allclose(k, true[0][order], rtol=0.1)
    np.testing.assert_allclose(np.exp(log_weights), true[1][order], atol=0.03)
    own = np.asarray(points)[found.labels == np.argmax(k)].astype(np.float64)
    resultant = np.linalg.norm(unit(own).mean(0))
    # (d - 1) / 2 k, for large k in four dimensions.
    np.testing.assert_allclose(np.max(k), 1.5 / (1.0 - resultant), rtol=2e-3)


def test_empty_and_single_components(key):
    """More components than directions: each is on one point or starts again."""
    x = np.repeat(np.eye(3, dtype=SMALL), [6, 5, 1], axis=0)
    found = fit_mixture(x, 5, key=key, max_concentration=1e3, iterations=20)
    mean, k, log_weights = parameters_of(found.mixture)
    assert np.all(np.isfinite(mean))
    assert np.all(np.isfinite(log_weights))
    assert np.all((k >= 0.0) & (k <= 1e3))
    assert len(set(np.asarray(found.labels[np.array([0, 6, 11])]))) == 3
    own = k[np.asarray(found.labels[np.array([0, 6, 11])])]
    np.testing.assert_allclose(own, 1e3)
    # One component on points whose mean is zero is uniform.
    x = np.concatenate([np.eye(3), -np.eye(3)]).astype(SMALL)
    found = fit_mixture(x, 1, key=key)
    np.testing.assert_allclose(found.mixture.components.concentration, 0.0, atol=1e-3)
    surface = np.log(4.0 * np.pi)
    np.testing.assert_allclose(found.log_likelihood, -6.0 * surface, rtol=1e-5)


def test_points_left_out(key):
    where = np.arange(N) % 5 > 0
    broken = np.where(where[:, None], X, np.nan).astype(SMALL)
    found = fit_mixture(broken, K, key=key, where=where, block_size=16)
    np.testing.assert_array_equal(found.labels[~where], -1)
    assert np.all(found.labels[where] >= 0)
    share, logs = expect(unit(X[where]), *parameters_of(found.mixture), is_hard=False)
    np.testing.assert_allclose(found.log_likelihood, logs.sum(), rtol=1e-4)
    np.testing.assert_array_equal(found.labels[where], np.argmax(share, axis=1))
    nothing = fit_mixture(
        X.astype(SMALL), K, key=key, where=np.zeros(N, bool), block_size=16
    )
    np.testing.assert_array_equal(nothing.labels, -1)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(nothing))


FAMILIES = {
    "vmf": (sx.distributions.VonMisesFisher, vmf_log_density),
    "power": (sx.distributions.PowerSpherical, power_log_density),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_of_mixtures(family, x64):
    kind, log_density = FAMILIES[family]
    mean, k = unit(RNG.normal(size=(K, D))), np.array([0.5, 3.0, 40.0])
    log_weights = np.array([0.0, 1.0, -2.0])
    components = kind(3.0 * mean, jnp.asarray(k))
    mixture = sx.distributions.Mixture(components, jnp.asarray(log_weights))
    logs = log_density(unit(X), mean, k) + scipy.special.log_softmax(log_weights)
    np.testing.assert_allclose(
        mixture.log_prob(X), scipy.special.logsumexp(logs, axis=1), rtol=1e-9
    )
    np.testing.assert_allclose(
        mixture.responsibilities(X.reshape(2, -1, D)),
        scipy.special.softmax(logs, axis=1).reshape(2, -1, K),
        rtol=1e-8,
    )
    gradient = jax.grad(
        lambda w: sx.distributions.Mixture(mixture.components, w).log_prob(X).sum()
    )(jnp.asarray(log_weights))
    expected = scipy.special.softmax(logs, axis=1).sum(0) - N * scipy.special.softmax(
        log_weights
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-8)


def test_samples_of_mixtures(key):
    """Each component has its share, and its gradient."""
    n, weights = 6000, jnp.array([0.2, 0.8])

    def average(k):
        components = sx.distributions.PowerSpherical(jnp.eye(2, 3), k)
        return (
            sx.distributions.Mixture(components, jnp.log(weights))
            .sample(key, (n,))
            .mean(0)
        )

    k = jnp.array([5.0, 30.0])
    slope, value = jax.jacfwd(lambda k: 2 * (average(k),), has_aux=True)(k)
    np.testing.assert_allclose(value[:2], weights * k / (k + 2.0), atol=0.025)
    expected = jnp.diag(weights * 2.0 / (k + 2.0) ** 2)
    np.testing.assert_allclose(slope[:2], expected, atol=2e-3)


VMF = sx.distributions.VonMisesFisher(jnp.eye(3, dtype=SMALL), 1.0)


@pytest.mark.parametrize(
    ("components", "log_weights", "message"),
    [
        (X, np.zeros(3), "components must be a sphax.distributions.Rotationally"),
        (VMF, np.zeros(2), r"batch \[K\].* got a batch \(3,\) and log_weights \(2,\)"),
        (VMF, np.zeros(3, int), "log_weights must be floating"),
    ],
)
def test_mixtures_that_are_none(components, log_weights, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sx.distributions.Mixture(components, log_weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": None}, "key must be a random key"),
        ({"assignments": "both"}, "assignments must be one of .* got 'both'"),
        ({"share_concentration": 1}, "share_concentration must be True or False"),
        ({"components": N + 1}, "components must be at most .*60, got 61"),
        ({"iterations": 0}, "iterations must be 1 or more"),
        ({"tolerance": -1.0}, "tolerance must be 0 or more"),
        ({"max_concentration": 0.0}, "max_concentration must be positive"),
        ({"block_size": 0}, "block_size must be 1 or more"),
        ({"weights": -WEIGHTS}, "weights must not be negative"),
        ({"where": WEIGHTS[1:]}, r"where must have the shape of points"),
        ({"points": X[:, :1]}, r"points must be \[n, d\] with d of 2 or more"),
        ({"points": X[None]}, r"points must be \[n, d\]"),
    ],
)
def test_errors(options, message):
    given = {"points": X, "components": K, "key": jax.random.key(0)} | options
    with pytest.raises((TypeError, ValueError), match=message):
        fit_mixture(given.pop("points"), given.pop("components"), **given)
