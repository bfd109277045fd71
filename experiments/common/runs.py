"""What a run is: the settings that it depends on, and the work of making it.

A run is one training of a study, by one method with one seed. It is identified by a
digest of all settings that it depends on: not of paths, device or number of seeds. Its
record is one JSON file, which :mod:`.store` writes.

A study offers, for ``python -m experiments.STUDY`` and ``experiments.campaign``:

- ``config.Config``, a dataclass on :class:`Config`;
- ``config.presets()``, the settings of its published tables;
- ``config.planned(config)``, the runs of some settings;
- ``train.train(runs, work)``, the metrics of runs that differ in their seeds alone;
- ``report.table(config, found)`` and ``report.draw(config, found, folder)`` of pairs of
  a run and its record.
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

# What is stored of a run: settings, metrics, provenance.
Record = dict[str, Any]
Found = Sequence[tuple["Run", Record]]
# Settings that may be zero, and what they must be less than. All others are positive.
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
    """Settings that every study has: where its runs go."""

    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of the runs and, until they are finished, of their checkpoints. Runs that
    are there are not made again."""
    publish: bool = False
    """Copy the runs, and write the figures, to the committed results of the study."""

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
    # Settings that zero switches off, beside those that may be zero in all studies.
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        check_numbers(self, may_be_zero=self.may_be_zero)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        config: The settings of this run alone.
        group: Name of the table that it belongs to, ``PRESET-DATASET``.
        method: Name of what is compared in the table.
        seed: Of all random numbers.
        steps: How far progress goes with it.
    """

    config: Any
    group: str
    method: str
    seed: int
    steps: int

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """All that it depends on; of what is a path, the name alone."""
        return {
            name: value.name if isinstance(value, pathlib.Path) else value
            for name, value in dataclasses.asdict(self.config).items()
            if name not in self.config.free
        }

    @functools.cached_property
    def digest(self) -> str:
        """Of the study, the method and the settings."""
        content = [self.config.study, self.method, self.settings]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Its file, in a folder of runs of this study."""
        return folder / self.group / f"{self.method}-{self.seed}-{self.digest}.json"


class Work(NamedTuple):
    """Where a run keeps its checkpoints, and what it calls with steps and metrics."""

    folder: pathlib.Path
    report: Callable[[int, dict[str, np.ndarray]], None]

    def part(self, name: str) -> "Work":
        """The same for one of several trainings in a run."""
        return Work(self.folder / name, self.report)


def flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def shown(value: Any) -> str:
    """A setting as it is written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def check_numbers(config: Any, *, may_be_zero: Sequence[str] = ()) -> None:
    """Refuses settings that are not positive, finite numbers.

    Args:
        config: A dataclass.
        may_be_zero: Settings that may be zero, beside those that may be in all studies.

    Raises:
        ValueError: Names the flag of the setting.
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
    """An array as a short value of JSON, for figures."""
    values = np.asarray(array, dtype)
    content = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
    return {"shape": values.shape, "dtype": values.dtype.str, "zlib": content}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """The array of :func:`pack`."""
    content = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(content, packed["dtype"]).reshape(packed["shape"])
