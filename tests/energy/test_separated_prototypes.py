"""Fixed prototypes: closed forms, the best known, bounds, and semantic ranking."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

separated = sx.energy.separated_prototypes
# These problems are small: the compiler takes the time.
QUICK = {"xla_backend_optimization_level": 0}


def largest_cosine(points):
    cosines = np.asarray(points) @ np.asarray(points).T
    return np.max(cosines - 2 * np.eye(len(cosines)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("n", "d", "cosine"),
    [
        *((n, d, -1 / (n - 1)) for n, d in ((2, 2), (3, 2), (5, 4), (4, 9), (100, 99))),
        *((n, 2, math.cos(2 * math.pi / n)) for n in (4, 5, 12)),
        *((n, d, 0.0) for n, d in ((5, 3), (6, 3), (150, 100))),
    ],
)
def test_closed_forms(n, d, cosine):
    found = separated(None, n, d)
    points = np.asarray(found.prototypes)
    assert points.shape == (n, d)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-15)
    assert largest_cosine(points) == pytest.approx(cosine, abs=1e-12)
    for reported in (found.max_cosine, found.bound, *found.max_cosines):
        assert float(reported) == pytest.approx(cosine, abs=1e-12)
    if n <= d + 1:
        expected = (n * np.eye(n) - 1) / (n - 1)
        np.testing.assert_allclose(points @ points.T, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_as_far_apart_as_the_best_known():
    """Tammes' problem: 55.67057 degrees for fourteen points on the sphere."""
    find = jax.jit(lambda key: separated(key, 14, 3), compiler_options=QUICK)
    found = find(jax.random.key(0))
    best = math.cos(math.radians(55.67057))
    cosine = largest_cosine(found.prototypes)
    assert best - 1e-7 < cosine < best + 1e-5
    assert found.max_cosine == pytest.approx(cosine, abs=1e-14)
    assert found.max_cosine == min(found.max_cosines)
    assert found.max_cosines.shape == (8,)
    bound = math.cos(sx.energy.closest_angle_bound(14, 3))
    assert found.bound == pytest.approx(bound, abs=1e-14)
    assert bound < cosine
    lengths = np.linalg.norm(found.prototypes, axis=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-14)


def in_order(points, similarities):
    """Share of the triples whose cosines are in the order of the similarities."""
    cosines, s = np.asarray(points) @ np.asarray(points).T, similarities
    triples = itertools.permutations(range(len(s)), 3)
    return np.mean(
        [(cosines[i, j] > cosines[i, k]) == (s[i, j] > s[i, k]) for i, j, k in triples]
    )


def test_similar_classes_are_closer():
    # Two groups of four, with an order inside and between them.
    x = reference.directions(np.random.default_rng(0).normal(size=(8, 3)))
    x[:4] += 2.0
    similarities = np.float32(reference.directions(x) @ reference.directions(x).T)
    find = jax.jit(
        lambda key, weight: separated(
            key, 8, 4, similarities=similarities, ranking_weight=weight, restarts=2
        ),
        compiler_options=QUICK,
    )
    weights = (0.0, 1.0, 10.0)
    apart, ranked, more = (find(jax.random.key(0), weight) for weight in weights)
    # Without the ranking, a cross-polytope.
    assert apart.max_cosine == pytest.approx(0.0, abs=1e-4)
    assert apart.bound == pytest.approx(0.0, abs=1e-6)
    shares = [in_order(f.prototypes, similarities) for f in (apart, ranked, more)]
    assert shares[0] < 0.6 < 0.75 < shares[1] < 0.9 < shares[2]
    assert apart.max_cosine <= ranked.max_cosine + 1e-4 < more.max_cosine
    assert ranked.prototypes.dtype == jnp.float32


def ranking(points, similarities, weights=None):
    """The definition, triple by triple."""
    units = reference.directions(points)
    cosines, total, count = units @ units.T, 0.0, 0.0
    weights = np.ones(len(units)) if weights is None else weights
    for i, j, k in itertools.permutations(range(len(units)), 3):
        gap = cosines[i, j] - cosines[i, k]
        wanted = similarities[i, j] >= similarities[i, k]
        probability = 1 / (1 + np.exp(-gap))
        weight = weights[i] * weights[j] * weights[k]
        total -= weight * np.log(probability if wanted else 1 - probability)
        count += weight
    return total / count


@pytest.mark.usefixtures("x64")
def test_the_ranking_is_its_definition():
    rng = np.random.default_rng(1)
    x, s = rng.normal(size=(5, 3)), rng.normal(size=(5, 5))
    s[2, 0] = s[2, 4]  # equally similar
    weights = np.array([1.0, 0.5, 2.0, 0.0, 1.0])
    step = jax.jit(
        jax.value_and_grad(
            lambda x, s, w: sx.energy.semantic_ranking(x, s, where=w), (0, 2)
        )
    )
    value, (slope, by_weight) = step(x, s, weights)
    assert float(value) == pytest.approx(ranking(x, s, weights), rel=1e-12)
    numerical = reference.numerical_gradient(lambda x: ranking(x, s, weights), x)
    np.testing.assert_allclose(slope, numerical, atol=1e-8)
    numerical = reference.numerical_gradient(lambda w: ranking(x, s, w), weights)
    # The fourth point is zeroed.
    by_weight, numerical = (np.delete(x, 3) for x in (by_weight, numerical))
    np.testing.assert_allclose(by_weight, numerical, atol=1e-8)
    dirty, unknown = x.copy(), s.copy()
    dirty[3] = np.nan
    unknown[3], unknown[:, 3] = np.nan, np.inf
    np.testing.assert_array_equal(step(dirty, unknown, weights)[0], value)
    np.fill_diagonal(unknown, np.nan)
    np.testing.assert_array_equal(step(dirty, unknown, weights)[0], value)
    assert np.isnan(step(x, unknown, np.ones(5))[0])
    for points in (np.zeros((5, 3)), np.ones((5, 3)), x[[0, 0, 1, 1, 1]]):
        value, slopes = step(points, s, weights)
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)
    value, slopes = step(dirty, s, np.array([1.0, 1.0, 0.0, 0.0, 0.0]))
    assert value == 0.0
    np.testing.assert_array_equal(slopes[0], np.zeros((5, 3)))


def test_sets_and_half_precision_of_the_ranking():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4, 3)), jnp.bfloat16)
    s = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    found = sx.energy.semantic_ranking(x, s)
    assert found.dtype == jnp.float32
    expected = [ranking(np.asarray(each, np.float64), s) for each in x]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(n=1), ValueError, "n must be 2 or more, got 1"),
        (dict(d=1), ValueError, "d must be 2 or more, got 1"),
        (dict(restarts=0), ValueError, "restarts must be 1 or more, got 0"),
        (dict(steps=0), ValueError, "steps must be 1 or more, got 0"),
        (dict(ranking_weight=-1.0), ValueError, "ranking_weight must be 0 or more"),
        (dict(dtype=jnp.int32), TypeError, "dtype must be floating, got .*int32"),
        (dict(n=7), TypeError, r"key must be a random key, .* got None"),
        (
            dict(similarities=np.eye(4, 3, dtype=np.float32)),
            ValueError,
            r"similarities must be \[n, n\] = \(4, 4\), .* got shape \(4, 3\)",
        ),
        (
            dict(similarities=np.eye(4, dtype=np.int32)),
            TypeError,
            "similarities must be floating",
        ),
    ],
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        separated(None, **(dict(n=4, d=3) | options))
