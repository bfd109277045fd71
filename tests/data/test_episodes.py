"""Episodes of few-shot learning: what they have, chance, resuming, errors."""

import itertools

import numpy as np
import pytest

from sphax.data import episodes

# Twelve classes of 1 to 12 rows, in mixed order, with labels that are not 0, 1, 2...
SIZES = np.arange(1, 13)
LABELS = np.random.default_rng(0).permutation(np.repeat(7 * SIZES - 30, SIZES))


def test_an_episode_has_disjoint_rows_of_its_classes():
    found = episodes(LABELS, classes=4, shots=2, queries=3, seed=5)
    assert (found.classes, found.skipped_classes) == (8, 4)
    assert "4 of 8 classes; 2 of support and 3 queries" in repr(found)
    seen = set()
    for number in range(200):
        labels, support, queries = found.episode(number)
        assert (support.shape, queries.shape) == ((4, 2), (4, 3))
        assert len(set(labels)) == 4
        rows = np.concatenate([support, queries], axis=1)
        assert len(np.unique(rows)) == rows.size
        np.testing.assert_array_equal(LABELS[rows], np.repeat(labels[:, None], 5, 1))
        seen |= set(rows.ravel().tolist())
    enough = np.isin(LABELS, 7 * SIZES[SIZES >= 5] - 30)
    assert seen == set(np.flatnonzero(enough).tolist())


def test_classes_and_rows_are_drawn_uniformly():
    labels = np.repeat(np.arange(6), 4)
    drawn = [
        episodes(labels, classes=2, shots=1, queries=2).episode(k) for k in range(3000)
    ]
    for rows, mean in (
        (np.concatenate([x.labels for x in drawn]), 1000.0),
        (np.concatenate([x.support for x in drawn]), 250.0),
        (np.concatenate([x.queries for x in drawn]), 500.0),
    ):
        counts = np.bincount(rows.ravel())
        # Five standard deviations, about those of a Poisson distribution.
        assert np.all(np.abs(counts - mean) < 5 * np.sqrt(mean))


def test_an_episode_is_a_function_of_seed_and_number():
    found, again, other = (
        episodes(LABELS, classes=3, queries=2, seed=seed) for seed in (1, 1, 2)
    )
    for number, episode in enumerate(itertools.islice(found, 3)):
        for x, y in zip(episode, again.episode(number), strict=True):
            np.testing.assert_array_equal(x, y)
        assert np.any(episode.queries != other.episode(number).queries)
        assert np.any(episode.queries != found.episode(number + 1).queries)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(classes=0), ValueError, "classes must be 1 or more, got 0"),
        (dict(shots=0), ValueError, "shots must be 1 or more, got 0"),
        (dict(queries=0), ValueError, "queries must be 1 or more, got 0"),
        (dict(seed=-1), ValueError, "seed must be 0 or more, got -1"),
        (dict(labels=LABELS * 1.0), TypeError, "labels must be integer"),
        (dict(labels=LABELS[None]), ValueError, r"labels must be \[n\]"),
        (
            dict(classes=5, shots=5, queries=4),
            ValueError,
            r"classes must be at most 4, .* shots \+ queries = 9 rows or more, got 5",
        ),
    ],
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        episodes(**(dict(labels=LABELS, classes=2, queries=1) | options))
    with pytest.raises(ValueError, match="number must be 0 or more"):
        episodes(LABELS, queries=1).episode(-1)
