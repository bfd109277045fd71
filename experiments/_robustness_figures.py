"""Pictures of the robustness experiment."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments._drawing import STYLE, save


def curves(
    path: pathlib.Path,
    models: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    radii: Sequence[float],
    steps: Sequence[int],
) -> None:
    """Accuracy against radius and steps of attacks, by training and operator."""
    panels = {
        "FGSM": lambda run: run["by_radius"]["fgsm"],
        "PGD": lambda run: run["by_radius"]["pgd"],
        "black-box": lambda run: run["by_radius"]["transfer"],
        "BIM": lambda run: run["by_steps"],
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(models),
            len(panels),
            figsize=(2.3 * len(panels), 2.2 * len(models) + 0.4),
            squeeze=False,
            sharey=True,
            layout="constrained",
        )
        for row, (title, operators) in zip(axes, models.items(), strict=True):
            row[0].set_ylabel(f"{title}\naccuracy, %")
            for axis, (attack, curve) in zip(row, panels.items(), strict=True):
                is_by_steps = attack == "BIM"
                places = steps if is_by_steps else radii
                for name, runs in operators.items():
                    mean = np.mean([curve(run) for run in runs], axis=0)
                    axis.plot(places, mean, label=name, lw=1.4, marker=".")
                axis.set(title=attack, ylim=(-3, 103))
                axis.set_xlabel("steps" if is_by_steps else "radius eps")
                if is_by_steps:
                    axis.set_xscale("log")
        names = axes[0, 0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=len(names[1]))
        save(figure, path)


def surfaces(
    path: pathlib.Path,
    models: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    reach: float,
) -> None:
    """Mean loss around the images, in the first run of each training and operator."""
    rows, columns = len(models), max(map(len, models.values()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(1.9 * columns + 0.8, 1.9 * rows + 0.3),
            squeeze=False,
            layout="constrained",
        )
        for row, (title, operators) in zip(axes, models.items(), strict=True):
            found = {name: runs[0]["surface"] for name, runs in operators.items()}
            levels = np.linspace(0.0, np.max(list(found.values())), 21)
            for axis, (name, surface) in zip(row, found.items(), strict=True):
                places = np.linspace(-reach, reach, len(surface))
                image = axis.contourf(places, places, surface, levels)
                axis.set_title(name, fontsize=8)
                axis.tick_params(labelsize=7)
            row[0].set_ylabel(f"{title}\nrandom signs / eps")
            figure.colorbar(image, ax=row, label="mean loss", format="%.1f")
        for axis in axes[-1]:
            axis.set_xlabel("gradient's sign / eps")
        save(figure, path)
