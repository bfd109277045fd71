"""What a person sees of an experiment while it runs, and how its numbers look."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from experiments import _interrupts

Report = Callable[[int, dict[str, np.ndarray]], None]
# Seconds from one line of a log to the next.
_SILENCE = 30.0

_Item = TypeVar("_Item")


class Progress:
    """A bar on a terminal; where stderr is a log, a line every half minute.

    Args:
        unit: Name of what is done.
        total: How much of it, if that is known yet.
    """

    def __init__(self, unit: str = "steps", total: int | None = None):
        is_log = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total, unit=f" {unit}", dynamic_ncols=True, disable=is_log
        )
        self._total, self._unit, self._is_log = total, unit, is_log
        self._done, self._job, self._shown = 0, "", ""
        self._begun = self._told = time.monotonic()

    def expect(self, total: int) -> None:
        """Says how much there is to do."""
        self._total = self._bar.total = total
        self._bar.refresh()

    def begin(self, job: str) -> None:
        """Says what is done next."""
        self._job, self._shown = job, ""
        self._bar.set_description(job)

    def show(self, text: str) -> None:
        """What stands beside the number of what is done."""
        self._shown = text
        self._bar.set_postfix_str(text, refresh=False)

    def advance(self, number: int) -> None:
        """Goes on by what has been done, unless the process was told to stop."""
        _interrupts.check()
        self._done += number
        self._bar.update(number)
        now = time.monotonic()
        if self._is_log and now - self._told >= _SILENCE:
            self._told = now
            parts = [
                self._job,
                f"{self._done} of {self._total or '?'} {self._unit}",
                f"{now - self._begun:.0f} s",
                self._shown,
            ]
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def each(items: Sequence[_Item], unit: str) -> Iterator[_Item]:
    """The items, with the progress of what is done with them."""
    progress = Progress(unit, len(items))
    try:
        for item in items:
            yield item
            progress.advance(1)
    finally:
        progress.close()


def steps_on(progress: Progress, runs: int = 1) -> Report:
    """What training tells its steps and metrics to, of ``runs`` runs side by side."""

    def report(steps: int, metrics: dict[str, np.ndarray]) -> None:
        if metrics:
            means = {key: np.mean(values) for key, values in metrics.items()}
            progress.show(", ".join(f"{key} {m:.3f}" for key, m in means.items()))
        progress.advance(steps * runs)

    return report


def markdown(rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table of cells, the first row being its head."""
    for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]:
        yield f"| {' | '.join(row)} |"


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over the seeds; one value as it is."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
