"""Dominant sub-centers, and angles of examples to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.jaxprs import largest_array

CLASSES, CENTERS, FEATURES = 5, 3, 4
RNG = np.random.default_rng(0)
W = RNG.normal(size=(CLASSES, CENTERS, FEATURES))
X = RNG.normal(size=(60, FEATURES))
LABELS = RNG.integers(0, CLASSES - 1, 60)  # the last class has no example


def definition(w, x, labels):
    """Dominant sub-centers, counts and angles, by loops."""
    dominant, counts = np.zeros(len(w), int), np.full(w.shape[:2], -1)
    for label in range(len(w)):
        rows = x[(labels == label) & (np.abs(x).max(1) > 0)]
        if len(rows):
            nearest = np.argmin(reference.angles(rows, w[label]), axis=1)
            counts[label] = np.bincount(nearest, minlength=w.shape[1])
            dominant[label] = np.argmax(counts[label])
    centers = w[labels, dominant[labels]]
    pairs = zip(x, centers, strict=True)
    angles = [reference.angles(a[None], b[None])[0, 0] for a, b in pairs]
    return dominant, counts, np.array(angles)


def test_they_are_nearest_to_most(x64):
    dominant, counts, angles = definition(W, X, LABELS)
    assert len(set(dominant)) == CENTERS
    found = sx.losses.dominant_subcenters(W, X, LABELS, has_aux=True)
    assert found[0].dtype == found[1].dtype == jnp.int32
    np.testing.assert_array_equal(found[0], dominant)
    np.testing.assert_array_equal(found[1], counts)
    np.testing.assert_array_equal(counts[-1], -1)
    given = sx.losses.angles_to_dominant(W, X, LABELS)
    np.testing.assert_allclose(given, angles, rtol=1e-12)
    # A batch of them, by the sub-centers of all.
    step = jax.jit(sx.losses.angles_to_dominant)
    part = step(W, X[:7].reshape(1, 7, -1), LABELS[None, :7], dominant=dominant)
    np.testing.assert_allclose(part, angles[None, :7], rtol=1e-12)
    pull = jax.grad(lambda w, x: jnp.sum(step(w, x, LABELS)), argnums=(0, 1))(W, X)
    expected = reference.numerical_gradient(
        lambda x: definition(W, x, LABELS)[2].sum(), X
    )
    np.testing.assert_allclose(pull[1], expected, rtol=1e-5, atol=1e-7)
    is_dominant = np.arange(CENTERS) == dominant[:, None]
    moved = np.abs(np.asarray(pull[0])).sum(-1) > 0
    np.testing.assert_array_equal(moved[:-1], is_dominant[:-1])
    assert not moved[-1].any()


def test_ties_zeros_and_labels_of_no_class():
    w = np.stack([np.eye(3), np.eye(3)]).astype(np.float32)
    x = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 1]], np.float32)
    labels = np.array([0, 0, 0, 2, -1])
    dominant, counts = sx.losses.dominant_subcenters(w, x, labels, has_aux=True)
    np.testing.assert_array_equal(dominant, [1, 0])
    np.testing.assert_array_equal(counts, [[0, 1, 1], [-1, -1, -1]])
    angles = sx.losses.angles_to_dominant(w, x, labels)
    right = np.pi / 2
    np.testing.assert_allclose(angles, [0, right, right, np.nan, np.nan], rtol=1e-6)
    angles = sx.losses.angles_to_dominant(
        w, x[:2], labels[:2], dominant=np.array([2, 3])
    )
    np.testing.assert_allclose(angles, [right, 0], rtol=1e-6)
    unknown = sx.losses.angles_to_dominant(
        w, x[:2], labels[:2], dominant=np.array([3, 0])
    )
    assert np.isnan(unknown).all()


def test_many_classes_take_no_more_memory():
    w = jax.ShapeDtypeStruct((100_000, 3, 8), jnp.float32)
    x, labels = jax.ShapeDtypeStruct((64, 8), w.dtype), jnp.zeros(64, jnp.int32)
    for function in (sx.losses.dominant_subcenters, sx.losses.angles_to_dominant):
        jaxpr = jax.make_jaxpr(lambda w, x, f=function: f(w, x, labels))(w, x)
        assert largest_array(jaxpr.jaxpr) <= 100_000 * 3 * 8


@pytest.mark.parametrize(
    ("w", "labels", "options", "error", "message"),
    [
        (W[:, 0], LABELS, {}, ValueError, r"must be \[classes, k, features\], with k"),
        (W, LABELS[:3], {}, ValueError, "labels must have the shape of embeddings"),
        (W, LABELS / 2, {}, TypeError, "labels must be integer"),
        (W, LABELS, {"dominant": [0, 1]}, ValueError, "each of the 5 classes, got"),
        (W, LABELS, {"dominant": np.ones(5)}, TypeError, "dominant must be integer"),
    ],
    ids=map(str, range(5)),
)
def test_errors_teach(w, labels, options, error, message):
    with pytest.raises(error, match=message):
        sx.losses.angles_to_dominant(w, X, labels, **options)
