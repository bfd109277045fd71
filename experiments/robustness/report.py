"""The tables and figures of the robustness study, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.robustness.config import OWN, RADII, REACH, STEPS, Config, title

_ATTACKS = {
    "clean": "no attack",
    "noise": "noise",
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "margin": "PGD on margin",
    "transfer": "black-box",
    "all": "worst of all",
}
# Title, and the largest value that passes: points of accuracy, percent in the last two.
_CHECKS = {
    "noise": ("FGSM above noise", 2.0),
    "iteration": ("BIM above FGSM", 2.0),
    "steps": ("rise with steps", 2.0),
    "transfer": ("PGD above transfer", 2.0),
    "range": ("left at eps = 1", 2.0),
    "direction": ("noise steeper, %", 10.0),
}
# Curves of operators nearly coincide: dashes of all show where they do.
_LAYOUT: Any = {"squeeze": False, "layout": "constrained"}
_LINES = ("-", (0, (5, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)), "--")

_Rows = dict[str, dict[str, dict[int, dict[str, Any]]]]  # by training, operator, seed


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: accuracies under attack, which differ, and the checks."""
    accuracies = [["training", "operator", *_ATTACKS.values()]]
    checks = [["training", "operator", *(title for title, _ in _CHECKS.values())]]
    for training, operators in _rows(found).items():
        for name, runs in operators.items():
            accuracies.append([training, name])
            for key in _ATTACKS:
                values = [run["accuracy"][key] for run in runs.values()]
                accuracies[-1].append(tables.spread(values, 1))
            checks.append([training, name])
            for key, (_, limit) in _CHECKS.items():
                largest = max(run["checks"][key] for run in runs.values())
                text = f"{largest:.1f}"
                checks[-1].append(text if largest <= limit else f"**{text}**")
    seeds = tables.number_of_seeds(found)
    yield from (f"Accuracy, % ({seeds}; eps = {config.eps:.3g}):", "")
    yield from tables.markdown(accuracies)
    yield from _verdict(_rows(found))
    yield from _certified(_rows(found))
    text = "Checks, the largest value over the seeds; bold if it does not pass:"
    yield from ("", text, "")
    yield from tables.markdown(checks)
    yield ""
    yield tables.caption(config.command, found)


def _rows(found: Found) -> _Rows:
    rows: _Rows = {}
    for run, record in found:
        operators = rows.setdefault(run.config.trainings[0], {})
        name = title(run.config.operators[0])
        operators.setdefault(name, {})[run.seed] = record["metrics"]
    return rows


def _verdict(rows: _Rows) -> Iterator[str]:
    """Which operators differ from the plain one of their training, worst of all."""
    plain, differences = title("plain"), {}
    for training, operators in rows.items():
        worst = {
            name: {seed: run["accuracy"]["all"] for seed, run in runs.items()}
            for name, runs in operators.items()
        }
        base = worst.pop(plain, {})
        differences |= {
            f"{name}, {training}": statistics.paired(values, base)
            for name, values in worst.items()
            if len(values.keys() & base.keys()) >= 2
        }
    if differences:
        signs = statistics.signs(differences)
        better, worse = (statistics.listed(differences, signs, x) for x in (1, -1))
        yield ""
        yield (
            f"Under the worst of all attacks, compared with {plain!r} of the same"
            f" training {statistics.RULE}, significantly better: {better}; worse:"
            f" {worse}. The others do not differ significantly."
        )


def _certified(rows: _Rows) -> Iterator[str]:
    """What no attack can lower, beside what the attacks left."""
    radii = "36/255", "72/255", "108/255", "eps in every pixel"
    lines = [["training", "operator", "no attack", *radii, "worst of all"]]
    for training, operators in rows.items():
        runs = operators.get(title(OWN), {}).values()
        ends = [(x["accuracy"]["clean"], x["accuracy"]["all"]) for x in runs]
        found = [
            [x, *run["certified"], y] for (x, y), run in zip(ends, runs, strict=True)
        ]
        if found:
            values = [tables.spread(x, 1) for x in zip(*found, strict=True)]
            lines.append([training, title(OWN), *values])
    if lines[1:]:
        yield from ("", "Certified accuracy, % (radii in the Euclidean norm):", "")
        yield from tables.markdown(lines)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes accuracies by radius and steps, and the loss around the images."""
    rows = _rows(found)
    with plt.style.context("sphax.plots.paper"):
        figures.save(_curves(config, rows), folder / f"{config.group}-curves.png")
        figures.save(_surfaces(rows), folder / f"{config.group}-surface.png")


def _curves(config: Config, rows: _Rows) -> Any:
    """Means and standard deviations over the seeds, by training and attack."""
    panels = {
        "FGSM": lambda run: run["by_radius"]["fgsm"],
        "PGD": lambda run: run["by_radius"]["pgd"],
        "black-box": lambda run: run["by_radius"]["transfer"],
        "BIM": lambda run: run["by_steps"],
    }
    size = 2.3 * len(panels), 2.2 * len(rows) + 0.4
    figure, axes = plt.subplots(
        len(rows), len(panels), figsize=size, sharey=True, **_LAYOUT
    )
    for row, (training, operators) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(f"{training} training\naccuracy, %")
        for axis, (attack, curve) in zip(row, panels.items(), strict=True):
            axis.set(title=attack, ylim=(-3, 103), xlabel="radius eps")
            places = [radius * config.eps for radius in (0.0, *RADII)]
            if attack == "BIM":
                places = STEPS
                axis.set(xlabel="steps", xscale="log")
                axis.set_xticks(STEPS, map(str, STEPS))
                axis.minorticks_off()
            for number, (name, runs) in enumerate(operators.items()):
                values = np.array([curve(run) for run in runs.values()])
                mean, color = values.mean(0), f"C{number}"
                line = _LINES[number % len(_LINES)]
                axis.plot(places, mean, label=name, lw=1.4, ls=line, color=color)
                if len(values) > 1:
                    spread = values.std(0, ddof=1)
                    band = mean - spread, mean + spread
                    axis.fill_between(places, *band, color=color, alpha=0.15, lw=0)
    names = axes[0, 0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=len(names[1]))
    return figure


def _surfaces(rows: _Rows) -> Any:
    """Mean loss around the images, in the first run of each training and operator."""
    columns = max(map(len, rows.values()))
    size = 1.9 * columns + 0.8, 1.9 * len(rows) + 0.3
    figure, axes = plt.subplots(len(rows), columns, figsize=size, **_LAYOUT)
    for row, (training, operators) in zip(axes, rows.items(), strict=True):
        found = {x: next(iter(y.values()))["surface"] for x, y in operators.items()}
        levels = np.linspace(0.0, np.max([*found.values()]), 21)
        image: Any = None
        for axis, (name, surface) in zip(row, found.items(), strict=False):
            places = np.linspace(-REACH, REACH, len(surface))
            image = axis.contourf(places, places, surface, levels)
            axis.set_title(name, fontsize=8)
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(f"{training} training\nrandom signs / eps")
        figure.colorbar(image, ax=row, label="mean loss", ticks=ticker.MaxNLocator(6))
    for axis in axes[-1]:
        axis.set_xlabel("gradient's sign / eps")
    return figure
