"""When two rows of a table differ significantly."""

import math

import pytest

from experiments.common import statistics
from experiments.common.statistics import Difference


def by_seed(*values):
    return dict(enumerate(values))


def test_paired_differences_have_the_p_of_students_t():
    # With one and two degrees of freedom its distribution is elementary.
    found = statistics.paired(by_seed(3.0, 4.0), by_seed(1.0, 5.0))  # 2 and -1
    t = 0.5 / (1.5 / 1.0)
    assert found.mean == pytest.approx(0.5)
    assert found.p == pytest.approx(1.0 - 2.0 / math.pi * math.atan(t / 1.0))
    zeros, values = by_seed(0.0, 0.0, 0.0), by_seed(1.4, 2.5, 3.6)
    found = statistics.paired(values, zeros)
    t = 2.5 / (1.1 / math.sqrt(3.0))
    assert found.p == pytest.approx(1.0 - t / math.sqrt(2.0 + t * t))
    lower = statistics.paired(zeros, values)
    assert lower == pytest.approx((-2.5, found.p))


def test_seeds_that_only_one_row_has_are_left_out():
    some, more = {3: 1.0, 0: 3.0, 1: 4.0}, {1: 5.0, 0: 1.0, 2: 9.0}
    expected = statistics.paired(by_seed(3.0, 4.0), by_seed(1.0, 5.0))
    assert statistics.paired(some, more) == expected


def test_the_level_is_that_of_the_whole_table():
    # Against 5 % / 4, / 3, / 2: the third stops what follows, though 0.04 < 5 % / 1.
    table = {
        "a": Difference(-1.0, 0.012),
        "b": Difference(1.0, 0.026),
        "c": Difference(2.0, 0.016),
        "d": Difference(3.0, 0.04),
    }
    assert statistics.signs(table) == {"a": -1, "b": 0, "c": 1, "d": 0}
    assert statistics.signs({"d": table["d"]}) == {"d": 1}


def test_the_same_difference_in_all_seeds_is_not_significant():
    assert statistics.paired(by_seed(2.0, 3.0), by_seed(1.0, 2.0)) == (1.0, 1.0)


def test_gram_schmidt_on_three_seeds_and_ten_methods():
    """A small p-value that is significant alone, and not among ten."""
    plain = by_seed(0.0, 0.0, 0.0)
    rows = {"plain": plain, "ahead": by_seed(-1.92, -1.39, -2.79)}
    assert statistics.paired(rows["ahead"], plain).p == pytest.approx(0.038, abs=1e-3)
    others = {f"other {i}": by_seed(1.0, -1.0, 0.1 * i) for i in range(9)}
    (empty, alone) = statistics.verdict("plain", rows, is_error=True)
    assert empty == ""
    assert alone.startswith("Significantly different from the row 'plain' by a paired")
    assert alone.endswith(": better: ahead (-2.03).")
    (_, among) = statistics.verdict("plain", rows | others, is_error=True)
    assert among.startswith("No row differs significantly from 'plain' by a paired t-")
    worse = {"x": by_seed(3.0, 3.1, 3.2), "y": by_seed(-1.0, 0.0, 1.0)}
    (_, line) = statistics.verdict("plain", rows | worse, is_error=True)
    end = ": {}: x (+3.10). The others do not differ significantly."
    assert line.endswith(end.format("worse"))
    (_, line) = statistics.verdict("plain", rows | worse, is_error=False)
    assert line.endswith(end.format("better"))
    (_, line) = statistics.verdict("plain", rows | worse, is_error=None)
    assert line.endswith(end.format("higher"))


def test_one_seed_says_nothing():
    one, two = by_seed(1.0), by_seed(1.0, 2.0)
    for rows in ({"plain": one, "a": two}, {"plain": two}, {"a": one}):
        assert list(statistics.verdict("plain", rows, is_error=True)) == []
