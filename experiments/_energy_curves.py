"""Energies during training, beside those of random neurons."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments._drawing import STYLE, save
from experiments._regularizers import regularizer

# Of all regularisers, those that fit into one picture.
_DRAWN = (
    "none",
    "decay",
    "orthogonality",
    "mhe-0",
    "mhe-2",
    "mhe-2-half",
    "rp-comhe",
    "separation",
    "polarization",
    "uniformity",
)
_PANELS = {
    "full": "hidden layers, full space",
    "half": "hidden layers, half space",
    "output": "output layer, full space",
}


def draw(path: pathlib.Path, results: dict[str, Any]) -> None:
    """Curves of the regularisers, a panel for each of the energies."""
    shown = {name: run for name, run in results["runs"].items() if name in _DRAWN}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.4), layout="constrained")
        for axis, (key, title) in zip(axes, _PANELS.items(), strict=True):
            axis.axhline(0.0, color="0.3", lw=0.8, ls="--", label="random neurons")
            least = results["least"][key]
            axis.axhline(least, color="0.3", lw=0.8, ls=":", label="lower bound")
            for name, run in shown.items():
                curve = run["curves"][key]
                steps = np.minimum(run["every"] * np.arange(len(curve)), run["steps"])
                color = f"C{_DRAWN.index(name)}"
                axis.plot(
                    steps, curve, lw=1.3, color=color, label=regularizer(name).title
                )
            axis.set_yscale("symlog", linthresh=max(1e-2, -least), linscale=2.0)
            axis.set(title=title, xlabel="steps")
        axes[0].set_ylabel("energy above random, %")
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, fontsize=8)
        save(figure, path)
