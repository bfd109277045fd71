"""Markdown tables: their cells, and the caption that states how runs were made."""

from collections.abc import Collection, Iterator

import numpy as np

from experiments.common.runs import Found


def markdown(rows: list[list[str]]) -> Iterator[str]:
    """Lines of a Markdown table; the first row is the head."""
    for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]:
        yield f"| {' | '.join(row)} |"


def spread(values: Collection[float], digits: int) -> str:
    """Mean ± standard deviation over the seeds; a single value alone."""
    found = np.array([*values])
    if len(found) == 1:
        return f"{found[0]:.{digits}f}"
    return f"{np.mean(found):.{digits}f} ± {np.std(found, ddof=1):.{digits}f}"


def number_of_seeds(found: Found) -> str:
    """Number of seeds of the methods, such as ``"5 seeds"`` or ``"3 to 5 seeds"``."""
    counts: dict[str, int] = {}
    for run, _ in found:
        counts[run.method] = counts.get(run.method, 0) + 1
    low, high = min(counts.values()), max(counts.values())
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} seed{'s' * (high > 1)}"


def caption(command: str, found: Found) -> str:
    """The command of a table, devices, versions of JAX, and seconds of all runs."""
    made = [record["provenance"] for _, record in found]
    devices = dict.fromkeys(x["device"].split(" (")[0] for x in made if x["device"])
    versions = sorted({x["versions"]["jax"] for x in made if x["versions"]})
    parts = [f"`python -m experiments.{command}`; {', '.join(devices)}"]
    parts += [f"jax {', '.join(versions)}"]
    seconds = [x["seconds"] for x in made]
    if None not in seconds:
        parts.append(f"{sum(seconds):.0f} s")
    return ", ".join(parts) + "."
