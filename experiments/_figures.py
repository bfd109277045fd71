"""Figures of the classification experiment."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np

import sphax as sx
from experiments._recipes import METHODS, MethodName

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
}


_LINES: dict[str, Any] = {
    "softmax": {"color": "0.6", "ls": "--", "lw": 1.0},
    "ArcFace, m = 0.5, pure": {"color": "C1", "ls": ":", "lw": 1.6},
}


def psi_curves(path: pathlib.Path) -> None:
    """Figure 2.3, with the additive margins beside it."""
    angles = np.linspace(0.0, np.pi, 721)
    panels = {
        "Multiplicative": {
            "softmax": sx.margins.NoMargin(),
            **{f"m = {m}": sx.margins.SphereFace(m=m) for m in (2, 3, 4)},
        },
        "Additive": {
            "softmax": sx.margins.NoMargin(),
            "CosFace, m = 0.35": sx.margins.CosFace(margin=0.35),
            "ArcFace, m = 0.5": sx.margins.ArcFace(margin=0.5),
            "ArcFace, m = 0.5, pure": sx.margins.ArcFace(margin=0.5, beyond="pure"),
        },
    }
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.7), layout="constrained")
        for axis, (title, margins) in zip(axes, panels.items(), strict=True):
            for name, margin in margins.items():
                style = _LINES.get(name, {"lw": 1.6})
                psi = margin(jnp.asarray(angles))
                axis.plot(np.degrees(angles), psi, label=name, **style)
            axis.set(title=title, xlabel=r"angle $\theta$ to the target, degrees")
            axis.set_xticks(range(0, 181, 45))
        axes[0].legend(loc="lower left")
        axes[1].legend(loc="upper right")
        axes[1].set_ylim(-1.5, 1.5)
        axes[0].set_ylabel(r"$\psi(\theta)$")
        _save(figure, path)


def plane(
    path: pathlib.Path,
    features: Mapping[MethodName, Sequence[Sequence[float]]],
    labels: np.ndarray,
) -> None:
    """Figure 2.2: two-dimensional features as they leave the network, by class."""
    columns = len(features)
    colors = plt.get_cmap("tab10")
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1,
            columns,
            figsize=(2.3 * columns, 2.6),
            squeeze=False,
            layout="constrained",
        )
        for axis, (name, points) in zip(axes[0], features.items(), strict=True):
            points = np.asarray(points)
            for label in np.unique(labels):
                own = points[labels == label]
                axis.scatter(
                    *own.T, s=3, color=colors(label % 10), linewidths=0, label=label
                )
            reach = 1.05 * np.quantile(np.abs(points), 0.998)
            axis.set(title=METHODS[name].title, aspect="equal")
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
            axis.axhline(0, color="0.85", lw=0.6, zorder=0)
            axis.axvline(0, color="0.85", lw=0.6, zorder=0)
            axis.tick_params(labelsize=7)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower center", ncols=10, markerscale=3
        )
        _save(figure, path)


def _save(figure, path: pathlib.Path) -> None:
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
