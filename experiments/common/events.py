"""Metrics in files that TensorBoard reads."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX


class Events:
    """Writes the metrics of a training, in the first of several processes alone.

    A context manager.

    Args:
        folder: Of the files.
        begun: Steps done so far. What an earlier, killed process has written of later
            steps is not shown.
    """

    def __init__(self, folder: pathlib.Path, begun: int):
        self._writer = None
        if jax.process_index() == 0:
            self._writer = tensorboardX.SummaryWriter(
                str(folder), purge_step=begun + 1, write_to_disk=True
            )

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the means of some metrics, after so many steps."""
        if self._writer is None:
            return
        for name, values in metrics.items():
            if not isinstance(values, str):
                self._writer.add_scalar(name, float(np.mean(values)), step)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._writer:
            self._writer.close()
