"""The von Mises-Fisher distribution: values, derivatives, singular points, errors."""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads

import sphax as sx

VMF = sx.distributions.VonMisesFisher
UNIFORM = sx.distributions.SphericalUniform
kl_divergence = sx.distributions.kl_divergence

# (d, k): log C, A, divergence from the uniform distribution, to 60 digits elsewhere.
SPOTS = {
    (3, 1): (-2.6924636085, 0.3130352855, 0.1515959239),
    (10, 10): (-7.0909571089, 0.6336683916, 2.4844695868),
    (64, 100): (-8.0407654392, 0.7323801941, 24.4295339449),
    (512, 100): (858.3792654533, 0.1884047640, 9.2516386944),
    (2048, 1000): (4676.8173060001, 0.4073252174, 185.7586607750),
}
QUANTITIES = ("log_partition", "log_normalizer", "mean", "slope", "divergence", "rate")
# The largest relative error that is promised. The one of the slope, where errors are
# largest in float32, is 2e-5.
GRID = [1e-3, 0.1, 1.0, 7.0, 60.0, 1e3, 1e5]
PROMISED = {jnp.float32: 1e-4, jnp.float64: 1e-9}


@functools.cache
def exact(dimension, k):
    """The quantities of the test below, by Bessel functions with 50 digits."""
    with mpmath.workdps(50):
        k, nu = mpmath.mpf(k), mpmath.mpf(dimension) / 2 - 1
        bessel, above = mpmath.besseli(nu, k), mpmath.besseli(nu + 1, k)
        log_partition = mpmath.log(mpmath.gamma(nu + 1) * (2 / k) ** nu * bessel)
        surface = 2 * mpmath.pi ** (nu + 1) / mpmath.gamma(nu + 1)
        mean = above / bessel
        slope = 1 - mean**2 - (dimension - 1) * mean / k
        return (
            log_partition,
            -mpmath.log(surface) - log_partition,
            mean,
            slope,
            k * mean - log_partition,
            k * slope,
        )


@functools.partial(jax.jit, static_argnums=1)
def quantities(k, dimension):
    """Those of the test below, and derivatives of one more order."""
    mean_direction = jnp.zeros(dimension, k.dtype).at[0].set(1)

    def each(k):
        vmf, uniform = VMF(mean_direction, k), UNIFORM(dimension)
        return (
            kl_divergence(uniform, vmf),
            vmf.log_normalizer(),
            vmf.mean_resultant_length(),
            kl_divergence(vmf, uniform),
        )

    ones = jnp.ones_like(k)
    values, slopes = jax.jvp(each, (k,), (ones,))
    log_partition, log_normalizer, mean, divergence = values
    return {
        "log_partition": log_partition,
        "log_normalizer": log_normalizer,
        "mean": mean,
        "slope": slopes[2],
        "divergence": divergence,
        "rate": slopes[3],
        # Derivatives of the first two, which the mean equals.
        "of_partition": slopes[0],
        "of_normalizer": -slopes[1],
        "entropy": VMF(mean_direction, k).entropy(),
    }


def check(dimension, dtype, concentrations):
    k = jnp.asarray(concentrations, dtype)
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), quantities(k, dimension))
    expected = np.array([exact(dimension, float(x)) for x in k], dtype=object)
    for name, column in zip(QUANTITIES, expected.T, strict=True):
        error = np.abs((found[name] - column) / column).astype(np.float64)
        assert np.max(error) < PROMISED[dtype], (name, concentrations[error.argmax()])
    for name in ("of_partition", "of_normalizer"):
        np.testing.assert_allclose(found[name], found["mean"], rtol=1e-6)
    entropy = -expected[:, 1] - expected[:, 0] - expected[:, 4]
    # It passes through zero, so that its error is that of its terms.
    scale = np.abs(entropy) + np.abs(expected[:, 4])
    error = np.abs((found["entropy"] - entropy) / scale).astype(np.float64)
    assert np.max(error) < PROMISED[dtype]


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("dimension", [2, 16, 2048])
def test_values_and_derivatives(dimension, dtype, x64):
    check(dimension, dtype, GRID)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("dimension", [2, 3, 4, 5, 8, 31, 32, 64, 128, 512, 1024, 2048])
