"""Softmax with and without angular margins, on images (Tables 2.2 to 2.4).

    python -m experiments.classify
    python -m experiments.classify --preset table-2.2 --data-dir DIR

Ends with a table; writes a JSON file and figures. Killed, and started again with the
same command, it goes on from its last checkpoint.
"""

import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments import (
    _checkpoints,
    _data,
    _evaluation,
    _figures,
    _progress,
    _provenance,
    _training,
    report,
)
from experiments._recipes import (
    METHODS,
    Config,
    MethodName,
    architecture,
    parse,
    stretched,
)

# Of Figure 2.2: what is drawn in the plane, and how many training images of it.
_PLANE: tuple[MethodName, ...] = (
    "softmax",
    "l-softmax-2",
    "l-softmax-3",
    "l-softmax-4",
)
_DRAWN = 2_000


class Job(NamedTuple):
    """A method and the seeds that train in one step; in the plane, to be drawn."""

    method: MethodName
    seeds: tuple[int, ...]
    in_plane: bool = False

    def __str__(self):
        seeds = "-".join(map(str, self.seeds[:: max(len(self.seeds) - 1, 1)]))
        return f"{self.method}{' in the plane' * self.in_plane}, seed {seeds}"


def train(config: Config) -> dict[str, Any]:
    """Trains every method with every seed; writes and returns the results.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    started = time.perf_counter()
    data = _data.load(config.dataset, config.data_dir)
    freely = ("methods", "seeds", "plane")
    root = config.checkpoints / f"{config.name}-{config.digest(*freely)}"
    jobs = list(_jobs(config))
    total = sum(len(job.seeds) * _recipe(config, job).steps for job in jobs)
    with tqdm(total=total, unit=" steps", dynamic_ncols=True) as bar:
        outcomes = {job: _run(config, job, data, root, bar) for job in jobs}
    methods: dict[MethodName, list[Any]] = {name: [] for name in config.methods}
    for job, outcome in outcomes.items():
        if not job.in_plane:
            methods[job.method] += outcome
    results = {
        "config": config.without("data_dir", "checkpoints", "results"),
        "methods": methods,
        **_provenance.provenance(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    plane: dict[MethodName, Any] = {
        job.method: out for job, out in outcomes.items() if job.in_plane
    }
    _write(config, results, plane, data.train.labels[:_DRAWN])
    _checkpoints.clear(root)
    return results


def _jobs(config: Config) -> Iterator[Job]:
    together = config.side_by_side
    if together is None:
        # A vmapped convolution takes five times as long on a CPU.
        together = jax.default_backend() != "cpu"
    seeds = tuple(range(config.seeds))
    for name in config.methods:
        yield from [Job(name, seeds)] if together else [Job(name, (s,)) for s in seeds]
    if config.plane:
        yield from (Job(name, (0,), True) for name in _PLANE if name in config.methods)


def _recipe(config: Config, job: Job) -> Config:
    return stretched(config, config.plane_steps) if job.in_plane else config


def _run(
    config: Config, job: Job, data: _data.ImageSet, root: pathlib.Path, bar: tqdm
) -> list[Any]:
    """What the job measures, or has measured before the experiment was killed."""
    config = _recipe(config, job)
    folder = root / str(job).replace(", ", "-").replace(" ", "-")
    advance = _progress.steps_on(bar, len(job.seeds))
    bar.set_description(str(job))

    def measured() -> list[Any]:
        design = architecture(config, data.shape, in_plane=job.in_plane)
        method = METHODS[job.method]
        setting, states = _training.fit(
            config, design, method, data, job.seeds, folder, advance
        )
        if not job.in_plane:
            return [_evaluation.evaluate(setting, state, data) for state in states]
        shown = data.train.images[:_DRAWN]
        features = _evaluation.outputs(setting, states[0], data, shown).embeddings
        return np.round(features.astype(np.float64), 3).tolist()

    outcome, is_new = _checkpoints.remembered(folder / "outcome.json", measured)
    if not is_new:
        advance(config.steps, {})
    return outcome


def _write(
    config: Config,
    results: dict[str, Any],
    plane: dict[MethodName, Any],
    labels: np.ndarray,
) -> None:
    text = json.dumps(results, indent=1) + "\n"
    _checkpoints.write(config.result(".json"), text.encode())
    _figures.psi_curves(config.results / "psi.png")
    if plane:
        _figures.plane(config.result("_plane.png"), plane, labels)


def main() -> None:
    """Runs from the command line."""
    _progress.main(parse, train, report.classification)


if __name__ == "__main__":
    main()
