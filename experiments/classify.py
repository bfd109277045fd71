"""Any network with any operator, by softmax with and without margins, on images.

    python -m experiments.classify
    python -m experiments.classify --preset table-2.2 --data-dir DIR
    python -m experiments.classify --preset operators
    python -m experiments.classify --network resnet20 --operator plain tanh-cosine

Ends with a table; writes a JSON file and figures. Killed, and started again with the
same command, it goes on from its last checkpoint.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import (
    _command_line,
    _data,
    _evaluation,
    _figures,
    _results,
    _training,
    report,
)
from experiments._jobs import Jobs
from experiments._methods import METHODS, MethodName
from experiments._recipes import Config, architecture, parse, stretched

# Of Figure 2.2: what is drawn in the plane, and how many training images of it.
_PLANE: tuple[MethodName, ...] = (
    "softmax",
    "l-softmax-2",
    "l-softmax-3",
    "l-softmax-4",
)
_DRAWN = 2_000


class Job(NamedTuple):
    """What trains in one step: seeds of a method and an operator; or what is drawn."""

    operator: str
    method: MethodName
    seeds: tuple[int, ...]
    in_plane: bool = False

    def __str__(self):
        seeds = "-".join(map(str, self.seeds[:: max(len(self.seeds) - 1, 1)]))
        what = f"{self.operator}, {self.method}".removeprefix("plain, ")
        return f"{what}{' in the plane' * self.in_plane}, seed {seeds}"


def train(config: Config) -> dict[str, Any]:
    """Trains all operators and methods, seed by seed; writes and returns the results.

    These have the runs by method, ``methods``, or with other operators than the plain
    convolution by operator and method, ``operators``.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    freely = ("operator", "methods", "seeds", "plane")
    planned = list(_planned(config))
    with Jobs(config, f"{config.name}-{config.digest(*freely)}") as jobs:
        data = _data.load(config.dataset, config.data_dir)
        data = dataclasses.replace(data, gray=config.gray)
        jobs.progress.expect(
            sum(len(job.seeds) * _recipe(config, job).steps for job in planned)
        )
        outcomes = {job: _run(config, job, data, jobs) for job in planned}
    results = _results.save(config, _by_name(config, outcomes), jobs.seconds)
    _draw(config, outcomes, data.train.labels[:_DRAWN])
    jobs.clear()
    return results


def _by_name(config: Config, outcomes: dict[Job, list[Any]]) -> dict[str, Any]:
    """The runs, by method, and where there are other operators by operator first."""
    operators: dict[str, dict[MethodName, list[Any]]] = {
        operator: {name: [] for name in config.methods} for operator in config.operator
    }
    for job, outcome in outcomes.items():
        if not job.in_plane:
            operators[job.operator][job.method] += outcome
    if config.operator == ("plain",):
        return {"methods": operators["plain"]}
    return {"operators": operators}


def _planned(config: Config) -> Iterator[Job]:
    together = config.side_by_side
    if together is None:
        # A vmapped convolution takes five times as long on a CPU.
        together = jax.default_backend() != "cpu"
    seeds = tuple(range(config.seeds))
    runs = [seeds] if together else [(seed,) for seed in seeds]
    for operator in config.operator:
        yield from (Job(operator, name, run) for name in config.methods for run in runs)
    if config.plane:
        first = config.operator[0]
        drawn = (Job(first, name, (0,), True) for name in _PLANE)
        yield from (job for job in drawn if job.method in config.methods)


def _recipe(config: Config, job: Job) -> Config:
    config = dataclasses.replace(config, operator=(job.operator,))
    return stretched(config, config.plane_steps) if job.in_plane else config


def _run(config: Config, job: Job, data: _data.ImageSet, jobs: Jobs) -> list[Any]:
    """What the job measures, or has measured before the experiment was killed."""
    config, runs = _recipe(config, job), len(job.seeds)

    def measured(folder: pathlib.Path) -> list[Any]:
        design = architecture(config, data.shape, in_plane=job.in_plane)
        method = METHODS[job.method]._replace(label_smoothing=config.label_smoothing)
        setting, states = _training.fit(
            config, design, method, data, job.seeds, folder, jobs.steps(runs)
        )
        if not job.in_plane:
            return [_evaluation.evaluate(setting, state, data) for state in states]
        shown = data.train.images[:_DRAWN]
        features = _evaluation.outputs(setting, states[0], data, shown).embeddings
        return np.round(features.astype(np.float64), 3).tolist()

    return jobs.outcome(str(job), runs * config.steps, measured)


def _draw(config: Config, outcomes: dict[Job, Any], labels: np.ndarray) -> None:
    _figures.psi_curves(config.folder / "psi.png")
    plane: dict[MethodName, Any] = {
        job.method: out for job, out in outcomes.items() if job.in_plane
    }
    if plane:
        _figures.plane(config.result("_plane.png"), plane, labels)


def main() -> None:
    """Runs from the command line."""
    _command_line.main("experiments.classify", parse, train, report.classification)


if __name__ == "__main__":
    main()