def test_values_and_derivatives_on_a_fine_grid(dimension, dtype, x64):
    near_order = dimension / 2 * np.array([0.5, 0.99, 1.0, 1.01, 2.0])
    check(dimension, dtype, np.concatenate([np.geomspace(1e-3, 1e5, 41), near_order]))


@pytest.mark.parametrize("spot", SPOTS)
def test_the_reference_gives_published_values(spot):
    _, log_normalizer, mean, _, divergence, _ = exact(*spot)
    found = [float(x) for x in (log_normalizer, mean, divergence)]
    np.testing.assert_allclose(found, SPOTS[spot], rtol=0, atol=5e-10)


def test_identities_and_bounds(x64):
    """Amos's bounds, and the differential equation of the mean resultant length."""
    k = np.asarray(GRID)
    for d in (2, 16, 2048):
        found = quantities(jnp.asarray(GRID), d)
        mean, slope = (np.asarray(found[name]) for name in ("mean", "slope"))
        low = k / (d / 2 - 0.5 + np.hypot(d / 2 + 0.5, k))
        high = k / (d / 2 - 0.5 + np.hypot(d / 2 - 0.5, k))
        assert np.all(low <= mean * (1 + 1e-15))
        assert np.all(mean <= high * (1 + 1e-15))
        np.testing.assert_allclose(
            slope, 1 - mean**2 - (d - 1) * mean / k, atol=2e-11, rtol=0
        )


@pytest.mark.parametrize("dtype", PROMISED)
def test_second_derivative_of_the_mean(dtype, x64):
    """Forward over forward, and reverse over forward."""
    d, k = 5, jnp.asarray(GRID, dtype)

    def mean(k):
        return VMF(jnp.eye(d, dtype=dtype)[0], k).mean_resultant_length()

    def slope(k):
        return jax.jvp(mean, (k,), (jnp.ones_like(k),))[1]

    @jax.jit
    def both(k):
        total = jax.grad(lambda k: jnp.sum(slope(k)))
        return jax.jvp(slope, (k,), (jnp.ones_like(k),))[1], total(k)

    expected = []
    for x in k.tolist():
        with mpmath.workdps(50):
            _, _, a, s, *_ = exact(d, x)
            expected.append(float(-2 * a * s - (d - 1) * (s / x - a / x**2)))
    # One derivative more than is promised, at the price of a digit.
    for found in both(k):
        np.testing.assert_allclose(found, expected, rtol=max(PROMISED[dtype], 1e-8))


def test_zero_concentration_is_uniform():
    mean = jnp.eye(3)[0]
    vmf, uniform = VMF(mean, 0.0), UNIFORM(3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    np.testing.assert_array_equal(vmf.log_prob(x), uniform.log_prob(x))
    np.testing.assert_allclose(uniform.log_prob(x), -math.log(4 * math.pi), rtol=1e-6)
    assert vmf.entropy() == uniform.entropy() == -uniform.log_normalizer()
    assert kl_divergence(vmf, uniform) == kl_divergence(uniform, vmf) == 0.0
    np.testing.assert_array_equal(vmf.mean(), uniform.mean())

    def all_of(k):
        vmf = VMF(mean, k)
        return (
            kl_divergence(vmf, uniform),
            kl_divergence(uniform, vmf),
            vmf.mean_resultant_length(),
            vmf.log_prob(mean),
            vmf.sample(jax.random.key(0)) @ mean,
        )

    slopes = jax.jit(lambda k: jax.jvp(all_of, (k,), (1.0,)))(0.0)[1]
    np.testing.assert_allclose(slopes[:4], [0, 0, 1 / 3, 1], atol=1e-6)
    assert np.isfinite(slopes[4])


@pytest.mark.parametrize("dimension", [2, 3, 10, 64])
def test_density_and_entropy_are_those_of_scipy(dimension, x64):
    rng = np.random.default_rng(dimension)
    mean = rng.normal(size=dimension)
    mean /= np.linalg.norm(mean)
    x = rng.normal(size=(20, dimension))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    for k in (0.1, 10.0, 1e3):
        theirs = scipy.stats.vonmises_fisher(mean, k)  # pyright: ignore[reportArgumentType]
        # Lengths do not count.
        ours = VMF(jnp.asarray(3.0 * mean), k)
        np.testing.assert_allclose(
            ours.log_prob(jnp.asarray(0.5 * x)), theirs.logpdf(x), rtol=1e-9
        )
        np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-9)


