"""Draws the figures of the guides: ``python docs/figures.py FOLDER``.

The build of the documentation calls `draw`; the figures are not in the repository.
"""

import math
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

import sphax as sx

INK = "#808080"  # visible on light and on dark pages


def _axes(columns: int = 1):
    figure = Figure(figsize=(3.6 * columns + 0.6, 3.2), layout="constrained", dpi=160)
    return figure, np.ravel(figure.subplots(1, columns))


def scale() -> Figure:
    """The lowest softmax loss of unit vectors, against the scale."""
    figure, (axes,) = _axes()
    scales = np.linspace(1, 40, 200)
    for classes in (10, 1_000, 100_000, 10_000_000):
        # At the corners of a simplex, cosines to other classes are -1 / (C - 1).
        exponents = -scales * classes / (classes - 1)
        axes.plot(scales, np.log1p((classes - 1) * np.exp(exponents)))
        smallest = math.log((classes - 1) * 9)
        axes.annotate(
            f"{classes:,} classes", (smallest, 0.14), rotation=-62, fontsize=7
        )
    axes.set(xlabel="scale s", ylabel="lowest possible loss", yscale="log")
    axes.set_ylim(1e-3, 20)
    return figure


def margins() -> Figure:
    """The largest angle between the closest two of n prototypes, by its bound."""
    figure, (axes,) = _axes()
    for dimensions, most in ((2, 100), (3, 1_000), (16, 1e5), (64, 1e6), (512, 1e6)):
        classes = np.unique(np.geomspace(4, most, 25).astype(int))
        bound = [sx.energy.closest_angle_bound(int(n), dimensions) for n in classes]
        axes.plot(classes, bound, label=f"{dimensions} features")
    axes.axhline(0.5, color=INK, linestyle="--")
    axes.set(xlabel="classes", ylabel="closest angle at most, rad", xscale="log")
    axes.legend(fontsize=7)
    return figure


def operators() -> Figure:
    """Magnitude and angular functions of decoupled operators."""
    figure, (left, right) = _axes(2)
    lengths, angles = np.linspace(0, 3, 200), np.linspace(0, np.pi, 200)
    along = np.stack([lengths, 0 * lengths], axis=-1).astype(np.float32)
    unit = np.array([[1.0], [0.0]], np.float32)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
    kinds = ("Sphere", "Ball", "Tanh", "Linear", "Segmented", "Log", "Mix")
    for kind in kinds:
        outputs = sx.operators.decoupled_dense(
            along[1:],
            unit,
            magnitude=getattr(sx.operators, kind)(),
            angular=sx.operators.Cosine(),
        )
        left.plot(lengths[1:], outputs[:, 0], label=kind)
    for kind in ("Cosine", "LinearAngle", "Sigmoid", "SquareCosine"):
        outputs = sx.operators.decoupled_dense(
            around,
            unit,
            magnitude=sx.operators.Sphere(),
            angular=getattr(sx.operators, kind)(),
        )
        right.plot(np.degrees(angles), outputs[:, 0], label=kind)
    left.set(xlabel="length of the patch", ylabel="magnitude h")
    right.set(xlabel="angle, degrees", ylabel="angular function g", xticks=(0, 90, 180))
    for axes in (left, right):
        axes.legend(fontsize=7)
    return figure


def scores() -> Figure:
    """Scores of genuine and impostor pairs with a threshold, and their ROC curve."""
    figure, (left, right) = _axes(2)
    random = np.random.default_rng(0)
    genuine, impostor = (
        random.normal(0.6, 0.17, 4_000),
        random.normal(0.05, 0.17, 40_000),
    )
    same = np.arange(44_000) < 4_000
    values = np.clip(np.concatenate([genuine, impostor]), -1, 1)
    found = sx.metrics.tar_at_far(values, same, far=0.01)
    bins = np.linspace(-0.6, 1, 81)
    left.hist(values[~same], bins, density=True, alpha=0.6, label="impostor pairs")
    left.hist(values[same], bins, density=True, alpha=0.6, label="genuine pairs")
    left.axvline(found.threshold, color=INK, linestyle="--", label="threshold")
    left.set(xlabel="cosine", ylabel="density")
    curve = sx.metrics.roc(values, same)
    right.plot(curve.far, curve.tar)
    right.plot(found.far, found.tar, "o", label="FAR = 0.01")
    right.set(xlabel="false accept rate", ylabel="true accept rate", xscale="log")
    right.set_xlim(1e-4, 1)
    for axes in (left, right):
        axes.legend(fontsize=7)
    return figure


def concentration() -> Figure:
    """Densities of the angle to the mean of von Mises-Fisher distributions."""
    figure, panels = _axes(3)
    angles = np.linspace(0.005, np.pi - 0.005, 400).astype(np.float32)
    for axes, dimensions in zip(panels, (3, 32, 512), strict=True):
        points = np.zeros((len(angles), dimensions), np.float32)
        points[:, 0], points[:, 1] = np.cos(angles), np.sin(angles)
        for kappa in (0.0, 10.0, 100.0):
            vmf = sx.distributions.VonMisesFisher(np.eye(dimensions)[0], kappa)
            # The sphere around the mean at this angle has sin^(d - 2) of the area.
            log_density = np.asarray(vmf.log_prob(points), np.float64)
            log_density += (dimensions - 2) * np.log(np.sin(angles))
            density = np.exp(log_density - log_density.max())
            density /= np.trapezoid(density, np.degrees(angles))
            axes.plot(np.degrees(angles), density, label=f"concentration {kappa:.0f}")
        axes.set(title=f"{dimensions} dimensions", xlabel="angle, degrees", yticks=())
        axes.set_xticks((0, 90, 180))
    panels[0].legend(fontsize=7)
    return figure


FIGURES = scale, margins, operators, scores, concentration


def draw(folder: pathlib.Path) -> None:
    """Writes all figures that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in FIGURES:
        path = folder / f"{make.__name__}.png"
        if not path.exists():
            make().savefig(path)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]))
