"""The tables and the figures of the study of Omniglot, from stored runs."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found, unpack
from experiments.omniglot.config import PIXELS, Config
from experiments.omniglot.losses import LOSSES

_MEASURES = {"tar": "TAR at FAR = 1 %, %", "one_shot": "20-way one-shot, %"}
_BASE = "softmax"
# Metrics by seed.
_Seeds = Mapping[int, dict[str, Any]]


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: of a search the chosen values, of a test the errors."""
    by_loss: dict[str, dict[int, dict[str, Any]]] = {}
    for run, record in found:
        by_loss.setdefault(run.method, {})[run.seed] = record["metrics"]
    data = next((x for s in by_loss.values() for x in s.values() if "data" in x), None)
    searched = config.preset == "search"
    yield from (_searched(by_loss) if searched else _tested(found, by_loss))
    if data is not None:
        sizes = data["data"]
        yield ""
        yield (
            f"Trained on {sizes['train_images']} images of {sizes['train_classes']}"
            f" classes, {'validated' if searched else 'tested'} on"
            f" {sizes['test_images']} of {sizes['test_classes']} characters of"
            f" {sizes['alphabets']} other alphabets; {sizes['pairs'] // 2} genuine and"
            f" as many impostor pairs."
        )
    yield tables.caption(config.command, found)


def _searched(by_loss: Mapping[str, _Seeds]) -> Iterator[str]:
    """A row for each loss: the chosen trial, and the validation errors of others."""
    lines = [["", "learning rate", "margin", "scale", "EER, %", "default's", "worst"]]
    for name, seeds in by_loss.items():
        trials = seeds[0]["trials"]
        known = [trial for trial in trials if trial["eer"] is not None]
        best = min(known, key=lambda trial: trial["eer"])
        loss, (rate, margin, scale) = LOSSES[name], best["choice"]
        first, worst = trials[0]["eer"], max(trial["eer"] for trial in known)
        cells = [
            f"{rate:.2g}",
            f"{margin:.2g}" if loss.margin else "",
            f"{scale:.2g}" if loss.scale else "",
            f"{best['eer']:.2f}",
            "" if first is None else f"{first:.2f}",
            f"{worst:.2f}",
        ]
        lines.append([loss.title, *cells])
    yield from tables.markdown(lines)


def _tested(found: Found, by_loss: dict[str, Any]) -> Iterator[str]:
    """A row for each loss: the errors, and their intervals."""
    pixels = by_loss.get(PIXELS, {}).get(0)
    trained = {name: seeds for name, seeds in by_loss.items() if name != PIXELS}
    head = "EER, %"
    if trained:
        among = [(run, record) for run, record in found if run.method in trained]
        head += f" ({tables.number_of_seeds(among)})"
    less = f"less {LOSSES[_BASE].title.lower()}'s"
    lines = [["", head, "characters", "alphabets", less, *_MEASURES.values()]]
    if pixels is not None:
        intervals = [_interval(_samples({0: pixels}, key)) for key in _GROUPS]
        others = [f"{pixels[key]:.2f}" for key in _MEASURES]
        lines.append(
            ["Pixels, no network", f"{pixels['eer']:.2f}", *intervals, "", *others]
        )
    for name, seeds in trained.items():
        eer = tables.spread([x["eer"] for x in seeds.values()], 2)
        intervals = [_interval(_samples(seeds, key)) for key in _GROUPS]
        others = [tables.spread([x[k] for x in seeds.values()], 2) for k in _MEASURES]
        difference = ""
        if name != _BASE and _BASE in trained:
            base = _samples(trained[_BASE], "alphabets")
            difference = _interval(_samples(seeds, "alphabets") - base)
        lines.append([LOSSES[name].title, eer, *intervals, difference, *others])
    yield from tables.markdown(lines)
    rows = {
        LOSSES[name].title: {seed: x["eer"] for seed, x in seeds.items()}
        for name, seeds in trained.items()
    }
    # Against no normalization at all, and against normalization without a margin.
    for base in (_BASE, "normface"):
        yield from statistics.verdict(LOSSES[base].title, rows, is_error=True)


_GROUPS = ("characters", "alphabets")


def _samples(seeds: _Seeds, key: str) -> np.ndarray:
    """Resampled errors, means over the seeds; the same resamples for all losses."""
    found = np.array([unpack(x[key]) for x in seeds.values()], np.float64)
    return np.mean(found, axis=0)


def _interval(samples: np.ndarray) -> str:
    """The middle 95 % of resampled values."""
    low, high = np.quantile(samples, [0.025, 0.975])
    sign = "+" if np.any(samples < 0.0) else ""
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Loss and error over the training: of the chosen trials, or all seeds."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for run, record in found:
        metrics = record["metrics"]
        if run.method == PIXELS:
            continue
        if config.preset == "search":
            known = [x for x in metrics["trials"] if x["eer"] is not None]
            metrics = min(known, key=lambda trial: trial["eer"])
        curves.setdefault(run.method, []).append(metrics)
    if not curves:
        return
    points = len(next(iter(curves.values()))[0]["loss_in"])
    done = 100.0 * (1.0 + np.arange(points)) / points
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), layout="constrained")
        for name, seeds in curves.items():
            losses = np.array([x["loss_in"] for x in seeds])
            errors = np.array([x["eer_at"] for x in seeds])
            _band(axes[0], done - 50.0 / points, losses / losses[:, :1], None)
            _band(axes[1], done, errors[:, 1:], LOSSES[name].title)
        kind = "validation" if config.preset == "search" else "test"
        axes[0].set(ylabel="training loss, share of the first")
        axes[1].set(ylabel=f"{kind} EER, %")
        for axis in axes:
            axis.set(xlabel=f"% of {found[-1][0].config.steps} steps", yscale="log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = axis.get_ylim()
            # Over more than a decade, these labels would cover each other.
            axis.yaxis.set_minor_formatter("{x:g}" if high < 10.0 * low else "")
            axis.grid(color="0.92", lw=0.6)
        figure.legend(loc="outside right center", fontsize=8)
        figures.save(figure, folder / f"{config.group}-curves.png")


def _band(axis: Any, x: np.ndarray, seeds: np.ndarray, label: str | None) -> None:
    """The mean over the seeds, and a band from the lowest to the highest."""
    (line,) = axis.plot(x, seeds.mean(0), lw=1.4, label=label)
    if len(seeds) > 1:
        axis.fill_between(
            x, seeds.min(0), seeds.max(0), color=line.get_color(), alpha=0.15
        )
