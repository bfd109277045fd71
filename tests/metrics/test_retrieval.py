"""Recall@K, R-precision and MAP@R, against lists ranked in Python."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics

PRECISIONS = [metrics.r_precision, metrics.mean_average_precision_at_r]


def draw(seed, n=40, m=None, classes=6):
    """Directions on a coarse circle, so that many cosines are tied to the last bit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    steps = rng.integers(12, size=n)
    # Quarter turns of three base directions: exact in floating point.
    base = np.array([[3.0, 4.0], [4.0, 3.0], [5.0, 0.0]])[steps % 3]
    turn = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]]])
    turn = np.concatenate([turn, -turn[1:2]])[steps // 3]
    return np.einsum("nij,nj->ni", turn, base).astype("float32"), labels


def ranked(x, labels, w=None, others=None):
    """For each query: R, and which of the references in order are mates."""
    is_one_set = w is None or others is None
    if w is None or others is None:
        w, others = x, labels
    for i, (row, label) in enumerate(zip(x, labels, strict=True)):
        cosines = np.round((w @ row) / 25, 6)
        kept = [j for j in range(len(w)) if not (is_one_set and i == j)]
        order = sorted(kept, key=lambda j: (-cosines[j], others[j] == label))
        hits = [others[j] == label for j in order]
        yield sum(hits), hits


def recall(rows, k):
    return np.mean([any(hits[:k]) for mates, hits in rows if mates])


def r_precision(rows):
    return np.mean([sum(hits[:mates]) / mates for mates, hits in rows if mates])


def map_at_r(rows):
    values = []
    for mates, hits in rows:
        if mates:
            found = [np.mean(hits[: i + 1]) for i in range(mates) if hits[i]]
            values.append(sum(found) / mates)
    return np.mean(values)


def at(degrees):
    return np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], 1)


def test_by_hand():
    # Seen from 0 degrees, labels in order: 0 1 0 1 0, R = 3.
    x, w = at([0.0]), at([10.0, 20.0, 30.0, 40.0, 50.0])
    sets: Any = dict(references=w, reference_labels=np.array([0, 1, 0, 1, 0]))
    labels = np.array([0])
    assert metrics.recall_at_k(x, labels, **sets).recall == [1.0]
    np.testing.assert_allclose(metrics.r_precision(x, labels, **sets).precision, 2 / 3)
    found = metrics.mean_average_precision_at_r(x, labels, **sets)
    np.testing.assert_allclose(found.precision, (1 + 2 / 3) / 3)
    # The other class: 0 1 0 1 0 with R = 2: missed at 1, found at 2.
    labels = np.array([1])
    found = metrics.recall_at_k(x, labels, k=(2, 1), **sets)
    np.testing.assert_array_equal(found.recall, [1.0, 0.0])
    np.testing.assert_allclose(metrics.r_precision(x, labels, **sets).precision, 1 / 2)
    found = metrics.mean_average_precision_at_r(x, labels, **sets)
    np.testing.assert_allclose(found.precision, (1 / 2) / 2)


def test_one_mate_found_of_ten_gives_a_tenth():
    """Divided by R, not by the mates found."""
    w = at(np.arange(1.0, 20.0))
    others = np.array([0] + [1] * 9 + [0] * 9)
    found = metrics.mean_average_precision_at_r(
        at([0.0]), [0], references=w, reference_labels=others
    )
    np.testing.assert_allclose(found.precision, 0.1)


@pytest.mark.parametrize("block_size", [1, 7, 256])
@pytest.mark.parametrize("seed", range(3))
def test_one_set_is_its_definition(seed, block_size):
    x, labels = draw(seed)
    labels[0] = 99  # nobody's mate
    rows = list(ranked(x, labels))
    depths = (1, 2, 5, 100)
    found = metrics.recall_at_k(x, labels, k=depths, block_size=block_size)
    np.testing.assert_allclose(found.recall, [recall(rows, k) for k in depths])
    assert found.k == depths
    for function, expected in zip(PRECISIONS, (r_precision, map_at_r), strict=True):
        found = function(x, labels, block_size=block_size)
        np.testing.assert_allclose(found.precision, expected(rows))
        counted = sum(mates > 0 for mates, _ in rows)
        assert (found.queries, found.excluded) == (counted, len(rows) - counted)
        assert "query itself removed" in found.rule


