"""Regularisers that keep neurons apart: what they do to energies, and to the error.

    python -m experiments.energy
    python -m experiments.energy --dataset cifar10 --data-dir DIR
    python -m experiments.energy --preset cnn-9 --dataset cifar100 --data-dir DIR

Every regulariser is a part of the optimiser's chain, before the momentum; all else of
the training is the same for all. Ends with a table; writes a JSON file and a figure.
Killed, and started again with the same command, it goes on from its last checkpoint.
"""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import (
    _command_line,
    _comparison,
    _data,
    _energies,
    _energy_curves,
    _evaluation,
    _methods,
    _progress,
    _published,
    _results,
    _training,
)
from experiments._energy_recipes import Config
from experiments._jobs import Jobs
from experiments._regularizers import regularizer

_ENERGIES = {
    "full": "hidden, full space",
    "half": "hidden, half space",
    "output": "output, full space",
}


class Shared(NamedTuple):
    """What all runs of one experiment have in common."""

    config: Config
    data: _data.ImageSet
    jobs: Jobs


def train(config: Config) -> dict[str, Any]:
    """Trains with every regulariser; writes and returns the results, and draws them.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    plan = config.plan
    total = plan.seeds * sum(config.run(name).steps for name in plan.regularizers)
    with Jobs(config, f"energy-{config.digest}") as jobs:
        jobs.progress.expect(total)
        shared = Shared(config, _data.load(config.dataset, config.data_dir), jobs)
        runs = {
            name: [_outcome(shared, name, seed) for seed in range(plan.seeds)]
            for name in plan.regularizers
        }
    results = _save(config, runs, jobs.seconds)
    _energy_curves.draw(config.result(".png"), results)
    jobs.clear()
    return results


def _outcome(shared: Shared, name: str, seed: int) -> dict[str, Any]:
    """What is measured of a run, or was before the experiment was killed."""
    config, data, jobs = shared
    recipe = config.run(name)

    def measured(folder: pathlib.Path) -> dict[str, Any]:
        setting, (state,) = _training.fit(
            recipe,
            config.design(data.shape),
            _methods.METHODS["softmax"]._replace(title=regularizer(name).title),
            data,
            (seed,),
            folder,
            jobs.steps(),
        )
        # Without what the regulariser keeps, so that one compiled function serves all.
        bare = state._replace(optimizer=())
        return {
            "error": _evaluation.evaluate(setting, bare, data)["error"],
            **_of_training(state),
        }

    return jobs.outcome(f"{name}, seed {seed}", recipe.steps, measured)


def _of_training(state: _training.State) -> dict[str, Any]:
    """Energies during the training, at its end, and what they cannot fall below."""
    params, (kept, *_) = jax.device_get((state.params, state.optimizer))
    last = jax.device_get(_energies.of_params(params))
    values = {name: np.vstack([kept.values[name], last[name]]) for name in last}
    curves = _energies.excess(values, params)
    return {
        "curves": {key: np.round(curve, 4).tolist() for key, curve in curves.items()},
        "least": _energies.least(params),
    }


def _save(
    config: Config, runs: dict[str, list[dict[str, Any]]], seconds: float
) -> dict[str, Any]:
    """Writes what was measured, with its provenance; returns all that is written."""
    recipe = config.run("decay")
    found = {
        "plan": config.plan._asdict(),
        "recipe": recipe.without("regularizer", "seeds", *_results.ELSEWHERE),
        "least": next(iter(runs.values()))[0]["least"],
        "runs": {
            name: {
                "error": [run["error"] for run in own],
                "excess": {
                    key: [run["curves"][key][-1] for run in own] for key in _ENERGIES
                },
                "curves": {
                    key: np.mean([run["curves"][key] for run in own], 0).tolist()
                    for key in _ENERGIES
                },
                "steps": config.run(name).steps,
                "every": config.run(name).every,
            }
            for name, own in runs.items()
        },
    }
    return _results.save(config, found, seconds)


def tables(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the results, one row for each regulariser, and its verdict."""
    runs, seeds = results["runs"], results["plan"]["seeds"]
    official = {}
    if results["config"]["preset"] == "cnn-9":
        official = _published.ENERGIES.get(results["config"]["dataset"], {})
    is_paired = "decay" in runs and seeds > 1
    head = ["", f"error, % ({seeds} seeds)", *["less decay's"] * is_paired]
    rows = [[*head, *_ENERGIES.values(), *["official error, %"] * bool(official)]]
    for name, run in runs.items():
        cells = [regularizer(name).title, _progress.spread(run["error"], 2)]
        if is_paired:
            # Seed by seed: both start from the same weights, and see the same batches.
            less = np.subtract(run["error"], runs["decay"]["error"])
            cells.append("" if name == "decay" else _progress.spread(less, 2))
        cells += [_progress.spread(run["excess"][key], 2) for key in _ENERGIES]
        known = f"{100.0 - official[name].final:.2f}" if name in official else ""
        rows.append(cells + [known] * bool(official))
    least = [f"{results['least'][key]:.2f}" for key in _ENERGIES]
    before = [""] * (1 + is_paired)
    rows.append(["*no neurons fall below*", *before, *least, *[""] * bool(official)])
    yield from _progress.markdown(rows)
    errors = {regularizer(name).title: run["error"] for name, run in runs.items()}
    yield from _comparison.verdict("weight decay", errors, is_error=True)


def main() -> None:
    """Runs from the command line."""
    name = "experiments.energy"
    _command_line.main(name, lambda: _command_line.parse(name, Config), train, tables)


if __name__ == "__main__":
    main()
