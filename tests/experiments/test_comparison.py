"""When two rows of a table are told apart."""

import math

import pytest

from experiments import _comparison
from experiments._comparison import Difference


def test_paired_differences_have_the_p_of_students_t():
    # With one and two degrees of freedom its distribution is elementary.
    found = _comparison.paired([3.0, 4.0], [1.0, 5.0])  # 2 and -1
    t = 0.5 / (1.5 / 1.0)
    assert found.mean == pytest.approx(0.5)
    assert found.p == pytest.approx(1.0 - 2.0 / math.pi * math.atan(t / 1.0))
    found = _comparison.paired([1.4, 2.5, 3.6], [0.0, 0.0, 0.0])
    t = 2.5 / (1.1 / math.sqrt(3.0))
    assert found.p == pytest.approx(1.0 - t / math.sqrt(2.0 + t * t))
    lower = _comparison.paired([0.0, 0.0, 0.0], [1.4, 2.5, 3.6])
    assert lower == pytest.approx((-2.5, found.p))


def test_the_level_is_that_of_the_whole_table():
    # Against 5 % / 4, / 3, / 2: the third stops what follows, though 0.04 < 5 % / 1.
    table = {
        "a": Difference(-1.0, 0.012),
        "b": Difference(1.0, 0.026),
        "c": Difference(2.0, 0.016),
        "d": Difference(3.0, 0.04),
    }
    assert _comparison.signs(table) == {"a": -1, "b": 0, "c": 1, "d": 0}
    assert _comparison.signs({"d": table["d"]}) == {"d": 1}


def test_what_is_alike_in_all_seeds_is_not_told_apart():
    assert _comparison.paired([2.0, 3.0], [1.0, 2.0]) == (1.0, 1.0)


def test_gram_schmidt_on_three_seeds_and_ten_methods():
    """What was once said to be ahead: its p is small, alone, and not among ten."""
    plain = [0.0, 0.0, 0.0]
    rows = {"plain": plain, "ahead": [-1.92, -1.39, -2.79]}
    assert _comparison.paired(rows["ahead"], plain).p == pytest.approx(0.038, abs=1e-3)
    others = {f"other {i}": [1.0, -1.0, 0.1 * i] for i in range(9)}
    (empty, alone) = _comparison.verdict("plain", rows, is_error=True)
    assert empty == ""
    assert alone.startswith("Told apart from the row 'plain' by a paired t-test over")
    assert alone.endswith(": better: ahead (-2.03).")
    (_, among) = _comparison.verdict("plain", rows | others, is_error=True)
    assert among.startswith("No row is told apart from 'plain' by a paired t-test")
    worse = rows | {"x": [3.0, 3.1, 3.2], "y": [-1.0, 0.0, 1.0]}
    (_, line) = _comparison.verdict("plain", worse, is_error=True)
    assert line.endswith(": worse: x (+3.10). The others are not.")
    (_, line) = _comparison.verdict("plain", worse, is_error=False)
    assert line.endswith(": better: x (+3.10). The others are not.")


def test_one_seed_says_nothing():
    for rows in ({"plain": [1.0], "a": [2.0]}, {"plain": [1.0, 2.0]}, {"a": [1.0]}):
        assert list(_comparison.verdict("plain", rows, is_error=True)) == []
