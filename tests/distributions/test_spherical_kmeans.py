"""Spherical k-means beside its definition in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

N, D, CLUSTERS = 48, 3, 4
RNG = np.random.default_rng(0)
AROUND = np.concatenate([np.eye(3), -np.ones((1, 3))])
X = (AROUND[np.arange(N) % CLUSTERS] + 0.2 * RNG.normal(size=(N, D))).astype(np.float32)
X *= RNG.uniform(0.5, 2.0, (N, 1)).astype(np.float32)
WEIGHTS = RNG.uniform(0.2, 2.0, N).astype(np.float32)
# Three of one cluster, so that the start is far from the end.
START = X[[0, 4, 8, 1]]
kmeans: Any = sx.distributions.spherical_kmeans


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_definition(x, centers, weights, iterations):
    """Labels of the last iteration, its centers and its objective; nothing empty."""
    x, centers, weights = (np.asarray(a, np.float64) for a in (x, centers, weights))
    x, centers, labels = unit(x), unit(centers), None
    for number in range(iterations):
        if number:
            sums = [weights[labels == j] @ x[labels == j] for j in range(len(centers))]
            centers = unit(np.stack(sums))
        cosines = x @ centers.T
        labels = np.argmax(cosines, axis=1)
    return labels, centers, np.average(cosines.max(1), weights=weights)


@pytest.mark.parametrize("block_size", [None, 7])
def test_every_iteration(block_size):
    objectives = []
    for iterations in range(1, 7):
        found = kmeans(
            X,
            CLUSTERS,
            initial=START,
            weights=WEIGHTS,
            iterations=jnp.asarray(iterations),
            tolerance=0.0,
            block_size=block_size,
        )
        labels, centers, objective = by_definition(
            X, START, WEIGHTS, int(found.iterations)
        )
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_allclose(found.centers, centers, atol=1e-6)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-6)
        objectives.append(float(found.objective))
    assert objectives[0] < objectives[1] < objectives[2]
    assert np.all(np.diff(objectives) >= -1e-6)


@pytest.mark.parametrize("initial", ["plus_plus", "random"])
def test_random_starts(initial, key):
    """The end is a fixed point, and the best of the restarts."""
    one, five = (
        kmeans(X, CLUSTERS, key=key, restarts=restarts, initial=initial, block_size=32)
        for restarts in (1, 5)
    )
    labels, centers, objective = by_definition(X, five.centers, np.ones(N), 2)
    np.testing.assert_array_equal(five.labels, labels)
    np.testing.assert_allclose(five.centers, centers, atol=1e-6)
    np.testing.assert_allclose(five.objective, objective, rtol=1e-6)
    assert five.objective >= one.objective - 1e-6
    # The clusters that the points were made with.
    assert len(set(np.asarray(five.labels[:CLUSTERS]))) == CLUSTERS
    np.testing.assert_array_equal(five.labels, np.resize(five.labels[:CLUSTERS], N))


def test_the_first_centers_are_points_that_differ(key):
    """Each of four directions with many copies: k-means++ draws one of every kind."""
    x = np.repeat(unit(AROUND), 5, axis=0)
    for number in range(4):
        found = kmeans(
            x, CLUSTERS, key=jax.random.fold_in(key, number), iterations=jnp.asarray(1)
        )
        np.testing.assert_allclose(found.objective, 1.0, rtol=1e-6)


def test_empty_clusters_move_to_the_farthest_points():
    angles = np.array([0.0, 0.01, 0.02, 2.0, -1.0])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    start = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    first = kmeans(x, 3, initial=start, iterations=1)
    np.testing.assert_array_equal(first.labels, 0)
    found = kmeans(x, 3, initial=start)
    np.testing.assert_array_equal(found.labels, [0, 0, 0, 1, 2])
    np.testing.assert_allclose(found.centers[1:], x[3:], atol=1e-6)


def test_points_left_out_and_points_without_direction(key):
    where = np.arange(N) % 5 > 0
    broken = np.where(where[:, None], X, np.nan)
    broken[1] = 0.0
    found = kmeans(
        broken, CLUSTERS, initial=START, weights=WEIGHTS, where=where, block_size=7
    )
    kept = where & (np.arange(N) != 1)
    labels, centers, objective = by_definition(
        X[kept], START, WEIGHTS[kept], int(found.iterations)
    )
    np.testing.assert_array_equal(found.labels[kept], labels)
    np.testing.assert_array_equal(found.labels[~where], -1)
    assert found.labels[1] == 0
    np.testing.assert_allclose(found.centers, centers, atol=1e-6)
    share = WEIGHTS[kept].sum() / WEIGHTS[where].sum()
    np.testing.assert_allclose(found.objective, share * objective, rtol=1e-6)
    # Neither is drawn, however few points are left.
    few = np.zeros((N, D), np.float32)
    few[:3], few[3] = X[:3], np.nan
    found = kmeans(few, CLUSTERS, key=key, where=np.arange(N) != 3)
    assert all(np.all(np.isfinite(x)) for x in found)
    np.testing.assert_array_equal(found.labels[3], -1)
    nothing = kmeans(X, CLUSTERS, key=key, where=np.zeros(N, bool))
    assert nothing.objective == 0.0
    np.testing.assert_array_equal(nothing.labels, -1)
    assert all(np.all(np.isfinite(x)) for x in nothing)


def test_lengths_do_not_count(key):
    for options in ({"initial": START}, {"key": key, "block_size": 32}):
        expected = kmeans(X, CLUSTERS, **options)
        for factor in (2.0**100, 2.0**-100):
            found = kmeans(factor * X, CLUSTERS, **options)
            jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X, dtype)
        found = kmeans(x, CLUSTERS, initial=x[jnp.array([0, 4, 8, 1])])
        labels, *_ = by_definition(x, x[np.array([0, 4, 8, 1])], np.ones(N), 20)
        assert found.centers.dtype == jnp.promote_types(dtype, jnp.float32)
        assert found.objective.dtype == found.centers.dtype
        assert found.labels.dtype == jnp.int32
        np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": None}, "key must be a random key, such as .* got None"),
        ({"initial": "farthest"}, "initial must be one of .*plus_plus.* 'farthest'"),
        ({"initial": X[:3]}, r"initial must .*\[4, 3\], got shape \(3, 3\)"),
        ({"initial": START, "restarts": 2}, "restarts are random starts.*: leave one"),
        ({"clusters": N + 1}, "clusters must be at most .*48, got 49"),
        ({"clusters": 0}, "clusters must be 1 or more"),
        ({"iterations": 0}, "iterations must be 1 or more"),
        ({"tolerance": -1.0}, "tolerance must be 0 or more"),
        ({"block_size": 0}, "block_size must be 1 or more"),
        ({"weights": -WEIGHTS}, "weights must not be negative"),
        ({"weights": WEIGHTS[1:]}, r"weights must have the shape of points .*\(48,\)"),
        ({"where": WEIGHTS[1:]}, r"where must have the shape of points .*\(48,\)"),
        ({"points": X[0]}, r"points must be \[..., n, d\]"),
        ({"points": X[None]}, r"points must be \[n, d\], got shape \(1, 48, 3\)"),
    ],
)
def test_errors(options, message):
    given = {"points": X, "clusters": CLUSTERS, "key": jax.random.key(0)} | options
    with pytest.raises((TypeError, ValueError), match=message):
        kmeans(given.pop("points"), given.pop("clusters"), **given)
