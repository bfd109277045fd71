"""Labels of every integer dtype, compared as numbers."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from sphax._checks import are_equal, as_classes
from tests.calls._call import normal

CLASSES = 300
LABELS = [3, 44, 3, 127]
X, W = normal(0, 4, 3), normal(1, CLASSES, 3)

# Functions of labels in [0, CLASSES), and of labels that are only compared.
BY_CLASS = {
    "margins.margin_logits": lambda labels: sx.margins.margin_logits(
        jnp.asarray(X @ W.T / 9), labels, sx.margins.CosFace(), scale=1.0
    ),
    "metrics.angular_visual_hardness": lambda labels: (
        sx.metrics.angular_visual_hardness(X, W, labels)
    ),
    "metrics.angular_fisher_score": lambda labels: sx.metrics.angular_fisher_score(
        X, labels, num_classes=CLASSES
    ),
    "metrics.class_angles": lambda labels: sx.metrics.class_angles(
        X, labels, num_classes=CLASSES
    ).widest[jnp.array([3, 44, 127])],
    "metrics.certified_radius": lambda labels: sx.metrics.certified_radius(
        X @ W.T, labels
    ),
    "losses.margin_softmax": lambda labels: sx.losses.margin_softmax(
        X, W, labels, sx.margins.CosFace()
    ),
    "losses.margin_softmax[blocks]": lambda labels: sx.losses.margin_softmax(
        X, W, labels, sx.margins.CosFace(), block_size=128
    ),
    "losses.sphereface2": lambda labels: sx.losses.sphereface2(X, W, labels, 0.0),
    "losses.hinge": lambda labels: sx.losses.hinge(X, W, labels),
    "losses.p2sgrad": lambda labels: sx.losses.p2sgrad(X, W, labels),
    "losses.center": lambda labels: sx.losses.center(X, W, labels),
    "losses.update_centers": lambda labels: sx.losses.update_centers(W, X, labels),
    "losses.proxy_nca": lambda labels: sx.losses.proxy_nca(X, W, labels),
    "losses.proxy_anchor": lambda labels: sx.losses.proxy_anchor(X, W, labels),
    "losses.adacos_dynamic_scale": lambda labels: sx.losses.adacos_dynamic_scale(
        X, W, labels, 10.0
    ),
    "losses.angles_to_dominant": lambda labels: sx.losses.angles_to_dominant(
        W[:, None], X, labels
    ),
    "energy.class_energy": lambda labels: sx.energy.class_energy(W, labels),
}
BY_ID = {
    "losses.triplet": lambda labels: sx.losses.triplet(X, labels),
    "losses.contrastive": lambda labels: sx.losses.contrastive(X, labels),
    "losses.nt_xent": lambda labels: sx.losses.nt_xent(X, labels),
    "losses.ge2e": lambda labels: sx.losses.ge2e(X, labels),
    "losses.enqueue": lambda labels: (
        sx.losses.enqueue(sx.losses.init_memory(size=4, features=3), X, labels).labels
    ),
}
ALL = BY_CLASS | BY_ID


@pytest.mark.parametrize("name", ALL)
def test_labels_of_other_integer_types(name):
    """Narrower than the classes, without a common type with int32, and narrowed.

    Every dtype costs a compilation here; the two functions by which labels are compared
    are tested below with all of them.
    """
    function = ALL[name]
    expected = np.asarray(function(jnp.array(LABELS, jnp.int32)))
    assert np.all(np.isfinite(expected))
    for dtype in (np.int8, np.uint32, np.int64):
        np.testing.assert_array_equal(function(np.array(LABELS, dtype)), expected)
    np.testing.assert_array_equal(function(LABELS), expected)


@pytest.mark.parametrize("name", ALL)
def test_labels_that_would_be_narrowed_are_refused(name):
    large = [2**32, 1, 2, 3]
    for labels in (np.array(large), large, np.full(4, 2**63, np.uint64)):
        with pytest.raises(ValueError, match=r"labels must fit.*int64.*jax_enable_x64"):
            ALL[name](labels)


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize("label", [-1, CLASSES, 2**31 - 1])
def test_labels_of_no_class_are_nan(name, label):
    value = np.asarray(BY_CLASS[name](np.array([label, *LABELS[1:]])))
    assert np.any(np.isnan(value))


def dtypes_of(widths):
    return [f"{kind}{8 * 2**i}" for kind in ("int", "uint") for i in range(widths)]


def extremes(dtype):
    info = np.iinfo(dtype)
    return [int(value) for value in (info.min, 0, 44, info.max)]


# With 64-bit types, those of 32 bits are compared with 64-bit ones only.
@pytest.mark.parametrize("has_64", [False, True])
def test_integers_are_equal_as_numbers(has_64):
    """As Python compares its integers, which have no type."""
    with jax.enable_x64(has_64):
        for x, y in product(dtypes_of(4 if has_64 else 3), repeat=2):
            if has_64 and "64" not in x + y:
                continue
            left, right = extremes(x), extremes(y)
            found = jax.jit(are_equal)(
                jnp.array(left, x)[:, None], jnp.array(right, y)[None]
            )
            expected = [[a == b for b in right] for a in left]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("classes", [300, 70_000])
def test_classes_of_every_integer_type(classes):
    run = jax.jit(as_classes, static_argnums=1)
    with jax.enable_x64(True):
        for dtype in dtypes_of(4):
            info = np.iinfo(dtype)
            values = [info.min, 0, 99, classes - 1, classes, info.max]
            values = [min(max(v, info.min), info.max) for v in values]
            found, is_class = run(jnp.array(values, dtype), classes)
            expected = [0 <= v < classes for v in values]
            assert found.dtype == jnp.int32
            np.testing.assert_array_equal(is_class, expected)
            np.testing.assert_array_equal(found, np.where(expected, values, 0))


BEYOND = 2**53  # where float64 rounds neighboring integers to one number


def of_two_sets(function):
    """A function of the labels of three queries and three references."""
    return lambda labels, others: function(
        X[:3], labels, references=X[[0, 0, 1]], reference_labels=others
    )


@pytest.mark.parametrize("dtypes", [(np.int64, np.uint64), (np.uint64, np.int64)])
@pytest.mark.parametrize("negative", [0, -1])
def test_host_code_compares_integers_exactly(dtypes, negative):
    """Each result equals the one for small numbers in place of the large ones."""

    def both(numbers):
        labels = [numbers[0], numbers[1], numbers[2]]
        others = [numbers[3], numbers[1], numbers[2]]
        return labels, others

    numbers = [BEYOND, BEYOND + 2, BEYOND + 3, BEYOND + 1]
    large = [np.array(*pair) for pair in zip(both(numbers), dtypes, strict=True)]
    signed = dtypes.index(np.int64)
    large[signed][2] += negative * BEYOND
    small = both([0, 2, 3, 1])
    small[signed][2] += negative * 10
    scores = np.eye(3) + np.arange(9.0).reshape(3, 3) / 20
    functions = {
        "recall_at_k": of_two_sets(lambda *a, **k: sx.metrics.recall_at_k(*a, **k)[:2]),
        "r_precision": of_two_sets(lambda *a, **k: sx.metrics.r_precision(*a, **k)[:2]),
        "pair_scores": of_two_sets(
            lambda *a, **k: np.concatenate(
                [same for _, same in sx.metrics.pair_scores(*a, **k)]
            )
        ),
        "dir_at_far": lambda labels, others: sx.metrics.dir_at_far(
            scores, labels, others, far=1.0
        )[:-1],
        "find_mates": lambda labels, others: sx.metrics.find_mates(
            X[:3], labels, X[[0, 0, 1]], others
        ),
        "pool_templates": lambda labels, others: (
            sx.metrics.pool_templates(X[:3], labels, others).embeddings
        ),
    }
    for name, function in functions.items():
        found, expected = function(*large), function(*small)
        assert str(found) == str(expected), name
