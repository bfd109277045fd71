"""The runs of an experiment, each of them measured once, however often it is killed."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tqdm import tqdm

from experiments import _checkpoints


class Jobs(NamedTuple):
    """What all runs of an experiment have in common.

    Attributes:
        root: Folder of their checkpoints.
        bar: Their progress.
    """

    root: pathlib.Path
    bar: tqdm

    def outcome(
        self, job: str, steps: int, measured: Callable[[pathlib.Path], Any]
    ) -> Any:
        """What is measured of a run, or was before the experiment was killed.

        Args:
            job: Its name, such as ``"plain, seed 0"``.
            steps: What the bar goes on by if nothing is to be done.
            measured: Of the folder of its checkpoints; moves the bar by itself.
        """
        folder = self.folder(job)
        self.bar.set_description(job)
        outcome, is_new = _checkpoints.remembered(
            folder / "outcome.json", lambda: measured(folder)
        )
        if not is_new:
            self.bar.update(steps)
        return outcome

    def folder(self, job: str) -> pathlib.Path:
        """Of the checkpoints of a run."""
        return self.root / job.replace(", ", "-").replace(" ", "-")
