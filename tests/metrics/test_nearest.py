"""The nearest references, against a stable sort of all cosines."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics

# Unit vectors whose cosines are exact, so that many are tied.
CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=4)), "float32")


def draw(seed, n):
    return CORNERS[np.random.default_rng(seed).integers(16, size=n)]


def sort(x, w, k, is_excluded=None):
    scores = (x @ w.T).astype(np.float64)
    if is_excluded is not None:
        scores = np.where(is_excluded, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, order, 1)
    return scores, np.where(scores == -np.inf, -1, order)


@pytest.mark.parametrize("block_size", [3, 256])
@pytest.mark.parametrize("k", [1, 7, 130])
def test_the_first_of_a_stable_sort(k, block_size):
    x, w = draw(0, 20), draw(1, 130)
    scores, indices = metrics.nearest(x, w, k, block_size=block_size)
    expected, order = sort(x, w, k)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(indices, order)


def test_pairs_that_do_not_exist():
    x, w = draw(2, 20), draw(3, 50)
    is_excluded = np.random.default_rng(4).random((20, 50)) < 0.3
    is_excluded[5] = True
    expected, order = sort(x, w, 40, is_excluded)
    assert np.any(order[:5] == -1)
    for exclude in (np.argwhere(is_excluded), lambda q, r: is_excluded[q, r]):
        scores, indices = metrics.nearest(x, w, 40, exclude=exclude, block_size=3)
        np.testing.assert_array_equal(scores, expected)
        np.testing.assert_array_equal(indices, order)


def test_fewer_references_than_asked_for():
    scores, indices = metrics.nearest(CORNERS[:1], CORNERS[:2], 4)
    np.testing.assert_array_equal(indices, [[0, 1, -1, -1]])
    np.testing.assert_array_equal(scores, [[1, 0.5, -np.inf, -np.inf]])


def test_zero_and_minus_zero_are_tied():
    w = np.array([[0.0, -1.0], [-0.0, 1.0], [0.0, 1.0]], "float32")
    x = np.array([[1.0, 0.0]], "float32")
    np.testing.assert_array_equal(metrics.nearest(x, w, 3)[1], [[0, 1, 2]])
    np.testing.assert_array_equal(metrics.nearest(-x, w, 3)[1], [[0, 1, 2]])


def test_approximate_search_finds_most():
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(2, 300, 8)).astype("float32")
    _, exact = metrics.nearest(x[:20], w, 10)
    scores, found = metrics.nearest(x[:20], w, 10, approximate=0.8)
    shares = [np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]
    assert np.mean(shares) > 0.7
    cosines = x[:20] @ w.T / np.linalg.norm(w, axis=1)
    cosines /= np.linalg.norm(x[:20], axis=1)[:, None]
    expected = np.take_along_axis(cosines, found, 1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_arrays_on_devices(dtype):
    """JAX arrays, on one device and on a mesh, give what NumPy arrays give."""
    x, w = draw(6, 24), 3.0 * draw(7, 48)
    expected = metrics.nearest(x, w, 5)
    on_mesh = jax.P("a")
    mesh = jax.make_mesh((8,), ("a",))
    for place in (
        jnp.asarray,
        lambda a: jax.device_put(a, jax.NamedSharding(mesh, on_mesh)),
    ):
        found = metrics.nearest(place(x.astype(dtype)), place(w.astype(dtype)), 5)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


X = CORNERS[:4]


@pytest.mark.parametrize(
    ("error", "match", "args", "options"),
    [
        (ValueError, "k must be 1 or more", (X, X, 0), {}),
        (ValueError, "references must have the features", (X, X[:, :2], 1), {}),
        (ValueError, r"queries must be \[n, features\]", (X[0], X, 1), {}),
        (TypeError, "references must be floating", (X, X.astype(int), 1), {}),
        (ValueError, r"approximate must lie in", (X, X, 1), {"approximate": 1.5}),
        (ValueError, "got NaN in 4 of 4", (X, np.append(X, [[np.nan] * 4], 0), 1), {}),
        (ValueError, "block_size must be 1", (X, X, 1), {"block_size": 0}),
    ],
)
def test_errors_teach(error, match, args, options):
    with pytest.raises(error, match=match):
        metrics.nearest(*args, **options)
