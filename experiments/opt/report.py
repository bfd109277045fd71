"""The table and the figure of a study of orthogonal training, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.opt.config import METHODS, Config

_NETWORKS = {"mlp": "MLP", "gcn": "GCN", "pointnet": "PointNet"}
_PANELS = {
    "energy": "energy above the first, %",
    "loss": "training loss",
    "error": "test error, %",
}
# Plain training is black and on top: all others are compared with it.
_STYLES: dict[str, dict[str, Any]] = {
    name: {"color": f"C{place - 1}", "lw": 1.1} for place, name in enumerate(METHODS)
} | {"plain": {"color": "black", "lw": 1.6, "zorder": 3}}
# Percent of the energy within which lines cannot be distinguished from zero.
_ZERO = 0.02


def _by_method(found: Found) -> dict[Any, dict[int, dict[str, Any]]]:
    """Metrics by method and seed."""
    methods: dict[Any, dict[int, dict[str, Any]]] = {}
    for run, record in found:
        methods.setdefault(run.method, {})[run.seed] = record["metrics"]
    return methods


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: one row for each method, and which differ from plain."""
    methods = _by_method(found)
    plain = methods.get("plain", {})
    title = f"{_NETWORKS.get(config.preset, 'CNN')}, {config.dataset}"
    head = [title, f"error, % ({tables.number_of_seeds(found)})", "minus plain's"]
    rows = [[*head, "loss", "energy, %", "largest change, %"]]
    for name, seeds in methods.items():
        # Seed by seed: both start from the same weights, and see the same batches.
        less = [x["error"] - plain[s]["error"] for s, x in seeds.items() if s in plain]
        is_compared = name != "plain" and len(less) > 1
        # A zero that is negative by rounding has no sign.
        energies = [round(x["energy"], 2) + 0.0 for x in seeds.values()]
        energy = tables.spread(energies, 2).replace("-0.00", "0.00")
        largest = [x["largest"] for x in seeds.values() if "largest" in x]
        rows.append(
            [
                METHODS[name].title,
                tables.spread([x["error"] for x in seeds.values()], 2),
                tables.spread(less, 2) if is_compared else "",
                tables.spread([x["loss"] for x in seeds.values()], 3),
                energy,
                f"{max(largest):.2g}" if largest else "",
            ]
        )
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    yield from tables.markdown(rows)
    errors = {
        METHODS[name].title: {seed: x["error"] for seed, x in seeds.items()}
        for name, seeds in methods.items()
    }
    yield from statistics.verdict("plain", errors, is_error=True)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes energies, losses and errors: means over the seeds, and their range."""
    methods = _by_method([x for x in found if "curves" in x[1]["metrics"]])
    if not methods:
        return
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.1), layout="constrained")
        for axis, (key, label) in zip(axes, _PANELS.items(), strict=True):
            zeros = 0
            for name, seeds in methods.items():
                curves = np.array([x["curves"][key] for x in seeds.values()])
                steps = next(iter(seeds.values()))["records"][-curves.shape[1] :]
                style = _STYLES[name]
                axis.plot(steps, curves.mean(0), label=METHODS[name].title, **style)
                low, high = curves.min(0), curves.max(0)
                color = style["color"]
                axis.fill_between(steps, low, high, color=color, alpha=0.12, lw=0)
                zeros += key == "energy" and bool(np.abs(curves).max() < _ZERO)
            note = f"\n{zeros} of {len(methods)} lines are within {_ZERO} of zero"
            axis.set(title=label, xlabel="steps" + note * (zeros > 1))
            if key != "energy":
                axis.set_yscale("log")
                axis.yaxis.set_minor_locator(ticker.LogLocator(subs=(2.0, 5.0)))
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("{x:g}")
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, fontsize=8)
        figures.save(figure, folder / f"{config.group}-curves.png")
