"""Makes the runs that are missing from published tables, the most valuable ones first.

    python -m experiments.campaign --minutes 9
    python -m experiments.campaign --dry-run

It runs on any device. A finished run is saved at once. A run that is unfinished when
the time is over, or the process is killed, continues from its checkpoint next time.
"""

import dataclasses
import importlib
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from experiments.common import cli, interrupts, store
from experiments.common.images import DatasetNotFoundError
from experiments.common.progress import Progress
from experiments.common.runs import Run

# Study and first part of the group's name, in order of priority. All other tables
# follow, by the names of their studies.
_ORDER = (
    ("classify", "table-2.2-mnist"),
    ("classify", "spherenet-9-cifar10"),
    ("classify", "table-2.3-cifar10"),
    ("classify", "table-2.3-cifar10-augmented"),
    ("energy", "cnn-9"),
    ("opt", "cnn-6"),
    ("classify", "table-2.4-cifar100"),
    ("classify", "dcnet-32"),
)
# Methods that are run before the others of their table.
_FIRST = ("softmax", "l-softmax-2", "l-softmax-3", "l-softmax-4")
# So many seeds of all methods of a table are run before any further ones.
_SEEDS = 3
# Seconds of a step if no run is stored, and of compiling a step.
_STEP = {"cpu": 0.5}
_ACCELERATED_STEP = 0.01
_COMPILATION = 40.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Makes missing runs of the published tables, the most valuable ones first.

    Runs that are in the folder of runs, or published, are not made again. To publish
    the runs of a campaign, run the studies with --publish.
    """

    minutes: float = 10.0
    """Time after which no run is started and the current one stops at a checkpoint."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of the runs, and of their checkpoints."""
    data_dir: pathlib.Path | None = None
    """Folder of the data; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    studies: tuple[str, ...] = ()
    """Studies whose runs are made; all of them by default."""
    dry_run: bool = False
    """Only list the missing runs in their order, with estimated minutes."""
    list: bool = False
    """Only list how many runs each table has, and which are missing."""

    def __post_init__(self):
        if not 0.0 < self.minutes < float("inf"):
            raise ValueError(f"--minutes must be positive, got {self.minutes}.")
        unknown = set(self.studies) - set(names_of_studies())
        if unknown:
            raise ValueError(
                f"--studies must be among {', '.join(names_of_studies())}, got"
                f" {', '.join(sorted(unknown))}."
            )


class Job(NamedTuple):
    """Runs that are made together; they differ only in their seeds."""

    study: str
    runs: list[Run]
    rank: tuple[int, ...]

    @property
    def title(self) -> str:
        """The runs, as they are listed."""
        first, seeds = self.runs[0], [run.seed for run in self.runs]
        several = f"s {seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else f" {seeds[0]}"
        return f"{self.study}, {first.group}, {first.method}, seed{several}"


class _TimeIsOver(Exception):
    """Raised in a run when the time of the campaign is over."""


class _Until(Progress):
    """Progress that ends a run at a time."""

    def __init__(self, end: float, total: int):
        super().__init__(total)
        self._end = end

    def advance(self, number: int, metrics: Mapping[str, Any] | None = None) -> None:
        super().advance(number, metrics)
        if time.monotonic() > self._end:
            raise _TimeIsOver


def names_of_studies() -> list[str]:
    """Names of the studies, in alphabetical order."""
    root = pathlib.Path(__file__).parent
    paths = (path.parent for path in root.glob("*/__main__.py"))
    return sorted(path.name for path in paths if (path / "config.py").exists())


def planned(config: Config) -> Iterator[tuple[str, list[Run]]]:
    """Study and runs of each published table."""
    for study in config.studies or names_of_studies():
        module = importlib.import_module(f"experiments.{study}.config")
        for preset in module.presets():
            changed = {"runs": config.runs, "data_dir": config.data_dir}
            fields = {field.name for field in dataclasses.fields(preset)}
            changed = {key: x for key, x in changed.items() if key in fields}
            yield study, module.planned(dataclasses.replace(preset, **changed))


def missing(config: Config) -> list[Job]:
    """The missing runs, in the order in which they are made."""
    together = jax.default_backend() != "cpu"
    jobs: list[Job] = []
    for place, (study, runs) in enumerate(planned(config)):
        folders = config.runs / study, store.published(study)
        lacking = [run for run in runs if store.load(run, *folders) is None]
        methods = list(dict.fromkeys(run.method for run in runs))
        # If several names match, the longest one counts.
        places = [
            (len(group), number)
            for number, (name, group) in enumerate(_ORDER)
            if name == study and runs[0].group.startswith(group)
        ]
        table = max(places)[1] if places else len(_ORDER)
        by_rank: dict[tuple[int, ...], list[Run]] = {}
        for run in lacking:
            is_late = int(run.seed >= _SEEDS)
            is_other = int(run.method not in _FIRST)
            alone = 0 if together and hasattr(run.config, "side_by_side") else run.seed
            rank = table, place, is_late, is_other, methods.index(run.method), alone
            by_rank.setdefault(rank, []).append(run)
        jobs += [Job(study, found, rank) for rank, found in by_rank.items()]
    return sorted(jobs, key=lambda job: job.rank)


def seconds_of(config: Config) -> dict[tuple[str, ...], float]:
    """Seconds of a step on this kind of device, medians over the stored runs.

    The keys are ``(study, group)`` and ``(study, group, method)``: other tables of a
    study may have much larger networks and images.
    """
    found: dict[tuple[str, ...], list[float]] = {}
    for study, runs in planned(config):
        for run in runs:
            record = store.load(run, config.runs / study, store.published(study))
            made = record["provenance"] if record else {}
            if not made.get("seconds") or not made.get("device"):
                continue
            if f"({jax.default_backend()})" not in made["device"]:
                continue
            each = made["seconds"] / run.steps
            for key in ((study, run.group), (study, run.group, run.method)):
                found.setdefault(key, []).append(each)
    return {key: statistics.median(values) for key, values in found.items()}


def estimate(job: Job, seconds: Mapping[tuple[str, ...], float]) -> float:
    """Estimated seconds of a job."""
    run = job.runs[0]
    usual = _STEP.get(jax.default_backend(), _ACCELERATED_STEP)
    keys = (job.study, run.group, run.method), (job.study, run.group)
    step = next((seconds[key] for key in keys if key in seconds), usual)
    return _COMPILATION + step * run.steps * len(job.runs)


def show(config: Config) -> None:
    """Prints how many runs each table has, and which are missing."""
    for study, runs in planned(config):
        folders = config.runs / study, store.published(study)
        lacking = [run for run in runs if store.load(run, *folders) is None]
        line = f"{study}, {runs[0].group}: {len(runs) - len(lacking)} of {len(runs)}"
        print(line + "; missing:" * bool(lacking))
        by_method: dict[str, list[str]] = {}
        for run in lacking:
            by_method.setdefault(run.method, []).append(str(run.seed))
        for method, seeds in by_method.items():
            print(f"    {method}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}")


def make(config: Config) -> None:
    """Makes missing runs until the time is over."""
    end = time.monotonic() + 60.0 * config.minutes
    store.writable("--runs", config.runs)
    jobs, made, without_data = missing(config), 0, set()
    progress = _Until(end, sum(run.steps for job in jobs for run in job.runs))
    try:
        for job in jobs:
            name = (job.study, job.runs[0].group)
            # The rest would not be enough to compile a step.
            if end - time.monotonic() < _COMPILATION:
                raise _TimeIsOver
            if name in without_data:
                continue
            module = importlib.import_module(f"experiments.{job.study}.train")
            try:
                store.make(job.runs, module.train, config.runs, progress)
            except DatasetNotFoundError as error:
                without_data.add(name)
                reason = str(error).partition(". ")[0]
                print(f"left out: {', '.join(name)}: {reason}.", file=sys.stderr)
            except FloatingPointError as error:
                print(f"failed: {job.title}: {error}", file=sys.stderr)
            else:
                made += len(job.runs)
                print(f"made: {job.title}", file=sys.stderr, flush=True)
            interrupts.check()
    except _TimeIsOver:
        print("The time is over.", file=sys.stderr)
    finally:
        progress.close()
        lacking = sum(len(job.runs) for job in jobs)
        print(f"{made} of {lacking} missing runs made, in {config.runs}.")


def main() -> None:
    """Runs from the command line."""
    name = "experiments.campaign"
    with cli.ending(name, "the same command goes on from its last checkpoint."):
        config = cli.parse(name, Config)
        if config.list:
            show(config)
        elif config.dry_run:
            total, known = 0.0, seconds_of(config)
            for job in missing(config):
                total += (minutes := estimate(job, known) / 60.0)
                is_in_time = total <= config.minutes
                print(f"{minutes:7.1f} min  {job.title}{'' if is_in_time else '  *'}")
            print(f"{total:7.1f} min in all; * not within --minutes {config.minutes:g}")
        else:
            make(config)


if __name__ == "__main__":
    main()
