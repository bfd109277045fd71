"""The test of significance of all tables.

Two runs with the same seed start with the same weights and see the same batches, so a
paired t-test is applied to the differences of two rows, seed by seed. With many rows,
some would differ by chance. So the level is that of the whole table: the chance of any
false finding in it is at most 5 % (Holm, A Simple Sequentially Rejective Multiple Test
Procedure, Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.05
RULE = "by a paired t-test over the seeds, at 5 % for the whole table (Holm)"


class Difference(NamedTuple):
    """Mean difference of two rows, and its two-sided p-value."""

    mean: float
    p: float


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference:
    """Difference of two rows over the seeds that both have, which are at least two."""
    seeds = sorted(values.keys() & base.keys())
    found = np.array([values[seed] - base[seed] for seed in seeds])
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    return between(float(np.mean(found)), float(error), len(found) - 1)


def between(mean: float, error: float, freedom: int) -> Difference:
    """Difference with a mean, its standard error, and degrees of freedom.

    If the error is zero, as for a difference that is the same in all seeds, no test is
    possible: the p-value is 1.
    """
    if error == 0.0:
        return Difference(mean, 1.0)
    return Difference(mean, float(2.0 * stats.t.sf(abs(mean) / error, freedom)))


def signs(differences: Mapping[str, Difference]) -> dict[str, int]:
    """For each row 1 or -1, if it is significantly above or below the base, else 0."""
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
    """Text of the rows of one sign with their differences, or ``"none"``."""
    rows = [name for name, found in signs.items() if found == sign]
    return ", ".join(f"{x} ({differences[x].mean:+.2f})" for x in rows) or "none"


def verdict(
    base: str, rows: Mapping[str, Mapping[int, float]], *, is_error: bool | None
) -> Iterator[str]:
    """Lines that state which rows differ significantly from one of them.

    Args:
        base: Title of the row that the others are compared with.
        rows: Values of each row by seed, by title.
        is_error: Whether lower values are better; ``None`` if neither is.

    Yields:
        An empty line and a sentence; nothing if no other row shares two seeds with it.
    """
    differences = {
        title: paired(values, rows[base])
        for title, values in rows.items()
        if base in rows
        and title != base
        and len(values.keys() & rows[base].keys()) >= 2
    }
    yield from stated(base, differences, is_error=is_error)


def stated(
    base: str, differences: Mapping[str, Difference], *, is_error: bool | None
) -> Iterator[str]:
    """The lines of :func:`verdict` for differences from rows called ``base``."""
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
