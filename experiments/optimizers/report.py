"""The table and the figure of the study of optimizers, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.optimizers.config import METHODS, Config, MethodName

# Adam, with which all others are compared, is in each of them.
_PANELS: dict[str, tuple[MethodName, ...]] = {
    "baselines": (
        "sgd",
        "muon",
        "riemannian-adam",
        "orthogonal-descent",
    ),
    "norm or singular values fixed": ("adam-h", "muon-h", "pion", "pion-series"),
    "spectral norm fixed, and frames": (
        "spectral-sphere",
        "muon-sphere",
        "stiefel-muon",
    ),
}


def _by_method(found: Found) -> dict[Any, dict[int, dict[str, np.ndarray]]]:
    """Metrics by method and seed, each ``[rates]``."""
    methods: dict[Any, dict[int, dict[str, np.ndarray]]] = {}
    for run, record in found:
        metrics = record["metrics"].items()
        arrays = {name: np.array(values, np.float64) for name, values in metrics}
        methods.setdefault(run.method, {})[run.seed] = arrays
    return methods


def best_rate(seeds: dict[int, dict[str, np.ndarray]]) -> int:
    """Place of the lowest mean validation error; of several, the first."""
    return int(np.argmin(np.mean([x["validation"] for x in seeds.values()], axis=0)))


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each optimizer, and which differ significantly."""
    methods = _by_method(found)
    best = {name: best_rate(seeds) for name, seeds in methods.items()}
    errors = {
        name: {seed: float(x["error"][best[name]]) for seed, x in seeds.items()}
        for name, seeds in methods.items()
    }
    adam = errors.get("adam", {})
    head = f"test error, % ({tables.number_of_seeds(found)})", "minus Adam's"
    head = [f"MLP, {config.dataset}", "learning rate", "validation error, %", *head]
    rows = [[*head, "loss", "singular values, change, %"]]
    for name, seeds in methods.items():
        # Seed by seed: both see the same batches.
        less = [error - adam[x] for x, error in errors[name].items() if x in adam]
        at_best = {
            key: [x[key][best[name]] for x in seeds.values()]
            for key in ("validation", "loss", "spectrum")
        }
        change = max(at_best["spectrum"])
        rows.append(
            [
                METHODS[name].title,
                f"{config.rates[best[name]]:g}",
                tables.spread(at_best["validation"], 2),
                tables.spread([*errors[name].values()], 2),
                tables.spread(less, 2) if name != "adam" and len(less) > 1 else "",
                tables.spread(at_best["loss"], 3),
                f"{change:.0f}" if change >= 10.0 else f"{change:.2g}",
            ]
        )
    yield from tables.markdown(rows)
    by_title = {METHODS[name].title: values for name, values in errors.items()}
    yield from _verdict(by_title)
    yield ""
    yield tables.caption(config.command, found)


def _verdict(errors: dict[str, dict[int, float]]) -> Iterator[str]:
    """Which rows differ from Adam, and which from Muon: one family of tests."""
    differences = {
        base: {
            title: statistics.paired(values, errors[base])
            for title, values in errors.items()
            if title != base and len(values.keys() & errors[base].keys()) > 1
        }
        for base in (METHODS["adam"].title, METHODS["muon"].title)
        if base in errors
    }
    # Each pair is tested once.
    differences.get("Muon", {}).pop("Adam", None)
    signs = statistics.signs(
        {f"{base}/{x}": rows[x] for base, rows in differences.items() for x in rows}
    )
    for base, rows in differences.items():
        if not rows:
            continue
        found = {title: signs[f"{base}/{title}"] for title in rows}
        better, worse = (statistics.listed(rows, found, sign) for sign in (-1, 1))
        yield ""
        yield (
            f"Significantly different from the row {base!r} {statistics.RULE}: better:"
            f" {better}; worse: {worse}."
        )


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes validation errors by learning rate, means over the seeds."""
    methods = _by_method(found)
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            1, 3, figsize=(8.4, 3.0), sharey=True, layout="constrained"
        )
        for axis, (title, names) in zip(axes, _PANELS.items(), strict=True):
            for place, name in enumerate(("adam", *names)):
                if name not in methods:
                    continue
                errors = [x["validation"] for x in methods[name].values()]
                color, label = (
                    "black" if place == 0 else f"C{place}",
                    METHODS[name].title,
                )
                style: Any = {"color": color, "marker": "o", "ms": 3, "lw": 1.2}
                axis.plot(config.rates, np.mean(errors, axis=0), label=label, **style)
            axis.set(title=title, xlabel="learning rate", xscale="log", yscale="log")
            axis.xaxis.set_major_formatter("{x:g}")
            if axis.lines:
                axis.legend(fontsize=7)
        axes[0].set_ylabel("validation error, %")
        axes[0].yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_locator(ticker.NullLocator())
        figures.save(figure, folder / f"{config.group}-rates.png")
