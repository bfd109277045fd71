"""When two rows of a table are told apart: one rule, whatever the table.

Two runs with one seed begin with the same weights and see the same batches, so that the
differences of two rows, seed by seed, are tested for a mean of zero, by a t-test. Among
many rows some would pass by chance. So the level is that of the table: the chance that
it tells any two apart that are alike is at most 5 % (Holm, A Simple Sequentially
Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.05
RULE = "by a paired t-test over the seeds, at 5 % for the whole table (Holm)"


class Difference(NamedTuple):
    """How a row differs from another one, and how probable that is by chance."""

    mean: float
    p: float


def paired(values: Sequence[float], base: Sequence[float]) -> Difference:
    """Difference of two rows with a value for each seed, at least two."""
    found = np.subtract(values, base)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    return between(float(np.mean(found)), float(error), len(found) - 1)


def between(mean: float, error: float, freedom: int) -> Difference:
    """A difference with its standard error, which has degrees of freedom.

    Without an error, as of percentages of few images that are the same in all seeds,
    there is nothing to test by: such rows are not told apart.
    """
    if error == 0.0:
        return Difference(mean, 1.0)
    return Difference(mean, float(2.0 * stats.t.sf(abs(mean) / error, freedom)))


def signs(differences: Mapping[str, Difference]) -> dict[str, int]:
    """By row: 1 if it is above the other one, -1 if below, 0 if not told apart."""
    found = dict.fromkeys(differences, 0)
    ordered = sorted(differences, key=lambda name: differences[name].p)
    for rank, name in enumerate(ordered):
        mean, p = differences[name]
        if p > _LEVEL / (len(ordered) - rank):
            break
        found[name] = 1 if mean > 0.0 else -1
    return found


def listed(
    differences: Mapping[str, Difference], signs: Mapping[str, int], sign: int
) -> str:
    """The rows of one sign, each with its difference, as text; of none, ``"none"``."""
    rows = [name for name, own in signs.items() if own == sign]
    return ", ".join(f"{x} ({differences[x].mean:+.2f})" for x in rows) or "none"


def verdict(
    base: str, rows: Mapping[str, Sequence[float]], *, is_error: bool
) -> Iterator[str]:
    """What a table says of all rows against one of them.

    Args:
        base: Title of that one.
        rows: Values of each row, one for each seed, by title.
        is_error: Whether the lower value is the better one.

    Yields:
        An empty line and a sentence; nothing of one seed or one row.
    """
    if base not in rows or len(rows) < 2 or len(rows[base]) < 2:
        return
    differences = {
        title: paired(values, rows[base])
        for title, values in rows.items()
        if title != base
    }
    found = signs(differences)
    up, down = ("worse", "better") if is_error else ("better", "worse")
    parts = [
        f"{word}: {listed(differences, found, sign)}"
        for word, sign in ((up, 1), (down, -1))
        if sign in found.values()
    ]
    yield ""
    if parts:
        text = f"Told apart from the row {base!r} {RULE}: {'; '.join(sorted(parts))}."
        yield text + " The others are not." * (0 in found.values())
    else:
        yield f"No row is told apart from {base!r} {RULE}."
