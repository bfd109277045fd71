"""Progress: a bar on a terminal, or a line every half minute in a log."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from experiments.common import interrupts

# Seconds between the lines of a log.
_SILENCE = 30.0
_Item = TypeVar("_Item")


class Progress:
    """Number of steps done, of a total, with the latest metrics."""

    def __init__(self, total: int, unit: str = "steps"):
        self._is_log = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total, unit=f" {unit}", dynamic_ncols=True, disable=self._is_log
        )
        self._total, self._unit = total, unit
        self._done, self._job, self._shown = 0, "", ""
        self._begun = self._printed = time.monotonic()

    def begin(self, job: str) -> None:
        """Shows the name of the next job."""
        self._job, self._shown = job, ""
        self._bar.set_description(job)

    def advance(self, number: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Counts steps; raises if Ctrl-C or SIGTERM was received."""
        interrupts.check()
        if metrics:
            means = {key: np.mean(values) for key, values in metrics.items()}
            self._shown = ", ".join(f"{key} {m:.3f}" for key, m in means.items())
            self._bar.set_postfix_str(self._shown, refresh=False)
        self._done += number
        self._bar.update(number)
        now = time.monotonic()
        if self._is_log and now - self._printed >= _SILENCE:
            self._printed = now
            parts = [
                self._job,
                f"{self._done} of {self._total} {self._unit}",
                f"{now - self._begun:.0f} s",
                self._shown,
            ]
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar, which stays on the screen."""
        self._bar.close()


def each(items: Sequence[_Item], unit: str) -> Iterator[_Item]:
    """Yields the items and shows how many are done."""
    progress = Progress(len(items), unit)
    try:
        for item in items:
            yield item
            progress.advance(1)
    finally:
        progress.close()
