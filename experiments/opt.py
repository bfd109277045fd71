"""Orthogonal training and its descendants: what they do to energies, loss, and error.

    python -m experiments.opt
    python -m experiments.opt --dataset mnist --data-dir DIR
    python -m experiments.opt --preset cnn-6 --dataset cifar100 --data-dir DIR
    python -m experiments.opt --problems gcn pointnet

All methods begin with the same weights of a seed, and see the same batches. Ends with
tables; writes a JSON file and a figure. Killed, and started again with the same
command, it goes on from its last checkpoint.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import (
    _command_line,
    _comparison,
    _opt_curves,
    _opt_training,
    _progress,
    _results,
)
from experiments._jobs import Jobs
from experiments._opt_methods import METHODS, MethodName
from experiments._opt_problems import Problem
from experiments._opt_settings import Config, ProblemName


def train(config: Config) -> dict[str, Any]:
    """Trains by every method; writes and returns the results, and draws them.

    Raises:
        DatasetNotFoundError: If images, a graph or point clouds are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    steps = sum(config.recipe(name, "plain").steps for name in config.chosen)
    with Jobs(config, f"opt-{config.digest}") as jobs:
        jobs.progress.expect(config.runs * len(config.methods) * steps)
        problems: dict[ProblemName, Problem] = {
            name: config.load(name) for name in config.chosen
        }
        found = {
            name: _learned(config, name, problem, jobs)
            for name, problem in problems.items()
        }
    results = _results.save(config, {"problems": found}, jobs.seconds)
    _opt_curves.draw(config.result(".png"), results["problems"])
    jobs.clear()
    return results


def _learned(
    config: Config, name: ProblemName, problem: Problem, jobs: Jobs
) -> dict[str, Any]:
    """The runs of one problem, by method, and how they were trained."""
    runs = {
        method: [
            _run(config, name, problem, method, seed, jobs)
            for seed in range(config.runs)
        ]
        for method in config.methods
    }
    recipe = config.recipe(name, config.methods[0])
    return {
        "title": problem.title,
        "recipe": recipe.without("method"),
        "every": recipe.every,
        "runs": {method: _together(own) for method, own in runs.items()},
    }


def _run(
    config: Config,
    name: ProblemName,
    problem: Problem,
    method: MethodName,
    seed: int,
    jobs: Jobs,
) -> dict[str, Any]:
    """What is measured of a run, or was before the experiment was killed."""
    recipe = config.recipe(name, method)

    def measured(folder: pathlib.Path) -> dict[str, Any]:
        curves = _opt_training.fit(problem, recipe, seed, folder, jobs.steps())
        above = 100.0 * (curves.energy / curves.energy[0] - 1.0)
        return {
            "loss": curves.loss.tolist(),
            "error": curves.error.tolist(),
            "energy": above.mean(1).tolist(),
            "largest": float(np.abs(above).max()),
        }

    return jobs.outcome(f"{name}, {method}, seed {seed}", recipe.steps, measured)


def _together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The ends of all seeds, and their mean curves."""
    curves = ("loss", "error", "energy")
    return {
        **{key: [run[key][-1] for run in runs] for key in curves},
        "largest": max(run["largest"] for run in runs),
        "curves": {
            key: np.mean([run[key] for run in runs], axis=0).round(5).tolist()
            for key in curves
        },
    }


def tables(results: dict[str, Any]) -> Iterator[str]:
    """A Markdown table for each problem, one row for each method, and its verdict."""
    for problem in results["problems"].values():
        yield from _progress.markdown([*_rows(problem)])
        errors = {
            METHODS[name].title: own["error"] for name, own in problem["runs"].items()
        }
        yield from _comparison.verdict("plain", errors, is_error=True)
        yield ""


def _rows(problem: dict[str, Any]) -> Iterator[list[str]]:
    runs = problem["runs"]
    seeds = max(len(run["error"]) for run in runs.values())
    is_paired = "plain" in runs and seeds > 1
    head = [problem["title"], f"error, % ({seeds} seeds)"]
    head += ["less plain's"] * is_paired
    yield [*head, "loss", "energy, %", "largest change, %"]
    for name, run in runs.items():
        cells = [METHODS[name].title, _progress.spread(run["error"], 2)]
        if is_paired:
            # Seed by seed: both start from the same weights, and see the same batches.
            less = np.subtract(run["error"], runs["plain"]["error"])
            cells.append("" if name == "plain" else _progress.spread(less, 2))
        # What is zero but for its rounding has no sign.
        energies = [round(energy, 2) + 0.0 for energy in run["energy"]]
        cells += [_progress.spread(run["loss"], 3), _progress.spread(energies, 2)]
        yield [*cells, f"{run['largest']:.2g}"]


def main() -> None:
    """Runs from the command line."""
    name = "experiments.opt"
    _command_line.main(name, lambda: _command_line.parse(name, Config), train, tables)


if __name__ == "__main__":
    main()