@pytest.mark.parametrize("block_size", [3, 64])
def test_two_sets_are_their_definition(block_size):
    (x, labels), (w, others) = draw(5, 20), draw(6, 30)
    labels[3] = 99
    rows = list(ranked(x, labels, w, others))
    sets: Any = dict(references=w, reference_labels=others, block_size=block_size)
    found = metrics.recall_at_k(x, labels, k=3, **sets)
    np.testing.assert_allclose(found.recall, [recall(rows, 3)])
    assert found.excluded == sum(not mates for mates, _ in rows) >= 1
    for function, expected in zip(PRECISIONS, (r_precision, map_at_r), strict=True):
        found = function(x, labels, **sets)
        np.testing.assert_allclose(found.precision, expected(rows))
        assert "removed" not in found.rule


def test_ties_are_pessimistic():
    x, labels = np.ones((6, 3), "float32"), np.repeat([0, 1], 3)
    # All cosines are equal: the two mates stand behind the three others.
    found = metrics.recall_at_k(x, labels, k=(3, 4))
    np.testing.assert_array_equal(found.recall, [0.0, 1.0])
    assert metrics.mean_average_precision_at_r(x, labels).precision == 0.0


def test_signed_zeros_are_tied():
    """Minus zero and zero are one cosine, though their bits differ."""
    x = np.array([[1.0, 0.0]], "float32")
    w = np.array([[0.0, 1.0], [-0.0, 1.0]], "float32")
    for labels in ([0, 1], [1, 0]):
        found = metrics.recall_at_k(x, [0], references=w, reference_labels=labels)
        assert found.recall == [0.0]


def test_negative_cosines_are_in_order():
    w = at([100.0, 140.0, 179.0])
    sets: Any = dict(references=w, reference_labels=[1, 0, 1])
    found = metrics.recall_at_k(at([0.0]), [0], k=(1, 2, 3), **sets)
    np.testing.assert_array_equal(found.recall, [0.0, 1.0, 1.0])


def test_length_and_dtype_do_not_matter():
    x, labels = draw(8)
    scale = 2.0 ** np.random.default_rng(0).integers(-6, 6, (len(x), 1))
    expected = metrics.r_precision(x, labels).precision
    scaled = (x * scale).astype("float32")
    assert metrics.r_precision(scaled, labels).precision == expected
    # 3, 4 and 5 are exact in bfloat16; the products are accumulated in float32.
    narrow = metrics.r_precision(jnp.asarray(x, jnp.bfloat16), labels).precision
    assert narrow == expected


def test_perfect_and_opposite():
    x = np.repeat(np.eye(3, dtype="float32"), 4, axis=0)
    labels = np.repeat(np.arange(3), 4)
    for function in PRECISIONS:
        assert function(x, labels).precision == 1.0
        assert function(x, np.tile(np.arange(4), 3)).precision == 0.0


X, LABELS = np.eye(3, dtype="float32"), np.zeros(3, int)
WITH_NAN = np.where(np.arange(9).reshape(3, 3) == 4, np.nan, X).astype("float32")


@pytest.mark.parametrize(
    ("error", "match", "args", "options"),
    [
        (ValueError, "none for any of the 3 queries", (X, np.arange(3)), {}),
        (ValueError, "k must be 1 or more", (X, LABELS), {"k": (1, 0)}),
        (ValueError, "k must be 1 or more", (X, LABELS), {"k": 0}),
        (ValueError, "k must have at least one", (X, LABELS), {"k": ()}),
        (ValueError, "cosines of embeddings .* got 5 NaN", (WITH_NAN, LABELS), {}),
        (ValueError, "each of the 3 embeddings", (X, LABELS[:2]), {}),
        (ValueError, "given together", (X, LABELS), {"references": X}),
        (ValueError, "block_size must be", (X, LABELS), {"block_size": -1}),
        (TypeError, "embeddings must be floating", (X.astype(int), LABELS), {}),
    ],
)
def test_errors_teach(error, match, args, options):
    with pytest.raises(error, match=match):
        metrics.recall_at_k(*args, **options)
