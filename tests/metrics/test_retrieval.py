"""Measures of retrieval, against lists ranked in Python."""

import itertools
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics

PRECISIONS = [metrics.r_precision, metrics.mean_average_precision_at_r]


# The corners of a cube and points on the axes: unit vectors whose cosines are exact.
CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=4)), "float32")
EXACT = np.concatenate([CORNERS, np.eye(4), -np.eye(4)]).astype("float32")


def draw(seed, n=40, classes=6):
    """Directions of which few differ, so that many cosines are tied, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    return EXACT[rng.integers(len(EXACT), size=n)], labels


def ranked(x, labels, w=None, others=None, exclude=None):
    """For each query: R, and which of the references in order are mates."""
    is_one_set = w is None or others is None
    if w is None or others is None:
        w, others = x, labels
    for i, (row, label) in enumerate(zip(x, labels, strict=True)):
        cosines = w @ row
        kept = [j for j in range(len(w)) if not (is_one_set and i == j)]
        kept = [j for j in kept if exclude is None or not exclude(i, j)]
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


def average_precision(mates, hits):
    return sum(sum(hits[: i + 1]) / (i + 1) for i in np.flatnonzero(hits)) / mates


def trapezoid(mates, hits):
    """As the official code of Market-1501 does it: precision before and after."""
    area, before = 0.0, 1.0
    for i in range(len(hits)):
        after = sum(hits[: i + 1]) / (i + 1)
        area += hits[i] * (before + after) / 2
        before = after
    return area / mates


def reciprocal_rank(mates, hits):
    return 1 / (1 + list(hits).index(True))


def gain(mates, hits, k=None):
    discount = 1 / np.log2(2 + np.arange(len(hits)))
    return np.sum((discount * hits)[:k]) / np.sum(discount[:mates][:k])


# Measures of all ranks, and what they are for one query.
VALUES = {
    "standard": (metrics.mean_average_precision, average_precision),
    "trapezoid": (
        partial(metrics.mean_average_precision, rule="trapezoid"),
        trapezoid,
    ),
    "mrr": (metrics.mean_reciprocal_rank, reciprocal_rank),
    "ndcg": (metrics.ndcg, gain),
    "ndcg at 3": (partial(metrics.ndcg, k=3), partial(gain, k=3)),
}


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


@pytest.mark.parametrize("name", VALUES)
def test_values_by_hand(name):
    """Mates at ranks 1 and 3 of three."""
    found = VALUES[name][0](
        at([0.0]),
        [0],
        references=at([10.0, 20.0, 30.0]),
        reference_labels=np.array([0, 1, 0]),
    )
    expected = {"standard": 5 / 6, "trapezoid": 19 / 24, "mrr": 1.0}.get(name, 0.919721)
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 6])  # more than 8 mates, and fewer
@pytest.mark.parametrize("name", VALUES)
def test_values_are_their_definition(name, classes):
    function, definition = VALUES[name]
    x, labels = draw(3, classes=classes)
    labels[0] = 99  # nobody's mate
    camera = np.arange(40) % 3
    pairs = [(i, j) for i in range(40) for j in range(40) if camera[i] == camera[j]]
    excludes: Any = [
        (None, None),
        (lambda q, r: camera[q] == camera[r], lambda i, j: camera[i] == camera[j]),
        (np.array(pairs + pairs[:1]), lambda i, j: camera[i] == camera[j]),
        # All mates of the second query, which is left out then.
        (lambda q, r: (q == 1) & (labels[r] == labels[1]), lambda i, j: i == 1),
    ]
    for exclude, is_excluded in excludes:
        rows = list(ranked(x, labels, exclude=is_excluded))
        values = [definition(*row) if row[0] else np.nan for row in rows]
        found = function(x, labels, exclude=exclude, block_size=7)
        np.testing.assert_allclose(found.per_query, values, rtol=1e-12)
        np.testing.assert_allclose(found.value, np.nanmean(values))
        assert found.excluded == np.count_nonzero(np.isnan(values))
        assert found.queries + found.excluded == 40
        assert ("excluded pairs" in found.rule) == (exclude is not None)
    of_classes = [np.nanmean(np.array(values)[labels == c]) for c in range(classes)]
    found = function(x, labels, exclude=excludes[-1][0], average="classes")
    np.testing.assert_allclose(found.value, np.mean(of_classes))


def test_exclusion_and_classes_in_the_other_measures():
    x, labels = draw(4, classes=3)
    other = (labels + np.arange(40) // 20) % 2
    rows = list(ranked(x, labels, exclude=lambda i, j: other[i] == other[j]))
    options: Any = dict(exclude=lambda q, r: other[q] == other[r], block_size=9)
    found = metrics.recall_at_k(x, labels, k=(1, 4), **options)
    np.testing.assert_allclose(found.recall, [recall(rows, 1), recall(rows, 4)])
    hits = [[any(row[:k]) if r else np.nan for k in (1, 4)] for r, row in rows]
    np.testing.assert_array_equal(found.per_query, np.array(hits, float))
    by_class = metrics.recall_at_k(x, labels, k=(1, 4), average="classes", **options)
    expected = [np.nanmean(found.per_query[labels == c], axis=0) for c in range(3)]
    np.testing.assert_allclose(by_class.recall, np.mean(expected, axis=0))
    for function, expected in zip(PRECISIONS, (r_precision, map_at_r), strict=True):
        found = function(x, labels, **options)
        np.testing.assert_allclose(found.precision, expected(rows))
        np.testing.assert_allclose(np.nanmean(found.per_query), found.precision)


def test_a_copy_of_a_mate_comes_first():
    """Copies of a vector are tied, in whatever tile they are, on either device path."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(12, 21))
    for each, size in ((1, 3), (12, 2)):  # mates of each query
        w = np.repeat(centers, each, axis=0) + 0.1 * rng.normal(size=(12 * each, 21))
        references = np.concatenate([w, w]).astype("float32")
        labels = np.repeat(np.arange(12), each)
        found = metrics.mean_average_precision(
            centers.astype("float32"),
            np.arange(12),
            references=references,
            reference_labels=np.concatenate([labels, 50 + labels]),
            block_size=size,
        )
        np.testing.assert_array_equal(found.per_query, np.full(12, 0.5))


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
    # A half is exact in bfloat16; the products are accumulated in float32.
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
        (
            ValueError,
            "cosines of embeddings .* got NaN in 3 of 3",
            (WITH_NAN, LABELS),
            {},
        ),
        (ValueError, "each of the 3 embeddings", (X, LABELS[:2]), {}),
        (ValueError, "given together", (X, LABELS), {"references": X}),
        (ValueError, "block_size must be", (X, LABELS), {"block_size": -1}),
        (ValueError, "average must be one of", (X, LABELS), {"average": "class"}),
        (TypeError, "must return booleans", (X, LABELS), {"exclude": lambda q, r: q}),
        (
            ValueError,
            r"must return \[q, r\], here \(3, 32\)",
            (X, LABELS),
            {"exclude": lambda q, r: np.zeros(5, bool)},
        ),
        (ValueError, r"integer \[pairs, 2\]", (X, LABELS), {"exclude": [1, 2]}),
        (
            ValueError,
            r"from \[0 0\] to \[1 3\]",
            (X, LABELS),
            {"exclude": [[0, 0], [1, 3]]},
        ),
        (TypeError, "embeddings must be floating", (X.astype(int), LABELS), {}),
    ],
)
def test_errors_teach(error, match, args, options):
    with pytest.raises(error, match=match):
        metrics.recall_at_k(*args, **options)
