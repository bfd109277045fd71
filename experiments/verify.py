"""Verification and identification of classes that no training has seen (open set).

    python -m experiments.verify
    python -m experiments.verify --dataset lfw_aligned --data-dir DIR

Trains one network with every loss, under one recipe that is not tuned for any of them.
Ends with a table; writes a JSON file and a figure. Killed, and started again with the
same command, it goes on from its last checkpoint.
"""

import pathlib
from typing import Any

import numpy as np

from experiments import (
    _command_line,
    _evaluation,
    _figures,
    _open_set,
    _results,
    _training,
    _verification,
    report,
)
from experiments._jobs import Jobs
from experiments._objectives import METHODS
from experiments._open_set_recipes import MAIN, Config, architecture, of_method, parse


def train(config: Config) -> dict[str, Any]:
    """Trains every method with every seed; writes and returns the results.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    seeds = range(config.seeds)
    with Jobs(config, f"verify-{config.digest('methods', 'seeds')}") as jobs:
        splits = _open_set.load(config.dataset, config.data_dir)
        runs = len(config.methods) * len(seeds) * len(splits)
        jobs.progress.expect(runs * config.steps)
        methods = {
            name: [_run(config, name, seed, splits, jobs) for seed in seeds]
            for name in config.methods
        }
    curves = {
        name: _mean([run.pop("roc") for run in methods[name]]) for name in methods
    }
    found = {
        "data": _sizes(splits),
        "pixels": _without_roc(_verification.measure_pixels(splits)),
        "methods": methods,
        "roc": {"far": _verification.FAR.tolist(), "tar": curves},
    }
    results = _results.save(config, found, jobs.seconds)
    _draw(config, results)
    jobs.clear()
    return results


def _run(
    config: Config, name: str, seed: int, splits: list[_open_set.Split], jobs: Jobs
) -> dict[str, Any]:
    """What is measured of one seed, or was before the experiment was killed."""
    method, recipe = METHODS[name], of_method(config, name)

    def measured(folder: pathlib.Path) -> dict[str, Any]:
        embedded = []
        for number, split in enumerate(splits):
            data, place = split.data, folder / f"split-{number}"
            design = architecture(data.shape)
            setting, (state,) = _training.fit(
                recipe, design, method, data, (seed,), place, jobs.steps()
            )
            sides = [data.test.images]
            sides += [data.train.images] * (config.components is not None)
            found = [_evaluation.embeddings(setting, state, data, x) for x in sides]
            embedded.append(_verification.Embedded(*found))
        return _verification.measure(splits, embedded, config.components)

    steps = len(splits) * config.steps
    return jobs.outcome(f"{name}, seed {seed}", steps, measured)


def _without_roc(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "roc"}


def _mean(curves: list[list[float | None]]) -> list[float | None]:
    """Mean over the runs at every rate that the impostors, the same in all, support."""
    columns = zip(*curves, strict=True)
    return [None if None in c else round(float(np.mean(c)), 4) for c in columns]


def _sizes(splits: list[_open_set.Split]) -> dict[str, Any]:
    """Numbers of classes, images and pairs, as means over the splits."""
    sizes = [
        {
            "train_classes": split.data.classes,
            "train_images": len(split.data.train.labels),
            "test_classes": int(split.data.test.labels.max()) + 1,
            "test_images": len(split.data.test.labels),
            "genuine_pairs": int(split.pairs.same.sum()),
            "impostor_pairs": int((~split.pairs.same).sum()),
        }
        for split in splits
    ]
    means = {key: round(float(np.mean([s[key] for s in sizes]))) for key in sizes[0]}
    return {"splits": len(splits), **means}


def _draw(config: Config, results: dict[str, Any]) -> None:
    drawn = {
        METHODS[name].title: results["roc"]["tar"][name]
        for name in MAIN
        if name in config.methods
    }
    if drawn:
        _figures.roc(config.result("_roc.png"), results["roc"]["far"], drawn)


def main() -> None:
    """Runs from the command line."""
    _command_line.main("experiments.verify", parse, train, report.verification)


if __name__ == "__main__":
    main()
