"""Runs: their settings, their digests, and what a study has to define.

A run is one training of a study, with one method and one seed. It is identified by a
digest of all settings that it depends on, which paths, device and number of seeds are
not. Its record is one JSON file, written by :mod:`.store`.

A study defines, for ``python -m experiments.STUDY`` and ``experiments.campaign``:

- ``config.Config``, a dataclass that extends :class:`Config`;
- ``config.presets()``, the settings of its published tables;
- ``config.planned(config)``, the runs of a table;
- ``train.train(runs, work)``, the metrics of runs that differ only in their seeds;
- ``report.table(config, found)`` and ``report.draw(config, found, folder)``, the table
  and the figures from pairs of a run and its record.
"""

import base64
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

# The stored content of a run: settings, metrics, provenance.
Record = dict[str, Any]
Found = Sequence[tuple["Run", Record]]
# Settings that may be zero, with their upper bounds. All others are positive.
_FROM_ZERO = {
    "annealing": math.inf,
    "drops": math.inf,
    "label_smoothing": 1.0,
    "momentum": 1.0,
    "orthogonality": math.inf,
    "seed": 2**31,
    "weight_decay": math.inf,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of every study: where its runs are written."""

    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of the runs and of the checkpoints of unfinished ones. Runs that it has
    are not made again."""
    publish: bool = False
    """Copy the runs, and write the figures, into the committed results of the study."""

    study: ClassVar[str]
    # Settings that a run does not depend on.
    free: ClassVar[tuple[str, ...]] = (
        "runs",
        "publish",
        "preset",
        "data_dir",
        "seeds",
        "side_by_side",
        "checkpoint_every",
    )
    # Further settings that may be zero.
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        check_numbers(self, may_be_zero=self.may_be_zero)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        config: The settings of this run alone.
        group: Name of its table, ``PRESET-DATASET``.
        method: Name of its row in the table.
        seed: Seed of all random numbers.
        steps: Number of steps, for the progress.
    """

    config: Any
    group: str
    method: str
    seed: int
    steps: int

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """All settings that it depends on; only the last part of a path."""
        return {
            name: _without_folders(value)
            for name, value in dataclasses.asdict(self.config).items()
            if name not in self.config.free
        }

    @functools.cached_property
    def digest(self) -> str:
        """Eight digits that identify study, method and settings."""
        content = [self.config.study, self.method, self.settings]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Its file, in a folder with runs of this study."""
        return folder / self.group / f"{self.method}-{self.seed}-{self.digest}.json"


class Work(NamedTuple):
    """Folder of the checkpoints of a run, and ``report(steps, metrics)``."""

    folder: pathlib.Path
    report: Callable[[int, dict[str, np.ndarray]], None]

    def part(self, name: str) -> "Work":
        """The same for one of several trainings of a run."""
        return Work(self.folder / name, self.report)


def of_methods(config: Any) -> list[Run]:
    """The runs of settings with ``methods``: all seeds of a method after each other."""
    return [
        Run(
            dataclasses.replace(config, methods=(method,)),
            config.group,
            method,
            seed,
            config.steps,
        )
        for method in config.methods
        for seed in range(config.seeds)
    ]


def _without_folders(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_without_folders, value))
    return value.name if isinstance(value, pathlib.Path) else value


def flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def shown(value: Any) -> str:
    """The text of a setting on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def check_numbers(config: Any, *, may_be_zero: Sequence[str] = ()) -> None:
    """Raises an error if a number is not positive and finite.

    Args:
        config: A dataclass.
        may_be_zero: Settings that may be zero, besides those of all studies.

    Raises:
        ValueError: If so; names the flag of the setting.
    """
    from_zero = _FROM_ZERO | dict.fromkeys(may_be_zero, math.inf)
    for field in dataclasses.fields(config):
        value, below = getattr(config, field.name), from_zero.get(field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not (number > 0 if below is None else 0 <= number < below):
                expected = "positive" if below is None else "zero or positive"
                if below is not None and math.isfinite(below):
                    expected = f"in [0, {below})"
            elif not math.isfinite(number):
                expected = "finite"
            else:
                continue
            raise ValueError(
                f"{flag(field.name)} must be {expected}, got {shown(value)}."
            )


def pack(array: Any, dtype: Any) -> dict[str, Any]:
    """An array as a compressed JSON value, for figures."""
    values = np.asarray(array, dtype)
    content = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
    return {"shape": values.shape, "dtype": values.dtype.str, "zlib": content}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """The array of :func:`pack`."""
    content = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(content, packed["dtype"]).reshape(packed["shape"])