@pytest.mark.parametrize("dimension", [2, 3, 2048])
def test_density_of_concentrated_points_in_float32(dimension):
    """Points so near the mean that their cosines round to 1, or nearly so."""
    k = 1e5
    rng = np.random.default_rng(0)
    mean = rng.normal(size=dimension).astype(np.float32)
    mean /= np.linalg.norm(mean)
    offset = rng.normal(size=(50, dimension)).astype(np.float32)
    x = mean + offset * np.float32(math.sqrt(1 / k))
    found = VMF(jnp.asarray(mean), k).log_prob(jnp.asarray(x))
    u, v = (y.astype(np.float64) for y in (mean, x))
    u /= np.linalg.norm(u)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    gap = 0.5 * np.sum((u - v) ** 2, axis=-1)
    partition, normalizer = (float(y) for y in exact(dimension, k)[:2])
    expected = normalizer + k - k * gap
    # Relative to the terms that remain: k times the gap, and the logarithms.
    scale = k * gap + abs(partition - k) + abs(normalizer + k)
    assert np.max(np.abs(found - expected) / scale) < 3e-6


def test_singular_points_of_the_density():
    """At the mean, its antipode and zero vectors: exact values, finite gradients."""
    k, d = 2.0, 3
    mean = jnp.eye(d)[0]
    x = jnp.stack([mean, -mean, jnp.zeros(d)])

    def log_prob(mean, k, x):
        return jnp.sum(VMF(mean, k).log_prob(x))

    constant = VMF(mean, k).log_normalizer()
    found = VMF(mean, k).log_prob(x) - constant
    np.testing.assert_allclose(found, [k, -k, 0.0], atol=1e-6)
    gradients = jax.grad(log_prob, (0, 1, 2))(mean, k, x)
    np.testing.assert_allclose(gradients[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(gradients[2], 0.0, atol=1e-6)
    nowhere = VMF(jnp.zeros(d), k).log_prob(x) - constant
    np.testing.assert_allclose(nowhere, 0.0, atol=1e-6)
    gradients = jax.grad(log_prob, (0, 1, 2))(jnp.zeros(d), k, x)
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_gradients_of_the_density(x64):
    """Against finite differences of the density itself, in both modes."""
    rng = np.random.default_rng(0)
    mean, x = jnp.asarray(rng.normal(size=(2, 3, 4)))
    k = jnp.asarray([0.5, 20.0, 2.0])
    log_prob = jax.jit(lambda mean, k, x: VMF(mean, k).log_prob(x))
    check_grads(log_prob, (mean, k, x), 1, rtol=1e-6)


def test_batches_broadcast_and_vmap_is_a_loop():
    rng = np.random.default_rng(0)
    means = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    k = jnp.asarray([0.5, 5.0, 500.0])
    x = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    key = jax.random.key(1)
    vmf = VMF(means, k)
    assert (vmf.dimension, vmf.batch_shape) == (4, (3,))
    each = [VMF(mean, float(of)) for mean, of in zip(means, k, strict=True)]
    together = vmf.log_prob(x[:, None])
    apart = jnp.stack([one.log_prob(x) for one in each], axis=-1)
    np.testing.assert_allclose(together, apart, rtol=1e-6)
    mapped = jax.vmap(lambda one: one.log_prob(x), out_axes=1)(vmf)
    np.testing.assert_allclose(mapped, apart, rtol=1e-6)
    for other, shape in (
        (VMF(means[0], k), (3,)),
        (VMF(means, 2.0), (3,)),
        (VMF(means[:, None], k), (3, 3)),
        (VMF(means[0], 2.0), ()),
    ):
        assert other.batch_shape == shape
        assert jax.eval_shape(other.mean).shape == (*shape, 4)
    drawn = jax.eval_shape(lambda: VMF(means[:, None], k).sample(key, (2,)))
    assert drawn.shape == (2, 3, 3, 4)
    keys = jax.random.split(key, 3)
    drawn = jax.vmap(lambda one, key: one.sample(key, (5,)))(vmf, keys)
    loop = [one.sample(key, (5,)) for one, key in zip(each, keys, strict=True)]
    np.testing.assert_allclose(drawn, jnp.stack(loop), rtol=1e-5, atol=1e-6)


def marginal(dimension, k):
    """The distribution function of the cosine to the mean, by numeric integration."""
    angle = np.linspace(0.0, np.pi, 200_001)
    log_density = k * (np.cos(angle) - 1)
    if dimension > 2:
        sine = np.maximum(np.sin(angle), 1e-300)
        log_density += (dimension - 2) * np.log(sine)
    density = np.exp(log_density - log_density.max())
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return lambda t: 1.0 - np.interp(np.arccos(t), angle, mass / mass[-1])


@functools.partial(jax.jit, static_argnums=2)
def sample(mean, k, n):
    return VMF(mean, k).sample(jax.random.key(0), (n,))


@pytest.mark.parametrize(
    ("dimension", "concentrations"),
    [(2, (0.0, 3.0)), (3, (0.5, 300.0)), (5, (2.0,)), (512, (10.0, 1e3))],
)
def test_samples_have_the_distribution(dimension, concentrations):
    mean = np.random.default_rng(0).normal(size=dimension)
    mean = (mean / np.linalg.norm(mean)).astype(np.float32)
    other = np.eye(dimension)[0] - mean[0] * mean.astype(np.float64)
    other /= np.linalg.norm(other)
    # Without the tests' own flag, with which XLA rounds what it computes twice
    # differently.
    options = {"xla_cpu_use_fusion_emitters": True}
    compiled = jax.jit(sample, static_argnums=2, compiler_options=options)
    for k in concentrations:
        x = np.asarray(compiled(mean, k, 4000), np.float64)
        np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1.0, atol=1e-6)
        t = np.clip(x @ mean.astype(np.float64), -1.0, 1.0)
        found = scipy.stats.kstest(t, marginal(dimension, k))
        assert found.pvalue > 1e-3
        # Around the mean, directions are uniform.
        around = x - t[:, None] * mean
        first = around @ other / np.linalg.norm(around, axis=-1)
        if dimension == 2:  # two points
            assert abs(np.mean(first)) < 4 / math.sqrt(len(first))
        else:
            found = scipy.stats.kstest(first, marginal(dimension - 1, 0.0))
            assert found.pvalue > 1e-3


@pytest.mark.parametrize("dimension", [2, 3, 512])
def test_samples_of_extreme_concentrations(dimension):
    """In float32, where the cosine has a granularity of its distance to 1."""
    k, n = 1e5, 4000
    mean = np.eye(dimension, dtype=np.float32)[1]
    gap = 0.5 * np.sum((np.asarray(sample(mean, k, n), np.float64) - mean) ** 2, -1)
    expected, slope = (float(y) for y in exact(dimension, k)[2:4])
    assert abs(gap.mean() - (1 - expected)) < 4 * math.sqrt(slope / n)
    assert abs(gap.std() / math.sqrt(slope) - 1) < 0.1


def test_gradient_of_the_expected_cosine():
    """With its standard error; differentiating accepted proposals gives 0.1277."""
    d, k, n = 5, 2.0, 40_000
    mean, truth = jnp.eye(d)[0], 0.147388686763

    def cosines(k):
        return sample(mean, k, n) @ mean

    _, slopes = jax.jvp(cosines, (k,), (1.0,))
    error = float(np.std(slopes)) / math.sqrt(n)
    assert error < 6e-4
    assert abs(np.mean(slopes) - truth) < 4 * error
    reverse = jax.grad(lambda k: jnp.mean(cosines(k)))(k)
    np.testing.assert_allclose(reverse, np.mean(slopes), rtol=1e-5)
    np.testing.assert_allclose(float(exact(d, k)[3]), truth, rtol=1e-11)


@pytest.mark.parametrize(
    ("dimension", "k"),
    [(2, 0.5), (2, 300.0), (64, 0.5), (64, 300.0)],
)
def test_derivative_of_a_quantile(dimension, k, x64):
    """Each sampled angle moves with the concentration as its quantile does."""
    mean = jnp.eye(dimension)[0]
    moved = jax.jvp(lambda k: sample(mean, k, 6), (k,), (1.0,))
    x, dx = (np.asarray(y) for y in moved)
    angle = np.arctan2(np.linalg.norm(x[:, 1:], axis=-1), x[:, 0])
    # The derivative of a point is along the great circle through the mean.
    slope = -dx[:, 0] / np.sin(angle)
    average = exact(dimension, k)[2]

    def integral(theta):
        """From the angle to the end on its side; both sides have the same, negated."""
        side = 0.0 if mpmath.cos(theta) > average else mpmath.pi
        cut = 15 / mpmath.sqrt(k + dimension)
        end = max(side, theta - cut) if side == 0 else min(side, theta + cut)

        def density(s):
            power = mpmath.power(mpmath.sin(s) / mpmath.sin(theta), dimension - 2)
            rise = mpmath.exp(k * (mpmath.cos(s) - mpmath.cos(theta)))
            return (mpmath.cos(s) - average) * power * rise

        return mpmath.quad(density, [theta + (end - theta) * i / 4 for i in range(5)])

    expected = np.array([integral(theta) for theta in angle.tolist()], float)
    np.testing.assert_allclose(slope, expected, rtol=1e-7)


def test_gradient_in_the_mean_direction():
    """Of a quadratic and a linear function, with standard errors, in float32."""
    d, k, n = 3, 4.0, 20_000
    mean, a = jnp.asarray([0.6, 0.0, 0.8]), jnp.asarray([0.3, -1.0, 0.5])
    direction = jnp.asarray([0.8, 1.0, -0.6])  # tangent

    def values(mean):
        x = sample(mean, k, n) @ a
        return jnp.stack([x, x * x])

    _, slopes = jax.jvp(values, (mean,), (direction,))
    average, slope = (float(y) for y in exact(d, k)[2:4])
    along, cross = average / k, float(a @ mean) * float(a @ direction)
    # The covariance is slope along the mean and A / k across it.
    expected = [
        average * float(a @ direction),
        2 * (slope + average**2 - along) * cross,
    ]
    slopes = np.asarray(slopes)
    errors = np.std(slopes, axis=-1) / math.sqrt(n)
    assert np.all(np.abs(np.mean(slopes, axis=-1) - expected) < 4 * errors)
    assert np.max(errors) < 0.01
    # Points stay on the sphere, and the length of the mean direction does not count.
    x, dx = jax.jvp(
        lambda mean: VMF(mean, k).sample(jax.random.key(0), (50,)), (mean,), (mean,)
    )
    np.testing.assert_allclose(dx, 0.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1.0, atol=1e-6)


def test_samples_about_the_poles():
    """Where a reflection or rotation from a fixed axis would be undefined."""
    gradient = jax.jit(
        jax.grad(lambda mean, k: jnp.sum(sample(mean, k, 100) ** 3), (0, 1))
    )
    for mean in (jnp.eye(3)[0], -jnp.eye(3)[0], jnp.zeros(3)):
        for k in (0.0, 1.0, 1e5):
            assert all(np.all(np.isfinite(g)) for g in gradient(mean, k))
    x = sample(np.zeros(3, np.float32), 1e3, 4000)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1.0, atol=1e-6)
    assert np.max(np.abs(np.mean(x, axis=0))) < 4 / math.sqrt(3 * 4000)


