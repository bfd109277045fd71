"""The store of runs: one JSON file for each finished run.

A new run is written to ``RUNS/STUDY/PRESET-DATASET/METHOD-SEED-DIGEST.json``; published
ones are ``PRESET-DATASET/METHOD-SEED-DIGEST.json`` in the study's folder ``results``.
"""

import dataclasses
import functools
import importlib.metadata
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.common import checkpoints
from experiments.common.progress import Progress
from experiments.common.runs import Record, Run, Work

_ROOT = pathlib.Path(__file__).parents[1]
# A kill may lose the count of so many seconds.
_UNCOUNTED = 5.0


def published(study: str) -> pathlib.Path:
    """Folder of the committed runs of a study."""
    return _ROOT / study / "results"


def load(run: Run, *folders: pathlib.Path) -> Record | None:
    """The record of a run from the first folder that has it, or ``None``."""
    for path in map(run.path, folders):
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            continue
        except ValueError:
            warnings.warn(f"{path} is damaged; the run is made again.", stacklevel=2)
    return None


def with_all_seeds(runs: Iterable[Run], *folders: pathlib.Path) -> list[Run]:
    """The runs, with every seed that has a file instead of their seeds."""
    found = []
    for run in {(run.group, run.digest): run for run in runs}.values():
        name = f"{run.method}-*-{run.digest}.json"
        paths = [path for folder in folders for path in (folder / run.group).glob(name)]
        seeds = {int(path.stem.split("-")[-2]) for path in paths}
        found += [dataclasses.replace(run, seed=seed) for seed in sorted(seeds)]
    return found


def save(
    run: Run, folder: pathlib.Path, metrics: Any, provenance: dict[str, Any]
) -> None:
    """Writes the file of a run."""
    content = {
        "study": run.config.study,
        "group": run.group,
        "method": run.method,
        "seed": run.seed,
        "settings": run.settings,
        "metrics": metrics,
        "provenance": provenance,
    }
    lines = (f" {json.dumps(key)}: {json.dumps(x)}" for key, x in content.items())
    checkpoints.write(run.path(folder), ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def provenance(seconds: float, together: int) -> dict[str, Any]:
    """Device, versions, commit and time of a run.

    Args:
        seconds: Its seconds, including those before interruptions.
        together: Number of seeds that were trained side by side.
    """
    return {
        **environment(),
        "commit": _commit(),
        "seconds": round(seconds, 1),
        "side_by_side": together,
    }


def environment() -> dict[str, Any]:
    """Device, and the versions of Python and of the packages."""
    packages = ("sphax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


@functools.cache
def _commit() -> str | None:
    """The commit of the code, with "-dirty" if tracked files are changed."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None


def writable(flag: str, folder: pathlib.Path) -> None:
    """Makes a folder, and tests whether a file can be written to it.

    Raises:
        ValueError: If it cannot; names the flag.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{flag} must be a folder that can be written to, got {folder}:"
            f" {error.strerror}."
        ) from error


def complete(
    runs: Sequence[Run],
    train: Callable[[Sequence[Run], Work], Sequence[Any]],
    root: pathlib.Path,
    *,
    side_by_side: bool | None = False,
    unit: str = "steps",
) -> None:
    """Makes the runs that are missing.

    Args:
        runs: Runs of one study.
        train: Returns the metrics of runs that differ only in their seeds.
        root: Folder of all runs, and of the checkpoints of unfinished ones.
        side_by_side: Whether the seeds of a method train in one vmapped step. ``None``:
            on an accelerator, since a vmapped convolution on a CPU takes five times as
            long.
        unit: Unit of the progress.
    """
    if side_by_side is None:
        side_by_side = jax.default_backend() != "cpu"
    missing = [run for run in runs if load(run, root / run.config.study) is None]
    progress = Progress(sum(run.steps for run in missing), unit)
    try:
        for _, seeds in itertools.groupby(missing, lambda run: (run.group, run.digest)):
            for together in [[*seeds]] if side_by_side else [[run] for run in seeds]:
                make(together, train, root, progress)
    finally:
        progress.close()


def make(
    together: Sequence[Run],
    train: Callable[[Sequence[Run], Work], Sequence[Any]],
    root: pathlib.Path,
    progress: Progress,
) -> None:
    """Makes runs that differ only in their seeds, and writes their files."""
    run, seeds = together[0], [run.seed for run in together]
    name = "-".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
    study = run.config.study
    folder = root / "checkpoints" / study / run.group
    folder /= f"{run.method}-{name}-{run.digest}"
    clock_path, begun = folder / "seconds.json", time.monotonic()
    before = json.loads(clock_path.read_text()) if clock_path.exists() else 0.0
    kept = begun

    def seconds() -> float:
        return before + time.monotonic() - begun

    def report(steps: int, metrics: dict[str, np.ndarray]) -> None:
        nonlocal kept
        if time.monotonic() - kept >= _UNCOUNTED:
            kept = time.monotonic()
            checkpoints.write(clock_path, json.dumps(seconds()).encode())
        progress.advance(steps * len(together), metrics)

    progress.begin(f"{run.method}, seed {name}")
    try:
        found = train(together, Work(folder, report))
    except BaseException:
        checkpoints.write(clock_path, json.dumps(seconds()).encode())
        raise
    made = provenance(seconds() / len(together), len(together))
    for each, metrics in zip(together, found, strict=True):
        save(each, root / study, metrics, made)
    shutil.rmtree(folder, ignore_errors=True)
