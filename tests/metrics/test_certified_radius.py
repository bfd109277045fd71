"""Certified radii: attained by linear classifiers, and edges."""

import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

radius = sx.metrics.certified_radius


def test_with_prototypes_it_is_the_distance_to_the_boundary():
    """Between a point and each half-space of another class, in NumPy."""
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(6, 3))
    logits = x @ w.T + b
    labels = np.where(np.arange(6) < 4, logits.argmax(1), logits.argmin(1))
    expected = np.zeros(6)
    for i in range(4):
        y = labels[i]
        others = [j for j in range(4) if j != y]
        normals = w[y] - w[others]
        heights = (normals @ x[i] + b[y] - b[others]) / np.linalg.norm(normals, axis=1)
        expected[i] = heights.min()
    arrays = logits.astype(np.float32), labels.astype(np.int32)
    found = radius(*arrays, prototypes=w.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    halved = radius(*arrays, prototypes=w.astype(np.float32), lipschitz=2.0)
    np.testing.assert_allclose(2.0 * halved, found, rtol=1e-6)


def test_without_prototypes_it_is_the_margin_over_root_two():
    logits = jnp.array([[[3.0, 1.0, 2.5], [0.0, 0.0, -1.0]]], jnp.float16)
    found = radius(logits, np.array([[0, 0]]), lipschitz=jnp.asarray(0.5))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [[0.5 / np.sqrt(2) / 0.5, 0.0]], rtol=1e-6)


def test_coincident_prototypes_and_unknown_labels():
    w = np.array([[1.0, 2.0], [1.0, 2.0]], np.float32)
    logits = np.array([[3.0, 1.0], [3.0, 1.0], [2.0, 2.0]], np.float32)
    found = radius(logits, np.array([0, 1, 0]), prototypes=w)
    np.testing.assert_array_equal(found, [np.inf, 0.0, 0.0])
    assert np.all(np.isnan(radius(logits, np.array([2, -1, 5]))))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: radius(np.ones((2, 1)), np.zeros(2, int)), "two classes or more"),
        (lambda: radius(np.ones((2, 3)), np.zeros(3, int)), "labels must have the"),
        (
            lambda: radius(np.ones((2, 3)), np.zeros(2, int), lipschitz=0.0),
            "lipschitz must be positive",
        ),
        (
            lambda: radius(np.ones((2, 3)), np.zeros(2, int), prototypes=np.eye(2)),
            r"prototypes must be \[3, features\]",
        ),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
