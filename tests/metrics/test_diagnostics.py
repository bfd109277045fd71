"""Angular visual hardness, Fisher score and class angles: pure functions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import sphax as sx
from sphax import metrics
from tests import reference

CLASSES = 4
fisher_score = jax.jit(partial(metrics.angular_fisher_score, num_classes=CLASSES))
fisher_step = jax.jit(jax.value_and_grad(fisher_score))
class_angles = jax.jit(partial(metrics.class_angles, num_classes=CLASSES))
hardness = jax.jit(metrics.angular_visual_hardness, static_argnames="block_size")
DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32]


def draw(seed, n=12, d=3, classes=CLASSES):
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), rng.integers(classes, size=n - classes))
    return rng.normal(size=(n, d)), rng.normal(size=(classes, d)), labels


def expected_hardness(x, w, labels):
    angles = reference.angles(x, w)
    return angles[np.arange(len(x)), labels] / angles.sum(1)


def expected_fisher(x, labels, weights=None):
    weights = np.ones(len(x)) if weights is None else weights
    center, within, between = np.average(x, 0, weights), 0.0, 0.0
    for c in np.unique(labels[weights > 0]):
        members = labels == c
        mean = np.average(x[members], 0, weights[members])
        gap = 1 - np.cos(
            reference.angles(np.stack([*x[members], center]), mean[None])[:, 0]
        )
        within += weights[members] @ gap[:-1]
        between += weights[members].sum() * gap[-1]
    return within / between


def expected_angles(x, labels, weights=None):
    weights = np.ones(len(x)) if weights is None else weights
    present = np.unique(labels)
    pulls = weights[:, None] * reference.directions(x)
    means = np.stack([pulls[labels == c].sum(0) for c in present])
    rows = np.full((4, CLASSES), np.nan)
    for i, c in enumerate(present):
        members = labels == c
        spread = reference.angles(x[members], means[i : i + 1])[:, 0]
        others = reference.angles(means[i : i + 1], np.delete(means, i, 0))
        within = np.average(spread, weights=weights[members])
        rows[:, c] = within, spread.max(), others.mean(), others.min()
    return rows


# The dtypes and the batch axes do not depend on each other.
@pytest.mark.parametrize(
    ("dtype", "batch"),
    [(jnp.float16, ()), (jnp.bfloat16, (3,)), (jnp.float32, (2, 3))],
)
def test_hardness(dtype, batch):
    x, w, labels = draw(0)
    n = int(np.prod(batch))
    x, w, labels = jnp.asarray(x[:n], dtype), jnp.asarray(w, dtype), labels[:n]
    found = hardness(x.reshape(*batch, 3), w, labels.reshape(batch))
    assert found.shape == batch
    assert found.dtype == jnp.float32
    expected = expected_hardness(
        np.asarray(x, np.float64), np.asarray(w, np.float64), labels
    )
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)


def test_hardness_does_not_depend_on_the_blocks():
    x, w, labels = draw(1)
    x, w = x.astype("float32"), w.astype("float32")
    found = hardness(x, w, labels)
    for block_size in (1, 3):  # the default is larger than the number of classes
        blocked = hardness(x, w, labels, block_size=block_size)
        np.testing.assert_allclose(blocked, found, rtol=1e-6)


def test_equal_angles_give_one_over_the_classes():
    """The axis of a simplex is as far from each of its corners."""
    corners = np.eye(5, dtype="float32")
    found = hardness(jnp.ones((2, 5)), corners, jnp.array([0, 3]))
    np.testing.assert_allclose(found, 1 / 5, rtol=1e-6)


def test_small_hardness_keeps_its_digits():
    theta = np.array([1e-6, 1e-4, 1e-2])
    x = jnp.asarray(np.stack([np.cos(theta), np.sin(theta)], 1), jnp.float32)
    found = hardness(x, jnp.eye(2), jnp.zeros(3, int))
    np.testing.assert_allclose(found, theta / (np.pi / 2), rtol=1e-5)


def test_hardness_sums_to_one_over_the_labels():
    x, w, _ = draw(2)
    every = jnp.broadcast_to(jnp.arange(CLASSES), (len(x), CLASSES))
    x = np.repeat(x[:, None], CLASSES, 1)
    np.testing.assert_allclose(hardness(x, w, every).sum(1), 1, rtol=1e-5)


def test_hardness_at_singular_points():
    w = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    x = jnp.array([[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    labels = jnp.array([0, 1, 2])
    loss = jax.jit(
        jax.value_and_grad(lambda x, w: hardness(x, w, labels).sum(), (0, 1))
    )
    # Coincident: 0 of a right angle. Antipodal: pi of 2.5 pi. Zero: a third.
    np.testing.assert_allclose(hardness(x, w, labels), [0, 1 / 2.5, 1 / 3], rtol=1e-6)
    assert all(np.all(np.isfinite(g)) for g in loss(x, w)[1])
    # All angles zero.
    assert hardness(x[0], w[:2], 0) == 0.0


def test_a_label_out_of_range_is_loud():
    x, w, good = (jnp.asarray(a) for a in draw(3))
    step = jax.jit(jax.grad(lambda x, labels: hardness(x, w, labels).sum()))
    for label in (-1, CLASSES):
        labels = good.at[2].set(label)
        is_broken = np.arange(len(x)) == 2
        np.testing.assert_array_equal(np.isnan(hardness(x, w, labels)), is_broken)
        gradient = step(x, labels)
        np.testing.assert_array_equal(np.isnan(gradient).all(1), is_broken)
        score, gradient = fisher_step(x, labels)
        assert np.isnan(score)
        assert np.isnan(gradient).any()
        assert all(np.isnan(leaf).all() for leaf in class_angles(x, labels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fisher_score(dtype):
    x, _, labels = draw(4)
    x = jnp.asarray(x, dtype)
    found = fisher_score(x, labels)
    assert found.dtype == jnp.float32
    expected = expected_fisher(np.asarray(x, np.float64), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_fisher_score_by_hand():
    # Means (1, 1) and (-1, 1), of both (0, 1): 1 - cos 45 degrees for every example,
    # within its class and between class and all.
    x = jnp.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, 2.0]])
    found = fisher_score(x, jnp.array([0, 0, 3, 3]))
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)


def test_tight_classes_keep_their_digits():
    theta = 1e-4
    x = jnp.array([[1.0, theta], [1.0, -theta], [-theta, 1.0], [theta, 1.0]])
    found = fisher_score(x, jnp.array([0, 0, 1, 1]))
    expected = (theta**2 / 2) / (1 - np.cos(np.pi / 4))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_class_angles(dtype):
    x, _, labels = draw(5)
    labels = np.where(labels == 2, 3, labels)  # none of class 2
    x = jnp.asarray(x, dtype)
    found = class_angles(x, labels)
    assert all(leaf.dtype == jnp.float32 for leaf in found)
    np.testing.assert_array_equal(found.count, np.bincount(labels, minlength=CLASSES))
    expected = expected_angles(np.asarray(x, np.float64), labels)
    np.testing.assert_allclose(np.stack(found[1:]), expected, rtol=1e-5)


def test_class_angles_by_hand():
    degrees = np.deg2rad([0.0, 20.0, 90.0, 100.0, 110.0, 190.0])
    x = np.stack([np.cos(degrees), np.sin(degrees)], 1)
    labels = np.array([0, 0, 1, 1, 1, 3])
    found = jax.tree.map(np.rad2deg, class_angles(x, labels)._replace(count=0))
    # Means at 10, 100 and 190 degrees.
    np.testing.assert_allclose(found.within, [10, 20 / 3, np.nan, 0], rtol=1e-5)
    np.testing.assert_allclose(found.widest, [10, 10, np.nan, 0], rtol=1e-5)
    np.testing.assert_allclose(found.between, [135, 90, np.nan, 135], rtol=1e-5)
    np.testing.assert_allclose(found.nearest, [90, 90, np.nan, 90], rtol=1e-5)


def test_one_class_has_no_other():
    x, _, _ = draw(6)
    found = class_angles(x, np.ones(len(x), int))
    assert np.isfinite(found.within[1])
    assert np.isnan(found.between).all()
    assert np.isnan(found.nearest).all()
    same = jnp.ones((5, 3)).at[:, 0].set(jnp.arange(5.0))
    score, gradient = fisher_step(same, jnp.ones(5, int))
    assert score == np.inf
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("kind", ["mask", "weights"])
def test_where(kind):
    x, _, labels = draw(7)
    keep = np.arange(12) % 3 != 1
    weights = np.where(keep, np.linspace(0.5, 2, 12), 0) if kind == "weights" else keep
    spoilt = jnp.asarray(np.where(keep[:, None], x, np.nan), jnp.float32)
    labels = np.where(keep, labels, 77)
    score, gradient = fisher_step(spoilt, labels, where=weights)
    expected = expected_fisher(x[keep], labels[keep], weights[keep].astype(float))
    np.testing.assert_allclose(score, expected, rtol=1e-5)
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient[~keep] == 0)
    found = class_angles(spoilt, labels, where=weights)
    weights = weights[keep].astype(float)
    expected = expected_angles(x[keep], labels[keep], weights)
    np.testing.assert_allclose(np.stack(found[1:]), expected, rtol=1e-5)
    np.testing.assert_allclose(
        found.count, np.bincount(labels[keep], weights, CLASSES), rtol=1e-6
    )


def test_nothing_left_is_zero():
    x, _, labels = draw(8)
    x, nothing = jnp.asarray(x, jnp.float32), jnp.zeros(len(x), bool)
    score, gradient = fisher_step(x, labels, where=nothing)
    assert score == 0
    assert np.all(gradient == 0)
    found = class_angles(x, labels, where=nothing)
    assert np.all(found.count == 0)
    assert all(np.isnan(leaf).all() for leaf in found[1:])


def test_gradients_at_singular_points():
    """Opposite, zero and equal vectors; each in a class of its own or together."""
    x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    labels = jnp.array([0, 0, 1, 2, 3])

    def total(x):
        leaves = class_angles(x, labels)[1:]
        return fisher_score(x, labels) + sum(jnp.nansum(leaf) for leaf in leaves)

    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["hardness", "fisher_score", "class_angles"])
def test_derivatives(name):
    x, w, labels = (jnp.asarray(a) for a in draw(9))
    function, args = {
        "hardness": (lambda x, w: hardness(x, w, labels), (x, w)),
        "fisher_score": (lambda x: fisher_score(x, labels), (x,)),
        "class_angles": (lambda x: class_angles(x, labels)[1:], (x,)),
    }[name]
    check_grads(function, args, order=1, modes=["rev"], rtol=1e-5)


def test_transformations_agree():
    x, w, labels = (jnp.asarray(a) for a in draw(10))
    x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    by_row = jax.jit(jax.vmap(hardness, (0, None, 0)))(x, w, labels)
    np.testing.assert_allclose(hardness(x, w, labels), by_row, rtol=1e-6)
    pairs = x.reshape(2, 6, 3), labels.reshape(2, 6)
    scores = jax.jit(jax.vmap(fisher_score))(*pairs)
    singly = [fisher_score(pairs[0][i], pairs[1][i]) for i in range(2)]
    np.testing.assert_allclose(scores, singly, rtol=1e-5)
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(hardness, x, w, labels)
        jax.eval_shape(fisher_score, x, labels)
        jax.eval_shape(partial(class_angles, where=labels > 0), x, labels)


def test_direction_alone_counts():
    x, w, labels = (jnp.asarray(a) for a in draw(11))
    stretched = x * jnp.arange(1.0, 1.0 + len(x))[:, None]
    np.testing.assert_allclose(
        hardness(stretched, 3 * w, labels), hardness(x, w, labels), rtol=1e-5
    )
    one, other = class_angles(stretched, labels), class_angles(x, labels)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), one, other)
    # The Fisher score is that of the embeddings as they are.
    np.testing.assert_allclose(
        fisher_score(7 * x, labels), fisher_score(x, labels), rtol=1e-5
    )
    unit = sx.sphere.normalize(stretched)
    assert abs(fisher_score(stretched, labels) - fisher_score(unit, labels)) > 1e-3


X, LABELS = jnp.ones((4, 3)), jnp.zeros(4, jnp.int32)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "prototypes must be", partial(hardness, X, X[:, :2], LABELS)),
        (ValueError, "labels must have the shape", partial(hardness, X, X, LABELS[:2])),
        (
            TypeError,
            "prototypes must be floating",
            partial(hardness, X, LABELS, LABELS),
        ),
        (
            ValueError,
            "block_size must be 1 or more",
            partial(hardness, X, X, LABELS, block_size=0),
        ),
        (ValueError, r"must be \[n, features\]", partial(fisher_score, X[0], LABELS)),
        (TypeError, "labels must be integer", partial(class_angles, X, LABELS * 1.0)),
        (TypeError, "where must be", partial(fisher_score, X, LABELS, where=LABELS)),
        (ValueError, "where must have", partial(class_angles, X, LABELS, where=X[0])),
        (
            ValueError,
            "num_classes must be 1 or more",
            partial(metrics.class_angles, X, LABELS, num_classes=0),
        ),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()
