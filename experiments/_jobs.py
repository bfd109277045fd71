"""The runs of an experiment, each of them measured once, however often it is killed."""

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments import _checkpoints, _progress, _results

# Seconds of work that a kill may leave uncounted.
_UNCOUNTED = 5.0


class Jobs:
    """What all runs of an experiment have in common; a context.

    Args:
        config: The settings; folders are made, or refused, at once.
        name: Name of the folder of the checkpoints.
        unit: Name of what the progress counts.
    """

    def __init__(self, config: _results.Config, name: str, unit: str = "steps"):
        _results.prepare(config)
        self.root = config.checkpoints / name
        self.progress = _progress.Progress(unit)
        self._begun, self._before = time.monotonic(), 0.0
        self._clock: _Clock | None = None

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.close()

    @property
    def seconds(self) -> float:
        """What the runs took, with what those that were killed took before."""
        return self._before + time.monotonic() - self._begun

    def steps(self, runs: int = 1) -> _progress.Report:
        """What training tells its steps to, of ``runs`` runs side by side."""
        told = _progress.steps_on(self.progress, runs)

        def report(steps: int, metrics: dict[str, np.ndarray]) -> None:
            told(steps, metrics)
            if self._clock is not None:
                self._clock.keep(_UNCOUNTED)

        return report

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[pathlib.Path]:
        """Counts the seconds of a run, such as ``"plain, seed 0"``.

        Yields:
            The folder of its checkpoints.
        """
        folder = self.folder(name)
        self.progress.begin(name)
        self._clock = clock = _Clock(folder / "seconds.json")
        self._before += clock.before
        try:
            yield folder
        finally:
            clock.keep()

    def outcome(
        self, name: str, steps: int, measured: Callable[[pathlib.Path], Any]
    ) -> Any:
        """What is measured of a run, or was before the experiment was killed.

        Args:
            name: As of :meth:`job`.
            steps: What the progress goes on by if nothing is to be done.
            measured: Function of the folder of its checkpoints; reports its own steps.
        """
        with self.job(name) as folder:
            outcome, is_new = _checkpoints.remembered(
                folder / "outcome.json", lambda: measured(folder)
            )
            if not is_new:
                self.progress.advance(steps)
        return outcome

    def folder(self, name: str) -> pathlib.Path:
        """Of the checkpoints of a run."""
        return self.root / name.replace(", ", "-").replace(" ", "-")

    def clear(self) -> None:
        """Removes all checkpoints: the results are written."""
        _checkpoints.clear(self.root)


class _Clock:
    """Seconds of a run, in a file: those of all times that it was begun."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.before = json.loads(path.read_text()) if path.exists() else 0.0
        self._begun = self._kept = time.monotonic()

    def keep(self, every: float = 0.0) -> None:
        """Writes the file, unless that is less than ``every`` seconds ago."""
        now = time.monotonic()
        if now - self._kept >= every:
            self._kept = now
            seconds = json.dumps(self.before + now - self._begun)
            _checkpoints.write(self._path, seconds.encode())
