"""The tables and the figure of language models and optimizers, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.ngpt.config import METHODS, Config

# Metrics by method, learning rate and seed.
Runs = dict[Any, dict[float, dict[int, dict[str, Any]]]]
# The rows that others are compared with.
_BASES = ("prenorm", "adamw")


def _by_rate(found: Found) -> Runs:
    runs: Runs = {}
    for run, record in found:
        of_method = runs.setdefault(run.config.methods[0], {})
        seeds = of_method.setdefault(run.config.rates[0], {})
        seeds[run.seed] = record["metrics"]
    return {name: dict(sorted(rates.items())) for name, rates in runs.items()}


def _validation(seeds: dict[int, dict[str, Any]]) -> float:
    """The loss by which rates are compared: of the first seed, which all have."""
    return seeds[min(seeds)]["validation"]


def _best(runs: Runs) -> dict[Any, tuple[float, dict[int, dict[str, Any]]]]:
    """The best learning rate of each method of those with most seeds, and these."""
    return {
        name: min(rates.items(), key=lambda item: (-len(item[1]), _validation(item[1])))
        for name, rates in runs.items()
    }


def _curve(seeds: dict[int, dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and losses of the seeds at them."""
    steps = next(iter(seeds.values()))["records"]
    return np.array(steps), np.array([x["curve"] for x in seeds.values()])


def steps_to(loss: float, steps: np.ndarray, curve: np.ndarray) -> float:
    """The step at which a curve first falls to a loss, between records by a line."""
    below = np.flatnonzero(curve <= loss)
    if not len(below):
        return np.inf
    i = int(below[0])
    if i == 0:
        return float(steps[0])
    share = (curve[i - 1] - loss) / (curve[i - 1] - curve[i])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: losses at the best rates, the search, and a sample."""
    runs = _by_rate(found)
    best = _best(runs)
    base: Any = next((name for name in _BASES if name in best), None)
    seeds = sorted({len(seeds) for _, seeds in best.values()})
    number = f"{' to '.join(map(str, seeds))} seed{'s' * (seeds[-1] > 1)}"
    head = ["", f"test loss, nats per byte ({number})", "validation loss"]
    rows = [[*head, "learning rate", "steps to the first row's loss", "parameters"]]
    target = None
    if base is not None:
        target = float(_curve(best[base][1])[1].mean(0)[-1])
    ordered = sorted(best, key=lambda name: name != base)
    for name in ordered:
        rate, of_rate = best[name]
        steps, curves = _curve(of_rate)
        needed = np.inf if target is None else steps_to(target, steps, curves.mean(0))
        rows.append(
            [
                METHODS[name].title,
                tables.spread([x["test"] for x in of_rate.values()], 3),
                tables.spread([x["validation"] for x in of_rate.values()], 3),
                f"{rate:g}",
                f"{needed:.0f}" if np.isfinite(needed) else "not reached",
                f"{next(iter(of_rate.values()))['parameters']:,}",
            ]
        )
    yield from tables.markdown(rows)
    losses = {
        METHODS[name].title: {seed: x["test"] for seed, x in best[name][1].items()}
        for name in ordered
    }
    if base is not None:
        yield from statistics.verdict(METHODS[base].title, losses, is_error=True)
    yield ""
    yield from tables.markdown(_search(runs))
    yield ""
    yield tables.caption(config.command, found)
    sample = best.get("ngpt", (0.0, {}))[1].get(0, {}).get("sample")
    if sample is not None:
        yield from ["", "A sample of nGPT, seed 0, at temperature 0.7:", ""]
        yield from ["```text", *sample.splitlines(), "```"]


def _search(runs: Runs) -> list[list[str]]:
    """Validation losses at all learning rates, the best of each method in bold."""
    places = sorted(
        {round(np.log2(r / METHODS[m].rate)) for m in runs for r in runs[m]}
    )
    rows = [["validation loss, seed 0", *(f"rate x {2.0**i:g}" for i in places)]]
    for name, rates in runs.items():
        middle = METHODS[name].rate
        values = {
            round(np.log2(rate / middle)): _validation(seeds)
            for rate, seeds in rates.items()
        }
        least = min(values.values())
        cells = []
        for i in places:
            text = f"{values[i]:.3f}" if i in values else ""
            cells.append(f"**{text}**" if values.get(i) == least else text)
        rows.append([f"{METHODS[name].title}, rate {middle:g}", *cells])
    return rows


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes losses against steps at the best rates, and against learning rates."""
    runs = _by_rate(found)
    if not runs:
        return
    best = _best(runs)
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
        others = 0
        for name, (_, seeds) in best.items():
            if name in _BASES:
                style: dict[str, Any] = {"color": "black", "lw": 1.8, "zorder": 3}
            else:
                style = {"color": f"C{others}", "lw": 1.2}
                others += 1
            steps, curves = _curve(seeds)
            axes[0].plot(steps, curves.mean(0), label=METHODS[name].title, **style)
            low, high = curves.min(0), curves.max(0)
            axes[0].fill_between(
                steps, low, high, color=style["color"], alpha=0.15, lw=0
            )
            rates = runs[name]
            values = [_validation(of_rate) for of_rate in rates.values()]
            axes[1].plot(list(rates), values, marker="o", ms=3, **style)
        axes[0].set(
            title="validation loss, nats per byte", xlabel="steps", ylim=_limits(best)
        )
        axes[1].set(
            title="validation loss at the end", xlabel="learning rate", xscale="log"
        )
        ends = [_validation(x) for rates in runs.values() for x in rates.values()]
        low = min(ends)
        axes[1].set_ylim(low - 0.05, min(max(ends), low + 1.0) + 0.05)
        axes[1].xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes[1].xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
        axes[1].xaxis.set_minor_formatter(ticker.NullFormatter())
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=3, fontsize=8)
        figures.save(figure, folder / f"{config.group}-losses.png")


def _limits(best: Any) -> tuple[float, float]:
    """From just below the least loss to the largest one a tenth of the way."""
    curves = [_curve(seeds)[1] for _, seeds in best.values()]
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve[:, curve.shape[1] // 10].max()) for curve in curves)
    return low - 0.05, high + 0.05
