"""Figures of the experiments."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sphax as sx
from experiments._drawing import STYLE, save
from experiments._methods import METHODS, MethodName

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
    with plt.rc_context(STYLE):
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
        save(figure, path)


def plane(
    path: pathlib.Path,
    features: Mapping[MethodName, Sequence[Sequence[float]]],
    labels: np.ndarray,
) -> None:
    """Figure 2.2: two-dimensional features as they leave the network, by class."""
    columns = len(features)
    colors = plt.get_cmap("tab10")
    with plt.rc_context(STYLE):
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
        save(figure, path)


def confusion(
    path: pathlib.Path, cosines: Mapping[MethodName, Sequence[Sequence[float]]]
) -> None:
    """Figure 2.5: the mean cosine between classes, all panels on one colour scale."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(cosines),
            figsize=(2.2 * len(cosines) + 0.5, 2.5),
            squeeze=False,
            layout="constrained",
        )
        for axis, (name, matrix) in zip(axes[0], cosines.items(), strict=True):
            # The range of a cosine, so that runs on other images compare as well.
            image = axis.imshow(np.asarray(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set(title=METHODS[name].title, xlabel="class")
            axis.tick_params(labelsize=7)
        axes[0, 0].set_ylabel("class")
        figure.colorbar(image, ax=axes[0], label="mean cosine", shrink=0.8)
        save(figure, path)


_QUANTITIES = {
    "avh": "angular visual hardness",
    "confidence": "model confidence",
    "norm": r"$\|x\|$",
    "hsf": "human selection frequency",
}


def hardness(
    path: pathlib.Path,
    measured: Mapping[MethodName, Mapping[str, np.ndarray]],
    pairs: Sequence[tuple[str, str]],
) -> None:
    """Figure 1.2: for each pair of quantities, how many test images lie where."""
    rows, columns = len(measured), len(pairs)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(2.5 * columns + 0.5, 2.3 * rows),
            squeeze=False,
            layout="constrained",
        )
        for row, (name, values) in zip(axes, measured.items(), strict=True):
            row[0].set_title(METHODS[name].title, loc="left")
            for axis, (y, x) in zip(row, pairs, strict=True):
                # The logarithm shows single images beside the crowd of easy ones.
                image = axis.hexbin(
                    values[x], values[y], gridsize=30, bins="log", mincnt=1
                )
                axis.set(xlabel=_QUANTITIES[x], ylabel=_QUANTITIES[y])
                figure.colorbar(image, ax=axis, label="images")
        save(figure, path)


def roc(
    path: pathlib.Path,
    far: Sequence[float],
    tar: Mapping[str, Sequence[float | None]],
) -> None:
    """ROC curves by the title of their loss, from the lowest rate that is supported."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
        for title, curve in tar.items():
            style = _LINES.get(title.lower(), {"lw": 1.4})
            # Softmax on top: another curve may lie on its own.
            level = 3 if title == "Softmax" else 2
            values = np.array(curve, dtype=float)
            axis.semilogx(far, values, label=title, zorder=level, **style)
        axis.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(None, 1))
        axis.grid(color="0.92", lw=0.6)
        figure.legend(loc="outside right center", fontsize=8)
        save(figure, path)


def image_rows(path: pathlib.Path, rows: Mapping[str, Any]) -> None:
    """Figure 1.1: images ``[n, height, width, channels]`` in rows by their titles."""
    number = max(map(len, rows.values()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows),
            number,
            figsize=(0.6 * number + 1.6, 0.6 * len(rows)),
            squeeze=False,
            gridspec_kw={"wspace": 0.05, "hspace": 0.05},
        )
        for row, (title, images) in zip(axes, rows.items(), strict=True):
            for axis, image in zip(row, np.clip(images, 0.0, 1.0), strict=True):
                axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
                axis.set_axis_off()
            row[0].text(
                -0.15, 0.5, title, transform=row[0].transAxes, ha="right", va="center"
            )
        save(figure, path)
