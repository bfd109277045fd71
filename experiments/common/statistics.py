"""When two rows of a table differ significantly: one rule, whatever the table.

Two runs with one seed begin with the same weights and see the same batches, so the
differences of two rows, seed by seed, are tested for a mean of zero, by a t-test. With
many rows some would pass by chance, so the level is that of the table: the chance of
any false finding in it is at most 5 % (Holm, A Simple Sequentially Rejective Multiple
Test Procedure, Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.05
RULE = "by a paired t-test over the seeds, at 5 % for the whole table (Holm)"


class Difference(NamedTuple):
    """Mean difference of two rows, and its p-value."""

    mean: float
    p: float


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference:
    """Difference of two rows over the seeds that both have, at least two."""
    seeds = sorted(values.keys() & base.keys())
    found = np.array([values[seed] - base[seed] for seed in seeds])
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    return between(float(np.mean(found)), float(error), len(found) - 1)


def between(mean: float, error: float, freedom: int) -> Difference:
    """A difference with its standard error, which has degrees of freedom.

    Without an error, as for percentages of few images that are the same in all seeds,
    there is nothing to test by: such rows do not differ significantly.
    """
    if error == 0.0:
        return Difference(mean, 1.0)
    return Difference(mean, float(2.0 * stats.t.sf(abs(mean) / error, freedom)))


def signs(differences: Mapping[str, Difference]) -> dict[str, int]:
    """By row: 1 or -1 if it is significantly above or below the other one, else 0."""
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
    """The rows of one sign, each with its difference, as text; or ``"none"``."""
    rows = [name for name, found in signs.items() if found == sign]
    return ", ".join(f"{x} ({differences[x].mean:+.2f})" for x in rows) or "none"


def verdict(
    base: str, rows: Mapping[str, Mapping[int, float]], *, is_error: bool | None
) -> Iterator[str]:
    """Says which rows differ significantly from one of them.

    Args:
        base: Title of that one.
        rows: Values of each row by seed, by title.
        is_error: Whether the lower value is the better one; ``None`` if neither is.

    Yields:
        An empty line and a sentence; nothing without two rows that share two seeds.
    """
    differences = {
        title: paired(values, rows[base])
        for title, values in rows.items()
        if base in rows
        and title != base
        and len(values.keys() & rows[base].keys()) >= 2
    }
    if not differences:
        return
    found = signs(differences)
    words = {True: ("worse", "better"), False: ("better", "worse")}
    up, down = ("higher", "lower") if is_error is None else words[is_error]
    parts = [
        f"{word}: {listed(differences, found, sign)}"
        for word, sign in ((up, 1), (down, -1))
        if sign in found.values()
    ]
    yield ""
    if parts:
        text = "; ".join(sorted(parts))
        yield (
            f"Significantly different from the row {base!r} {RULE}: {text}."
            + " The others do not differ significantly." * (0 in found.values())
        )
    else:
        yield f"No row differs significantly from {base!r} {RULE}."
