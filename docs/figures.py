"""Draws the figures of the guides: ``python -m docs.figures FOLDER``.

The build of the documentation does it; the figures are not in the repository.
"""

import pathlib
import sys

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

import sphax as sx


def _panels(columns: int = 1):
    figure = Figure(figsize=(3.6 * columns + 0.6, 3.2))
    return figure, np.ravel(figure.subplots(1, columns))


def scale() -> Figure:
    """The lowest softmax loss of unit vectors, against the scale."""
    figure, (axes,) = _panels()
    scales = np.linspace(0, 30, 200)
    for classes in (10, 1_000, 100_000, 10_000_000):
        # At the corners of a simplex, cosines to other classes are -1 / (C - 1).
        exponents = -scales * classes / (classes - 1)
        lowest = np.log1p((classes - 1) * np.exp(exponents))
        axes.plot(scales, lowest, label=f"{classes:,} classes")
    axes.set(xlabel="scale s", ylabel="lowest possible loss", yscale="log")
    axes.set_ylim(1e-3, 30)
    axes.legend()
    return figure


def margins() -> Figure:
    """The largest angle between the closest two of n prototypes, by its bound."""
    figure, (axes,) = _panels()
    for dimensions, most in ((2, 100), (3, 1_000), (16, 1e5), (64, 1e6), (512, 1e6)):
        classes = np.unique(np.geomspace(4, most, 25).astype(int))
        bound = [sx.energy.closest_angle_bound(int(n), dimensions) for n in classes]
        axes.plot(classes, bound, label=f"{dimensions} features")
    axes.axhline(0.5, color="black", linestyle="--")
    axes.set(xlabel="classes", ylabel="closest angle at most, rad", xscale="log")
    axes.legend()
    return figure


def operators() -> Figure:
    """Magnitude and angular functions of decoupled operators."""
    figure, (left, right) = _panels(2)
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
        axes.legend()
    return figure


def scores() -> Figure:
    """Angles of genuine and impostor pairs with a threshold, and their ROC curve."""
    figure, (left, right) = _panels(2)
    random = np.random.default_rng(0)
    same = np.arange(44_000) < 4_000
    cosines = np.clip(
        np.where(same, 0.55, 0.05) + random.normal(0, 0.15, 44_000), -1, 1
    )
    found = sx.metrics.tar_at_far(cosines, same, far=0.01)
    thresholds = {"FAR = 1 %": float(found.threshold)}
    sx.plots.angles(cosines, same, thresholds=thresholds, axes=left)
    sx.plots.roc(sx.metrics.roc(cosines, same), axes=right)
    right.plot(found.far, found.tar, "ko", label="FAR = 1 %")
    left.legend()
    right.legend()
    return figure


def concentration() -> Figure:
    """Densities of the angle to the mean of von Mises-Fisher distributions."""
    figure, panels = _panels(3)
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
    panels[0].legend()
    return figure


FIGURES = scale, margins, operators, scores, concentration


def draw(folder: pathlib.Path) -> None:
    """Writes all figures that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in FIGURES:
        path = folder / f"{make.__name__}.png"
        if not path.exists():
            with matplotlib.style.context("sphax.plots.paper"):
                make().savefig(path)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]))