def test_concentrations_that_are_not_valid_give_nan():
    """Negative or NaN ones that are known only when the program runs."""
    mean, uniform = jnp.eye(3)[0], UNIFORM(3)

    @jax.jit
    def all_of(k):
        vmf = VMF(mean, k)
        return (
            vmf.log_prob(mean),
            vmf.entropy(),
            vmf.log_normalizer(),
            vmf.mean_resultant_length(),
            kl_divergence(vmf, uniform),
            kl_divergence(uniform, vmf),
            kl_divergence(vmf, VMF(mean, 1.0)),
            vmf.sample(jax.random.key(0))[0],
        )

    for k in (-1.0, math.nan):
        assert np.all(np.isnan(all_of(k)))
    assert np.all(np.isfinite(all_of(1.0)))


def test_narrow_dtypes_are_widened():
    """Results are those of float32; gradients have the dtype of the parameters."""

    @jax.jit
    def all_of(mean, k):
        vmf = VMF(mean, k)
        return (
            vmf.log_prob(mean),
            vmf.entropy(),
            kl_divergence(vmf, UNIFORM(3)),
        )

    mean, k = jnp.asarray([0.5, 0.25, 1.0], jnp.bfloat16), jnp.bfloat16(3.0)
    found = all_of(mean, k)
    wide = all_of(mean.astype(jnp.float32), k.astype(jnp.float32))
    assert {x.dtype for x in found} == {jnp.dtype(jnp.float32)}
    for x, y in zip(found, wide, strict=True):
        np.testing.assert_array_equal(x, y)
    gradient = jax.grad(lambda k: VMF(mean, k).entropy())(k)
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: VMF(jnp.ones(1), 1.0), ValueError, "two entries or more"),
        (lambda: VMF(jnp.ones(3, int), 1.0), TypeError, "mean_direction must be float"),
        (lambda: VMF(jnp.ones(3), -1.0), ValueError, r"concentration must lie in \[0"),
        (
            lambda: VMF(jnp.ones((2, 3)), jnp.array([1.0, -2.0])),
            ValueError,
            "concentration must not be negative, got -2",
        ),
        (
            lambda: VMF(jnp.ones((2, 3)), jnp.ones(3)),
            ValueError,
            r"concentration must broadcast .*\(2,\), got \(3,\)",
        ),
        (
            lambda: VMF(**{"mu": jnp.ones(3), "concentration": 1.0}),
            TypeError,
            "mu.*it is called mean_direction",
        ),
        (
            lambda: VMF(jnp.ones(3), **{"kappa": 1.0}),
            TypeError,
            "it is called concentration",
        ),
        (
            lambda: VMF(jnp.ones(3), 1.0).log_prob(jnp.ones(4)),
            ValueError,
            r"points must have 3 entries .*\(4,\)",
        ),
        (
            lambda: VMF(jnp.ones((2, 3)), 1.0).log_prob(jnp.ones((5, 3))),
            ValueError,
            r"points without .* broadcast .*\(2,\), got \(5,\); .*\[n, 1, d\]",
        ),
        (
            lambda: VMF(jnp.ones(3), 1.0).sample(0),  # pyright: ignore[reportArgumentType]
            TypeError,
            "key must be a random",
        ),
        (
            lambda: VMF(jnp.ones(3), 1.0).sample(jax.random.key(0), 5),  # pyright: ignore[reportArgumentType]
            TypeError,
            "shape must be a tuple of integers, got 5",
        ),
        (lambda: UNIFORM(1), ValueError, "dimension must be 2 or more, got 1"),
        (
            lambda: UNIFORM(3.0),  # pyright: ignore[reportArgumentType]
            TypeError,
            "dimension must be an integer",
        ),
        (
            lambda: UNIFORM(3).log_prob(jnp.ones(4)),
            ValueError,
            "points must have 3 entries",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_uniform_samples():
    x = UNIFORM(3).sample(jax.random.key(0), (4000,))
    assert x.shape == (4000, 3)
    for column in np.asarray(x, np.float64).T:
        # A coordinate of a uniform point of the sphere is uniform.
        assert scipy.stats.kstest(column, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
