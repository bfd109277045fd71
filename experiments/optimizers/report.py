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
    "any matrix, unit neurons, frames": (
        "sgd",
        "muon",
        "riemannian-adam",
        "orthogonal-descent",
    ),
    "fixed norm, fixed singular values": ("adam-h", "muon-h", "pion", "pion-series"),
    "fixed spectral norm, frames": ("spectral-sphere", "muon-sphere", "stiefel-muon"),
}


def _by_method(found: Found) -> dict[Any, dict[int, dict[str, Any]]]:
    """Metrics by method and seed."""
    methods: dict[Any, dict[int, dict[str, Any]]] = {}
    for run, record in found:
        methods.setdefault(run.method, {})[run.seed] = record["metrics"]
    return methods


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: one row for each optimizer, and which differ from Adam."""
    methods = _by_method(found)
    adam = methods.get("adam", {})
    seeds = tables.number_of_seeds(found)
    head = [f"MLP, {config.dataset}", f"test error, % ({seeds})", "minus Adam's"]
    rows = [[*head, "loss", "learning rates chosen", "singular values, change, %"]]
    for name, metrics in methods.items():
        # Seed by seed: both start from the same weights, and see the same batches.
        less = [x["error"] - adam[s]["error"] for s, x in metrics.items() if s in adam]
        is_compared = name != "adam" and len(less) > 1
        rates = sorted({x["rate"] for x in metrics.values()})
        rows.append(
            [
                METHODS[name].title,
                tables.spread([x["error"] for x in metrics.values()], 2),
                tables.spread(less, 2) if is_compared else "",
                tables.spread([x["loss"] for x in metrics.values()], 3),
                f"{rates[0]:g}" + f" to {rates[-1]:g}" * (len(rates) > 1),
                f"{max(x['spectrum'] for x in metrics.values()):.2g}",
            ]
        )
    yield from tables.markdown(rows)
    errors = {
        METHODS[name].title: {seed: x["error"] for seed, x in metrics.items()}
        for name, metrics in methods.items()
    }
    yield from statistics.verdict(METHODS["adam"].title, errors, is_error=True)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes validation errors by learning rate: means over the seeds, and ranges."""
    methods = _by_method(found)
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(
            1, 3, figsize=(8.4, 3.0), sharey=True, layout="constrained"
        )
        for axis, (title, names) in zip(axes, _PANELS.items(), strict=True):
            for place, name in enumerate(("adam", *names)):
                if name not in methods:
                    continue
                values = [x["validation"] for x in methods[name].values()]
                errors, color = np.array(values), "black" if place == 0 else f"C{place}"
                axis.plot(
                    config.rates,
                    errors.mean(0),
                    color=color,
                    marker="o",
                    ms=3,
                    lw=1.2,
                    label=METHODS[name].title,
                )
                ends = errors.min(0), errors.max(0)
                axis.fill_between(config.rates, *ends, color=color, alpha=0.1, lw=0)
            axis.set(title=title, xlabel="learning rate", xscale="log", yscale="log")
            if axis.lines:
                axis.legend(fontsize=7)
        axes[0].set_ylabel("validation error, %")
        axes[0].yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_locator(ticker.NullLocator())
        figures.save(figure, folder / f"{config.group}-rates.png")
