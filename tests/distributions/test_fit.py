"""Estimation of the von Mises-Fisher distribution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests.distributions.test_von_mises_fisher import GRID, PROMISED, exact

VMF = sx.distributions.VonMisesFisher
fit = sx.distributions.fit
concentration_of = sx.distributions.concentration_of


@functools.partial(jax.jit, static_argnums=1)
def values_and_slopes(lengths, dimension):
    values, slopes = jax.jvp(
        lambda x: concentration_of(x, dimension), (lengths,), (jnp.ones_like(lengths),)
    )
    return values, slopes


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("dimension", [2, 64])
def test_concentrations_of_lengths(dimension, dtype, x64):
    """The inverse of the mean resultant length, and its derivative."""
    k = np.array([0.999e5 if x == 1e5 else x for x in GRID])
    of = [exact(dimension, x) for x in k]
    lengths = jnp.asarray([float(x[2]) for x in of], dtype)
    found, slopes = values_and_slopes(lengths, dimension)
    # What the rounding of the length itself does to the concentration.
    rounding = float(jnp.finfo(dtype).eps) * np.array(
        [
            float(mean / (slope * x))
            for (_, _, mean, slope, *_), x in zip(of, k, strict=True)
        ]
    )
    error = np.abs(np.asarray(found, np.float64) / k - 1)
    assert np.all(error < PROMISED[dtype] + rounding)
    if dtype == jnp.float64:
        inverse = [1 / float(x[3]) for x in of]
        np.testing.assert_allclose(slopes, inverse, rtol=1e-6)


def test_ends_of_the_lengths():
    lengths = jnp.asarray([0.0, 1.0, 1.0 + 1e-6, 1.1, -0.1, math.nan])
    found, slopes = values_and_slopes(lengths, 5)
    np.testing.assert_allclose(found[:3], [0.0, 1e5, 1e5])
    assert np.all(np.isnan(found[3:]))
    np.testing.assert_allclose(slopes[:3], [5.0, 0.0, 0.0], rtol=1e-6)
    least = concentration_of(lengths[:2], 5, max_concentration=10.0)
    np.testing.assert_allclose(least, [0.0, 10.0])


def estimate(x, weights):
    """Mean direction and length of the mean, in NumPy."""
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    mean = weights @ unit / weights.sum()
    return mean / np.linalg.norm(mean), np.linalg.norm(mean)


@pytest.mark.parametrize("k", [0.5, 30.0, 3e4])
def test_fitted_distributions(k):
    """Against NumPy, with digits of 1 - R in float32; and near the truth."""
    rng = np.random.default_rng(0)
    n, d = 512, 4
    x = np.asarray(VMF(jnp.eye(d)[2], k).sample(jax.random.key(1), (n,)))
    weights = rng.uniform(0.5, 1.5, n).astype(np.float32)
    scaled = 3.0 * x
    found = fit(scaled, weights=weights)
    mean, length = estimate(x.astype(np.float64), weights.astype(np.float64))
    np.testing.assert_allclose(found.mean_direction, mean, atol=1e-6)
    with jax.enable_x64(True):
        expected = float(concentration_of(jnp.asarray(length), d))
    np.testing.assert_allclose(found.concentration, expected, rtol=2e-5)
    # The standard error of the concentration is 1 / sqrt(n A').
    error = 1 / math.sqrt(n * float(exact(d, k)[3]))
    assert abs(expected - k) < 4 * 1.1 * error


def test_masked_rows_reach_nothing():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    expected = fit(x[:4], weights=np.array([1, 2, 1, 1], np.float32))
    doubled = fit(x[[0, 1, 1, 2, 3]])
    broken = np.concatenate([x[:4], np.full((1, 3), np.nan, np.float32), 0 * x[:1]])
    where = np.array([True, True, True, True, False, True])

    def total(x):
        found = fit(x, weights=jnp.float32([1, 2, 1, 1, 9, 9]), where=where)
        return jnp.sum(found.mean_direction) + found.concentration, found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(broken)
    for other in (expected, doubled):
        np.testing.assert_allclose(
            found.mean_direction, other.mean_direction, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(found.concentration, other.concentration, rtol=1e-5)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[4:], 0.0)


def test_points_that_determine_no_distribution():
    """Opposite points, equal ones, a single one, none: finite, with gradients."""
    e = jnp.eye(3)[0]
    sets = jnp.stack([jnp.stack([e, -e]), jnp.stack([e, e]), jnp.stack([e, 0 * e])])

    def total(x, correct_bias):
        found = fit(x, correct_bias=correct_bias)
        return jnp.sum(found.concentration + jnp.sum(found.mean_direction, -1)), found

    grad = jax.jit(jax.grad(total, has_aux=True), static_argnums=1)
    for correct_bias in (False, True):
        gradient, found = grad(sets, correct_bias)
        np.testing.assert_array_equal(found.concentration, [0.0, 1e5, 1e5])
        np.testing.assert_array_equal(found.mean_direction[0], 0.0)
        np.testing.assert_array_equal(found.mean_direction[1], e)
        assert np.all(np.isfinite(gradient))
    nothing = fit(jnp.zeros((0, 3)))
    assert nothing.concentration == 0.0
    np.testing.assert_array_equal(nothing.mean_direction, 0.0)


def test_bias_of_few_points():
    """Of uniform points, on average over many sets."""
    d, n, sets = 16, 20, 500
    x = sx.sphere.sample_uniform(jax.random.key(0), (sets, n, d))
    lengths = {
        corrected: np.asarray(fit(x, correct_bias=corrected).mean_resultant_length())
        for corrected in (False, True)
    }
    # The square of the length is 1 / n on average; that of the corrected one is
    # unbiased but for its clipping at 0.
    squares = {key: np.mean(value**2) for key, value in lengths.items()}
    assert abs(squares[False] - 1 / n) < 4 * np.std(lengths[False] ** 2) / sets**0.5
    assert squares[True] < 0.2 / n
    np.testing.assert_allclose(
        lengths[True] ** 2,
        np.maximum(0.0, (n * lengths[False] ** 2 - 1) / (n - 1)),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit(jnp.ones(3)), ValueError, "points must be"),
        (
            lambda: fit(jnp.ones((2, 3)), weights=jnp.ones(3)),
            ValueError,
            "weights must have the shape of points",
        ),
        (
            lambda: fit(jnp.ones((2, 3)), weights=jnp.array([1.0, -1.0])),
            ValueError,
            "weights must not be negative",
        ),
        (
            lambda: fit(
                jnp.ones((2, 3)),
                family=sx.distributions.SphericalUniform,  # pyright: ignore[reportArgumentType]
            ),
            ValueError,
            "family must be one of",
        ),
        (
            lambda: fit(jnp.ones((2, 3)), max_concentration=0.0),
            ValueError,
            "max_concentration must be positive",
        ),
        (lambda: concentration_of(jnp.ones(3), 1), ValueError, "dimension must be 2"),
        (lambda: concentration_of(1, 3), TypeError, "resultant_length must be float"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
