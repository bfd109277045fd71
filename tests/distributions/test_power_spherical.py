"""The power spherical distribution beside 60-digit arithmetic and SciPy."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

import sphax as sx
from sphax.distributions import _power_partition

DIMENSIONS = (2, 10, 2048)
CONCENTRATIONS = (1e-3, 0.1, 1.0, 10.0, 300.0, 1e4, 1e5)
# Factors from one concentration to another; 0 stands for the uniform distribution.
FACTORS = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.5), (1.0, 1.0 / 64.0))
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
PowerSpherical = sx.distributions.PowerSpherical
VonMisesFisher = sx.distributions.VonMisesFisher
kl_divergence = sx.distributions.kl_divergence


def axis(d, number=0):
    return np.eye(d)[number]


def of_concentrations(k, d):
    """What is compared with exact numbers, ``[concentrations, ...]`` each."""
    p = PowerSpherical(jnp.asarray(axis(d), k.dtype), k)
    bregman = functools.partial(_power_partition.bregman, dimension=d)
    factors = zip(*FACTORS, strict=True)
    ends = tuple(jnp.outer(k, jnp.asarray(x, k.dtype)) for x in factors)
    one, zero = jnp.ones_like(ends[0]), jnp.zeros_like(ends[0])
    return {
        "entropy": p.entropy(),
        "log normalizer": p.log_normalizer(),
        "mean": p.mean_resultant_length(),
        "divergence": bregman(*ends),
        "slope in the first": jax.jvp(bregman, ends, (one, zero))[1],
        "slope in the second": jax.jvp(bregman, ends, (zero, one))[1],
    }


def exact(k, d):
    """The same for one concentration, by its definition, in 60 digits."""
    log, loggamma, psi = mpmath.log, mpmath.loggamma, mpmath.psi
    k, b = mpmath.mpf(float(k)), mpmath.mpf(d - 1) / 2
    surface = log(2) + mpmath.mpf(d) / 2 * log(mpmath.pi) - loggamma(mpmath.mpf(d) / 2)

    def phi(k):
        value = loggamma(b + k) - loggamma(b) - loggamma(2 * b + k) + loggamma(2 * b)
        return k * log(2) + value

    def slope(k):
        return log(2) + psi(0, b + k) - psi(0, 2 * b + k)

    def curvature(k):
        return psi(1, b + k) - psi(1, 2 * b + k)

    def bregman(k, other):
        return phi(other) - phi(k) - (other - k) * slope(k)

    ends = [[k * mpmath.mpf(factor) for factor in pair] for pair in FACTORS]
    return {
        "entropy": [surface - bregman(k, 0)],
        "log normalizer": [-surface - phi(k)],
        "mean": [k / (k + d - 1)],
        "divergence": [bregman(x, y) for x, y in ends],
        "slope in the first": [(x - y) * curvature(x) for x, y in ends],
        "slope in the second": [slope(y) - slope(x) for x, y in ends],
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_closed_forms(dtype):
    tolerance = TOLERANCE[dtype]
    with jax.enable_x64(dtype == "float64"), mpmath.workdps(60):
        k = jnp.asarray(CONCENTRATIONS, dtype)
        found = jax.jit(lambda k: {d: of_concentrations(k, d) for d in DIMENSIONS})(k)
        for d in DIMENSIONS:
            for i, each in enumerate(k):
                for name, values in exact(each, d).items():
                    got = np.atleast_1d(found[d][name][i])
                    assert got.dtype == dtype
                    for value, number in zip(values, got, strict=True):
                        # These two cross zero.
                        has_zero = name in ("entropy", "log normalizer")
                        scale = max(abs(value), 1) if has_zero else abs(value)
                        error = abs(mpmath.mpf(float(number)) - value) / scale
                        assert error < tolerance, (d, float(each), name, float(error))


@pytest.mark.parametrize(
    ("d", "k", "divergence"),
    [(3, 1.0, 0.1931471806), (64, 100.0, 15.0414209479), (512, 100.0, 6.9543052840)],
)
def test_divergence_from_the_uniform_distribution(d, k, divergence, x64):
    uniform = sx.distributions.SphericalUniform(d)
    found = kl_divergence(PowerSpherical(jnp.asarray(axis(d)), k), uniform)
    np.testing.assert_allclose(found, divergence, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_density(dtype):
    """Near the mean direction, far from it, and next to the opposite of it."""
    angles = np.array([0.0, 1e-3, 0.1, 1.0, 1.5, 1.6, 3.0, 3.14])
    with jax.enable_x64(dtype == "float64"), mpmath.workdps(40):
        points = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        points = jnp.asarray(points, dtype)
        k = jnp.asarray([0.0, 1e-3, 1.0, 100.0, 1e5], dtype)
        mean = jnp.asarray([3.0, 0.0, 0.0], dtype)
        found = PowerSpherical(mean, k).log_prob(points[:, None])
        for i, point in enumerate(np.asarray(points, np.float64)):
            x = [mpmath.mpf(each) for each in point]
            length = mpmath.sqrt(sum(each**2 for each in x))
            for j, each in enumerate(np.asarray(k, np.float64)):
                each = mpmath.mpf(each)
                # The normalizer is elementary in three dimensions.
                expected = mpmath.log((each + 1) / (4 * mpmath.pi))
                expected += each * mpmath.log((1 + x[0] / length) / 2)
                error = abs(float(found[i, j]) - expected) / max(1, abs(expected))
                assert error < TOLERANCE[dtype], (angles[i], float(each))


def test_density_at_singular_points():
    points = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])

    def log_prob(k, points):
        return PowerSpherical(jnp.array([1.0, 0.0]), k).log_prob(points)

    for k in (0.0, 2.0, 1e5):
        values = log_prob(k, points)
        assert values[1] == (-jnp.inf if k else values[0])
        np.testing.assert_array_equal(values[2], values[3])
        assert np.all(np.isfinite(values[np.array([0, 2, 3])]))
        gradients = jax.vmap(jax.grad(log_prob, (0, 1)), (None, 0))(k, points)
        assert all(np.all(np.isfinite(each)) for each in gradients)
        np.testing.assert_array_equal(gradients[1][:3], 0.0)
    uniform = sx.distributions.SphericalUniform(2)
    np.testing.assert_allclose(log_prob(0.0, points), uniform.log_prob(points))
    assert np.all(np.isnan(jax.jit(log_prob)(-1.0, points)))


def test_samples(key):
    """Their cosines have the beta distribution; they are uniform around the mean."""
    n = 2000
    for d in (2, 64):
        mean, k = jnp.asarray(axis(d), jnp.float32), jnp.array([0.1, 5.0, 1e5])
        x = PowerSpherical(mean, k).sample(key, (n,))
        assert x.shape == (n, 3, d)
        np.testing.assert_allclose(jnp.linalg.norm(x, axis=-1), 1.0, atol=3e-7)
        x = np.asarray(x, np.float64)
        across = np.linalg.norm(x[..., 1:], axis=-1)
        cosine = x[..., 0]
        low = np.where(cosine > 0, across**2 / (1 + np.abs(cosine)), 1 - cosine) / 2
        for i, each in enumerate(np.asarray(k, np.float64)):
            law = scipy.stats.beta((d - 1) / 2, (d - 1) / 2 + each)
            assert scipy.stats.kstest(low[:, i], law.cdf).pvalue > 1e-3
        second = x[..., 1] / across
        np.testing.assert_allclose(second.mean(0), 0.0, atol=5.0 / np.sqrt(n * (d - 1)))
        np.testing.assert_allclose((second**2).mean(0), 1 / (d - 1), rtol=0.15)


def test_gradients_of_averages(key):
    """Of the mean of x, in the concentration and in the mean direction."""
    n, d, k = 6000, 3, 4.0
    mean = sx.sphere.normalize(jnp.array([1.0, 2.0, -2.0]))

    def average(k, mean):
        return PowerSpherical(mean, k).sample(key, (n,)).mean(0)

    in_k, in_mean = jax.jacfwd(average, (0, 1))(k, mean)
    np.testing.assert_allclose(in_k, (d - 1) / (k + d - 1) ** 2 * mean, atol=4e-3)
    expected = k / (k + d - 1) * (np.eye(d) - np.outer(mean, mean))
    np.testing.assert_allclose(in_mean, expected, atol=0.04)
    backward = jax.jacrev(average, (0, 1))(k, mean)
    for forward, reverse in zip((in_k, in_mean), backward, strict=True):
        np.testing.assert_allclose(forward, reverse, atol=1e-5)


def test_divergence_in_closed_form(x64):
    """In three dimensions, where normalizers are elementary."""
    k1, k2 = np.array([0.1, 3.0, 200.0])[:, None], np.array([1e-3, 1.0, 30.0, 400.0])
    mean, other = axis(3), np.array([0.6, 0.8, 0.0])
    p, uniform = (
        PowerSpherical(jnp.asarray(mean), jnp.asarray(k1)),
        sx.distributions.SphericalUniform(3),
    )
    q = VonMisesFisher(jnp.asarray(other), jnp.asarray(k2))
    found = kl_divergence(p, q)
    log_mean = k2 + np.log(-np.expm1(-2.0 * k2) / (2.0 * k2))
    # Of (1 + t)^k / (4 pi exp(phi)), with exp(phi) = 2^k / (k + 1).
    phi = k1 * np.log(2.0) - np.log(k1 + 1.0)
    own = k1 * (np.log(2.0) - 1.0 / (k1 + 1.0)) - phi
    expected = own + log_mean - k2 * k1 / (k1 + 2.0) * 0.6
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(kl_divergence(p, uniform), own, rtol=1e-9)
    # E[log(1 + t)] of a uniform t is log 2 - 1.
    reverse = phi - k1 * (np.log(2.0) - 1.0)
    np.testing.assert_allclose(kl_divergence(uniform, p), reverse, rtol=1e-9)


def mean_log(log_density, angle, d):
    """``E[log(1 + <mean', x>)]`` with a mean direction at this angle to the first.

    The mean over directions around the first mean has a closed form for d of 2 and 3.
    """
    c, s = np.cos(angle), np.sin(angle)

    def around(t):
        along, across = 1 + t * c, np.sqrt(max(1 - t * t, 0.0)) * s
        if d == 2:
            return 0.5 * (np.log(along + across) + np.log(along - across))
        return np.log(0.5 * (along + abs(t + c)))

    def density(theta):
        return np.exp(log_density(np.cos(theta))) * np.sin(theta) ** (d - 2)

    opposite = np.pi - angle
    total, of_log = (
        sum(
            scipy.integrate.quad(function, *ends, epsabs=1e-13, epsrel=1e-9, limit=200)[
                0
            ]
            for ends in ((0, opposite), (opposite, np.pi))
        )
        for function in (density, lambda x: density(x) * around(np.cos(x)))
    )
    return of_log / total


def log_partitions(d, k):
    """That of the power spherical distribution, and its derivative."""
    b = (d - 1) / 2
    gammaln, digamma = scipy.special.gammaln, scipy.special.digamma
    value = gammaln(b + k) - gammaln(b) - gammaln(2 * b + k) + gammaln(2 * b)
    slope = np.log(2) + digamma(b + k) - digamma(2 * b + k)
    return k * np.log(2) + value, slope


def by_quadrature(kind, d, k1, k2, angle):
    """Divergence of a distribution from a power spherical one with another mean."""
    if kind is PowerSpherical:
        value, slope = log_partitions(d, k1)
        own = k1 * slope - value
        expected = mean_log(lambda t: k1 * np.log1p(t), angle, d)
    else:
        bessel = [scipy.special.ive(d / 2 - 1 + i, k1) for i in range(2)]
        log_mean = np.log(bessel[0] * (2 / k1) ** (d / 2 - 1)) + k1
        log_mean += scipy.special.gammaln(d / 2)
        own = k1 * bessel[1] / bessel[0] - log_mean
        expected = mean_log(lambda t: k1 * (t - 1), angle, d)
    return own + log_partitions(d, k2)[0] - k2 * expected


@pytest.mark.parametrize("kind", [PowerSpherical, VonMisesFisher])
@pytest.mark.parametrize("d", [2, 3])
def test_divergence_between_different_means(d, kind, x64):
    cases = np.array([[0.5, 1.0, 2.0], [3.0, 1.0, 0.4], [20.0, 40.0, 1.0]])

    def divergence(k1, k2, angle):
        turned = jnp.cos(angle) * axis(d) + jnp.sin(angle) * axis(d, 1)
        return kl_divergence(kind(jnp.asarray(axis(d)), k1), PowerSpherical(turned, k2))

    run = jax.jit(jax.vmap(jax.value_and_grad(divergence, (0, 1, 2))))
    values, gradients = run(*cases.T)
    for i, case in enumerate(cases):
        np.testing.assert_allclose(values[i], by_quadrature(kind, d, *case), rtol=2e-6)
        for j in range(3):
            step = 1e-4 * np.eye(3)[j]
            ends = [by_quadrature(kind, d, *(case + sign * step)) for sign in (1, -1)]
            slope = (ends[0] - ends[1]) / 2e-4
            np.testing.assert_allclose(gradients[j][i], slope, rtol=2e-3)


def test_divergence_of_equal_distributions():
    mean, k = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.0, 1e-3, 5.0, 1e4])
    run = jax.vmap(
        jax.value_and_grad(
            lambda k1, k2, mean1, mean2: kl_divergence(
                PowerSpherical(mean1, k1), PowerSpherical(mean2, k2)
            ),
            argnums=(0, 1, 2, 3),
        ),
        (0, 0, None, None),
    )
    value, gradients = run(k, k, mean, mean)
    np.testing.assert_array_equal(value, 0.0)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_maximum_likelihood(key, x64):
    """In three dimensions, beside a general optimizer."""
    truth = PowerSpherical(jnp.array([1.0, 2.0, -2.0]), jnp.array([1.0, 8.0]))
    x = jnp.swapaxes(truth.sample(key, (200,)), 0, 1)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (2, 200))
    found = sx.distributions.fit(x, family=PowerSpherical, weights=weights)
    for i in range(2):

        def loss(parameters, i=i):
            *mean, log_k = parameters
            k = np.exp(log_k)
            cosine = np.asarray(x[i]) @ mean / np.linalg.norm(mean)
            # The logarithm of the normalizer is elementary.
            logs = k * np.log1p(cosine) + np.log((k + 1) / (4 * np.pi * 2.0**k))
            return -weights[i] @ logs

        start = np.append(truth.mean_direction, 1.0)
        best = scipy.optimize.minimize(loss, start, method="BFGS", tol=1e-9).x
        direction = best[:3] / np.linalg.norm(best[:3])
        np.testing.assert_allclose(found.mean_direction[i], direction, atol=1e-5)
        k = np.asarray(found.concentration)[i]
        np.testing.assert_allclose(k, np.exp(best[3]), rtol=1e-5)


def test_fits_of_few_points():
    fit = functools.partial(sx.distributions.fit, family=PowerSpherical)
    same = jnp.tile(jnp.array([[0.6, 0.8]]), (3, 1))
    np.testing.assert_allclose(fit(same, max_concentration=50.0).concentration, 50.0)
    opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(fit(opposite).concentration, 0.0)
    np.testing.assert_array_equal(fit(opposite[:0]).concentration, 0.0)
    with pytest.raises(ValueError, match="correct_bias corrects .* PowerSpherical"):
        fit(same, correct_bias=True)
