"""Robustness of decoupled networks against adversarial attacks.

    python -m experiments.robustness
    python -m experiments.robustness --dataset cifar10 --data-dir DIR

Trains every operator naturally and on attacks, and attacks what comes out: white-box by
FGSM, BIM and PGD, black-box by images made against a plain network of another seed that
was trained in the same way. Then asks whether the attacks could do their work: where
the gradient is masked, a network withstands them without being robust. Killed, and
started again with the same command, it goes on from its last checkpoint.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments import (
    _attackers,
    _command_line,
    _data,
    _masking,
    _methods,
    _networks,
    _operators,
    _progress,
    _results,
    _robustness,
    _robustness_figures,
    _training,
)
from experiments._jobs import Jobs
from experiments._robustness_recipes import Config, TrainingName

# Of the plain networks that attacks are transferred from: no other run has it.
_SOURCE_SEED = 10_000
METHOD = _methods.METHODS["softmax"]


_TITLES = {"natural": "Natural training", "adversarial": "Adversarial training"}


class Job(NamedTuple):
    """One training of one network."""

    training: TrainingName
    operator: str
    seed: int

    def __str__(self):
        return f"{self.operator}, {self.training}, seed {self.seed}"


class Shared(NamedTuple):
    """What all runs of one experiment have in common."""

    config: Config
    data: _data.ImageSet
    jobs: Jobs


def train(config: Config) -> dict[str, Any]:
    """Trains and attacks everything; writes and returns the results, and draws them.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    size = config.size
    runs = len(config.trainings) * (len(size.operators) * size.seeds + 1)
    with Jobs(config, f"robustness-{config.digest}") as jobs:
        jobs.progress.expect(runs * size.steps)
        data = _data.load(config.dataset, config.data_dir)
        if size.images > len(data.test.labels):
            raise ValueError(
                f"--images must be at most {len(data.test.labels)}, the number of test"
                f" images, got {size.images}."
            )
        shared = Shared(config, data, jobs)
        models: dict[TrainingName, Any] = {
            training: _all(shared, training) for training in config.trainings
        }
    results = _save(config, models, jobs.seconds)
    _draw(config, results)
    jobs.clear()
    return results


def _all(shared: Shared, training: TrainingName) -> dict[str, list[Any]]:
    """The outcomes of a training, by operator and seed."""
    size = shared.config.size

    @functools.cache
    def transferred() -> _robustness.Transfer:
        source = _target(shared, Job(training, "plain", _SOURCE_SEED))
        config = shared.config
        return _robustness.transfer(source, config.threat, config.checked)

    return {
        operator: [
            _outcome(shared, Job(training, operator, seed), transferred)
            for seed in range(size.seeds)
        ]
        for operator in size.operators
    }


def _outcome(
    shared: Shared, job: Job, transferred: Callable[[], _robustness.Transfer]
) -> dict[str, Any]:
    """What is measured of a run, or was before the experiment was killed."""
    config, _, jobs = shared

    def measured(folder: pathlib.Path) -> dict[str, Any]:
        del folder
        others = transferred()
        target = _target(shared, job)
        jobs.progress.show("under attack")
        return _robustness.measure(target, config.threat, others, config.checked)

    return jobs.outcome(str(job), config.size.steps, measured)


def _target(shared: Shared, job: Job) -> _attackers.Target:
    """A trained model, and the images on which it is attacked."""
    config, data, jobs = shared
    run, size = config.run(job.operator), config.size
    # Also of the network that attacks come from, which has no outcome of its own.
    jobs.progress.begin(str(job))
    perturb = _attackers.natural
    if job.training == "adversarial":
        perturb = _attackers.adversarial(size.eps, config.inner_steps)
    setting, (state,) = _training.fit(
        run,
        _networks.design("small", data.shape, 1.0),
        METHOD,
        data,
        (job.seed,),
        jobs.folder(str(job)),
        jobs.steps(),
        perturb,
    )
    model = _attackers.classifier(setting, state, data.mean)
    images = data.test.images[: size.images].astype(np.float32) / 255.0
    return _attackers.Target(model, images, data.test.labels[: size.images], run.batch)


def _save(config: Config, models: dict[TrainingName, Any], seconds: float) -> Any:
    """Writes what was measured, with its provenance; returns all that is written."""
    recipe = config.run("plain")
    found = {
        "size": config.size._asdict(),
        "recipe": recipe.without("operator", "seeds", *_results.ELSEWHERE),
        "radii": _robustness.RADII,
        "steps": _masking.STEPS,
        "models": models,
    }
    return _results.save(config, found, seconds)


def _draw(config: Config, results: dict[str, Any]) -> None:
    runs = {
        _TITLES[training]: {
            _operators.operator(name).title: runs for name, runs in operators.items()
        }
        for training, operators in results["models"].items()
    }
    radii = [radius * config.size.eps for radius in (0.0, *_robustness.RADII)]
    curves, surfaces = config.result("_curves.png"), config.result("_surface.png")
    _robustness_figures.curves(curves, runs, radii, _masking.STEPS)
    _robustness_figures.surfaces(surfaces, runs, _masking.REACH)


def tables(results: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the results: accuracies under attack, and the checks."""
    seeds, eps = results["size"]["seeds"], results["size"]["eps"]
    accuracy = functools.partial(_progress.spread, digits=1)
    yield f"Accuracy, % (seeds: {seeds}; eps = {eps:.3g}):"
    yield ""
    yield from _table(results, "accuracy", _robustness.ATTACKS, accuracy)
    yield ""
    yield "Checks, the largest value over the seeds; bold if it does not pass:"
    yield ""
    yield from _table(results, "checks", _masking.TITLES, _check)


def _table(
    results: dict[str, Any],
    key: str,
    columns: Mapping[str, str],
    cell: Callable[[list[Any]], str],
) -> Iterator[str]:
    """A row for each training and operator, a column for each entry of ``key``."""
    rows = [["training", "operator", *columns.values()]]
    for training, operators in results["models"].items():
        for name, runs in operators.items():
            cells = [cell([run[key][column] for run in runs]) for column in columns]
            rows.append([training, _operators.operator(name).title, *cells])
    return _progress.markdown(rows)


def _check(values: list[dict[str, Any]]) -> str:
    largest = max(value["value"] for value in values)
    return f"{largest:.1f}" if largest <= values[0]["limit"] else f"**{largest:.1f}**"


def main() -> None:
    """Runs from the command line."""
    name = "experiments.robustness"
    _command_line.main(name, lambda: _command_line.parse(name, Config), train, tables)


if __name__ == "__main__":
    main()
