"""Energies, losses and errors during training, a row of panels for each problem."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments._drawing import STYLE, save
from experiments._opt_methods import METHODS

_PANELS = {
    "energy": "energy above the first, %",
    "loss": "training loss",
    "error": "test error, %",
}

# The black one on top: all others are to be seen against it.
_STYLES: dict[str, dict[str, Any]] = {
    name: {"color": f"C{place - 1}", "lw": 1.1} for place, name in enumerate(METHODS)
} | {"plain": {"color": "black", "lw": 1.6, "zorder": 3}}


def draw(path: pathlib.Path, problems: dict[str, Any]) -> None:
    """Mean curves over the seeds."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(problems),
            len(_PANELS),
            figsize=(8.4, 2.2 * len(problems) + 0.7),
            squeeze=False,
            layout="constrained",
        )
        for row, problem in zip(axes, problems.values(), strict=True):
            for axis, (key, label) in zip(row, _PANELS.items(), strict=True):
                _panel(axis, problem, key)
                axis.set(title=f"{problem['title']}: {label}")
        for axis in axes[-1]:
            axis.set_xlabel("steps")
        names = axes[0, 0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, fontsize=8)
        save(figure, path)


def _panel(axis: Any, problem: dict[str, Any], key: str) -> None:
    steps, every = problem["recipe"]["steps"], problem["every"]
    for name, run in problem["runs"].items():
        curve = run["curves"][key]
        # There is no loss before the first step.
        records = np.arange(len(curve)) + (key == "loss")
        counts = np.minimum(every * records, steps)
        axis.plot(counts, curve, label=METHODS[name].title, **_STYLES[name])
    if key != "energy":
        axis.set_yscale("log")
