"""Batches of P classes with K rows: what an epoch has, hosts, resuming, counts."""

import itertools
import pickle

import numpy as np
import pytest

from sphax.data import class_balanced_batches, hierarchical_batches

# Fifteen classes of 1 to 15 rows, in mixed order, with labels that are not 0, 1, 2...
SIZES = np.arange(1, 16)
LABELS = np.random.default_rng(0).permutation(np.repeat(7 * SIZES - 30, SIZES))
GROUPS = (LABELS + 30) // 7 // 4  # 3, 4, 4 and 4 classes


def classes_of(indices, examples):
    """The class of each part of a batch, whose rows must all have it."""
    parts = LABELS[indices].reshape(-1, examples)
    assert (parts == parts[:, :1]).all()
    return parts[:, 0]


@pytest.mark.parametrize("epoch", ["classes", "examples"])
@pytest.mark.parametrize("last", ["drop", "keep", "wrap"])
@pytest.mark.parametrize("short", ["repeat", "skip"])
def test_batches_have_classes_and_rows(epoch, last, short):
    batches = class_balanced_batches(
        LABELS, classes=4, examples=3, epoch=epoch, last=last, short=short, seed=5
    )
    assert batches.skipped_classes == 2 * (short == "skip")
    assert batches.skipped_rows == 3 * (short == "skip")
    assert batches.classes == 15 - batches.skipped_classes
    for number in range(4):
        found = batches.epoch(number)
        sizes = [len(indices) for indices in found]
        assert sizes[:-1] == [12] * (len(sizes) - 1)
        assert sizes[-1] == 12 or last == "keep"
        for indices in found:
            chosen = classes_of(indices, 3)
            assert len(set(chosen)) == len(chosen)
            for label, rows in zip(chosen, indices.reshape(-1, 3), strict=True):
                # Without replacement, and all rows if there are no more.
                size = np.count_nonzero(label == LABELS)
                assert len(set(rows)) == min(3, size)
        seen = np.unique(np.concatenate(found))
        kept = np.isin(LABELS, 7 * SIZES[SIZES > 2] - 30) | (short == "repeat")
        assert kept[seen].all()
        classes = np.unique(LABELS[seen])
        assert len(classes) == batches.classes - found.dropped_classes
        if last != "drop":
            assert found.dropped_classes == 0
        if epoch == "examples":
            assert found.dropped_rows == np.count_nonzero(kept) - len(seen)
        else:
            assert found.dropped_rows == 3 * found.dropped_classes
            expected = batches.classes % 4 if last == "drop" else 0
            assert found.dropped_classes == expected


def test_each_class_once_in_an_epoch():
    """With classes that complete the last batch: the first of the next epoch."""
    drawn = {}
    for last in ("drop", "keep", "wrap"):
        batches = class_balanced_batches(LABELS, classes=4, examples=2, last=last)
        drawn[last] = [classes_of(x, 2) for x in batches.epoch(3)]
    dropping = class_balanced_batches(LABELS, classes=4, examples=2)
    assert "each class once, except 3 classes" in repr(dropping)
    next_classes = classes_of(np.concatenate(batches.epoch(4)[:2]), 2)
    assert [len(chosen) for chosen in drawn["keep"]] == [4, 4, 4, 3]
    assert len(set(np.concatenate(drawn["keep"]))) == 15
    for one, other in zip(drawn["drop"], drawn["wrap"], strict=False):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(drawn["wrap"][-1][:3], drawn["keep"][-1])
    others = [label for label in next_classes if label not in drawn["keep"][-1]]
    assert drawn["wrap"][-1][3] == others[0]
    # Such a class has other rows than before, having enough.
    wrapped = batches.epoch(3)
    rows = np.concatenate(wrapped).reshape(-1, 2)
    (twice,) = rows[LABELS[rows[:, 0]] == others[0]].reshape(-1, 4)
    assert len(set(twice)) == 4


