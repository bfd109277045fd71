"""The table of the study and its curves, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.faces.config import Config


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each margin and rate, with the last accuracies."""
    by_method = _by_method(found)
    first = found[0][1]["metrics"]
    names, several = _names(first), len(by_method) < len(found)
    has_kept = any("kept" in record["metrics"] for _, record in found)
    rows = [["", *(f"{name}, %" for name in names), *["kept, %"] * has_kept]]
    for method, seeds in by_method.items():
        last = [_last(metrics) for metrics in seeds.values()]
        cells = [tables.spread([each[name] for each in last], 2) for name in names]
        if not several:
            pairs = zip(cells, names, strict=True)
            cells = [f"{cell} ± {last[0][f'{x}, error']:.2f}" for cell, x in pairs]
        kept = [100.0 * metrics.get("kept", 1.0) for metrics in seeds.values()]
        rows.append([method, *cells, *[tables.spread(kept, 1)] * has_kept])
    yield from tables.markdown(rows)
    for name in names if "none" in by_method else ():
        accuracies = {
            method: {seed: _last(metrics)[name] for seed, metrics in seeds.items()}
            for method, seeds in by_method.items()
        }
        yield from statistics.verdict("none", accuracies, is_error=False)
    yield ""
    spread = "standard deviation over the seeds" if several else "error over the folds"
    yield (
        f"{first['images']} images of {first['identities']} identities, on"
        f" {first['devices']} devices; {tables.number_of_seeds(found)}; ±"
        f" {spread}. Rule: {first['rule']}."
    )
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Draws losses, and the accuracies on the way; means over the seeds."""
    with plt.style.context("sphax.plots.paper"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.0))
        for method, seeds in _by_method(found).items():
            losses = np.mean([metrics["losses"] for metrics in seeds.values()], axis=0)
            on_the_way = [metrics["verification"] for metrics in seeds.values()]
            places = [each["step"] for each in on_the_way[0]]
            middles = (np.arange(len(losses)) + 0.5) * places[-1] / len(losses)
            left.plot(middles, losses, label=method)
            for name in _names(next(iter(seeds.values()))):
                values = [[each[name] for each in way] for way in on_the_way]
                label = f"{method}, {name}"
                right.plot(places, np.mean(values, axis=0), marker="o", label=label)
        left.set(xlabel="step", ylabel="loss")
        right.set(xlabel="step", ylabel="accuracy, %")
        right.legend()
        figures.save(figure, folder / f"{config.group}-curves.png")


def _by_method(found: Found) -> dict[str, dict[int, dict[str, Any]]]:
    """Metrics by method and seed."""
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    for run, record in found:
        by_method.setdefault(run.method, {})[run.seed] = record["metrics"]
    return by_method


def _names(metrics: dict[str, Any]) -> list[str]:
    """Of the verification sets."""
    return [key for key in _last(metrics) if f"{key}, error" in _last(metrics)]


def _last(metrics: dict[str, Any]) -> dict[str, float]:
    return metrics["verification"][-1]