def test_each_row_once_in_an_epoch():
    """Sizes that the examples divide lose nothing but what too few classes leave."""
    labels = np.repeat(np.arange(8), 6)
    batches = class_balanced_batches(labels, classes=2, examples=3, epoch="examples")
    for number in range(5):
        found = batches.epoch(number)
        rows, counts = np.unique(np.concatenate(found), return_counts=True)
        assert (counts == 1).all()
        assert len(rows) == 48 - found.dropped_rows
        assert found.dropped_rows in (0, 6)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    ("epoch", "last"),
    [*itertools.product(["classes", "examples"], ["drop", "keep", "wrap"]), ("h", "")],
)
def test_the_arrays_of_all_processes_are_the_whole_batch(count, epoch, last):
    def made(**options):
        options |= {"examples": 2, "seed": 3}
        if epoch == "h":
            return hierarchical_batches(
                LABELS, GROUPS, groups_per_batch=2, classes_per_group=2, **options
            )
        return class_balanced_batches(
            LABELS, classes=4, epoch=epoch, last=last, **options
        )

    whole = made().epoch(1)
    parts = [made(process_index=i, process_count=count).epoch(1) for i in range(count)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *local in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(local), batch)
        if last != "keep":
            assert {len(x) for x in local} == {8 // count}


@pytest.mark.parametrize("epoch", ["classes", "examples"])
def test_batches_resume_anywhere(epoch):
    def made(seed=1):
        return class_balanced_batches(
            LABELS, classes=4, examples=2, epoch=epoch, last="wrap", seed=seed
        )

    batches = made()
    epochs = [batches.epoch(number) for number in range(3)]
    whole = [indices for found in epochs for indices in found]
    assert len(whole) > 10
    for start in (0, 2, len(epochs[0]), len(epochs[0]) + 1):
        stream = pickle.loads(pickle.dumps(made())).from_step(start)
        for expected in whole[start:]:
            found = next(stream)
            np.testing.assert_array_equal(found, expected)
    for expected, found in zip(whole, batches, strict=False):
        np.testing.assert_array_equal(found, expected)
    part = epochs[1][2:]
    assert len(part) == len(epochs[1]) - 2
    np.testing.assert_array_equal(part[0], epochs[1][2])
    np.testing.assert_array_equal(part[1:][-1], epochs[1][-1])
    # Other epochs and other seeds draw others.
    first = np.concatenate(epochs[0][:3])
    assert (first != np.concatenate(epochs[1][:3])).any()
    assert (first != np.concatenate(made(2).epoch(0)[:3])).any()


def test_classes_and_their_rows_come_equally_often():
    """Binomial counts over epochs, within five standard deviations."""
    labels, epochs = np.repeat(np.arange(5), [2, 3, 4, 5, 9]), 400
    batches = class_balanced_batches(labels, classes=2, examples=2)
    drawn = np.stack([np.stack(list(batches.epoch(e))) for e in range(epochs)])
    by_class = np.bincount(labels[drawn[:, :, ::2]].ravel(), minlength=5)
    assert np.abs(by_class - 0.8 * epochs).max() < 5 * np.sqrt(epochs * 0.8 * 0.2)
    for slot in (0, 1):
        counts = np.bincount(drawn[:, :, slot::2].ravel(), minlength=len(labels))
        shares = 0.8 / np.bincount(labels)[labels]
        bound = 5 * np.sqrt(epochs * shares * (1 - shares))
        assert (np.abs(counts - epochs * shares) < bound).all()
    # What is repeated is drawn uniformly from the class.
    few = class_balanced_batches([0, 0, 0], classes=1, examples=4)
    repeated = [few.epoch(e)[0][3] for e in range(epochs)]
    assert (np.bincount(repeated, minlength=3) > epochs / 3 - 50).all()


def test_every_set_of_groups_comes_equally_often():
    batches = hierarchical_batches(
        LABELS,
        GROUPS,
        groups_per_batch=2,
        classes_per_group=4,
        examples=3,
        batches_per_tuple=5,
    )
    # The group of three classes is skipped.
    assert (batches.skipped_classes, batches.skipped_rows) == (3, 6)
    sets = []
    for indices in batches.epoch(2):
        chosen = classes_of(indices, 3)
        assert len(set(chosen)) == 8
        groups = ((chosen + 30) // 7 // 4).reshape(2, 4)
        assert (groups == groups[:, :1]).all()
        sets.append(tuple(groups[:, 0]))
    found = {pair: sets.count(pair) for pair in sets}
    assert found == dict.fromkeys([(1, 2), (1, 3), (2, 3)], 5)
    # A class goes through its rows: with 15 of them and 3 a time, all after 5 times.
    rows = np.concatenate(batches.epoch(2)).reshape(-1, 3)
    largest = rows[LABELS[rows[:, 0]] == 75]
    assert len(largest) == 10
    np.testing.assert_array_equal(
        np.sort(largest[:5].ravel()), np.sort(largest[5:].ravel())
    )
    assert len(set(largest[:5].ravel())) == 15


def test_many_sets_of_groups_are_drawn():
    labels = np.arange(82)
    batches = hierarchical_batches(
        labels,
        labels // 2,
        groups_per_batch=3,
        classes_per_group=1,
        examples=1,
        batches_per_tuple=1,
    )
    found = batches.epoch(0)
    assert len(found) == 10_000
    assert "10000 of 10660 sets, drawn, of groups 1 times" in batches.rule
    groups = np.stack(list(found[:2000])) // 2
    assert (np.diff(np.sort(groups), axis=1) > 0).all()
    assert len(np.unique(np.sort(groups), axis=0)) > 1000


BALANCED = {"classes": 4, "examples": 2}


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (LABELS / 1.0, {}, TypeError, "labels must be integer, got dtype float64"),
        (LABELS[:, None] > 0, {}, TypeError, "no classes to balance"),
        (LABELS[:, None], {}, ValueError, r"labels must be \[n\].*got shape"),
        ([], {}, TypeError, "labels must be integer"),
        (LABELS[:0], {}, ValueError, "not empty"),
        (LABELS, {"classes": 0}, ValueError, "classes must be 1 or more"),
        (LABELS, {"examples": 2.0}, TypeError, "examples must be an integer"),
        (LABELS, {"epoch": "rows"}, ValueError, "epoch must be one of"),
        (LABELS, {"short": "drop"}, ValueError, "short must be one of"),
        (LABELS, {"last": "skip"}, ValueError, "last must be one of"),
        (LABELS, {"seed": -1}, ValueError, "seed must be 0 or more"),
        (LABELS, {"process_index": 1}, ValueError, "must be below process_count = 1"),
        (LABELS, {"process_count": 3}, ValueError, "classes must be a multiple of"),
        (LABELS, {"classes": 16}, ValueError, "at most 15, the number of classes"),
        (
            LABELS,
            {"classes": 14, "short": "skip", "examples": 3},
            ValueError,
            "at most 13, the .* besides 2 that are too small, got 14",
        ),
    ],
    ids=map(str, range(15)),
)
def test_errors_of_balanced_batches_teach(labels, options, error, message):
    with pytest.raises(error, match=message):
        class_balanced_batches(labels, **(BALANCED | options))


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        (GROUPS[:3], {}, "groups must have an entry for each of the 120 labels"),
        (np.arange(120), {}, "same for all rows of a class, got groups .* class -16"),
        (GROUPS, {"groups_per_batch": 5}, "at most 4, the number of groups with 2"),
        (GROUPS, {"classes_per_group": 5}, "groups_per_batch must be at most 0"),
        (
            GROUPS,
            {"process_count": 3},
            r"groups_per_batch \* classes_per_group must be",
        ),
        (GROUPS, {"batches_per_tuple": 0}, "batches_per_tuple must be 1 or more"),
    ],
    ids=map(str, range(6)),
)
def test_errors_of_hierarchical_batches_teach(groups, options, message):
    given = {"classes_per_group": 2, "examples": 2} | options
    with pytest.raises(ValueError, match=message):
        hierarchical_batches(LABELS, groups, **given)


def test_positions_must_be_numbers():
    batches = class_balanced_batches(LABELS, classes=4, examples=2)
    with pytest.raises(ValueError, match="number must be 0 or more"):
        batches.epoch(-1)
    with pytest.raises(TypeError, match="step must be an integer"):
        batches.from_step(1.5)  # pyright: ignore[reportArgumentType]


def test_iterating_goes_through_the_first_epoch():
    batches = class_balanced_batches(np.arange(12) // 3, classes=2, examples=2)
    assert len(list(batches)) == 2
    np.testing.assert_array_equal(list(batches), list(batches.epoch(0)))
