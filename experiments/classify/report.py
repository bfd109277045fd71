"""The table and the figures of the classification study, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import sphax as sx
from experiments.classify.config import Config
from experiments.common import figures, statistics, tables
from experiments.common.margins import MARGINS
from experiments.common.operators import operator
from experiments.common.runs import Found, unpack


class Accuracy(NamedTuple):
    """Test accuracy in percent: after the last step, and the best of all steps."""

    final: float
    best: float


# Error rates of the dissertation's Tables 2.2 to 2.4 by group: of softmax and of
# L-Softmax with m = 2, 3, 4.
_ERRORS: dict[str, tuple[float, float, float, float]] = {
    "table-2.2-mnist": (0.40, 0.32, 0.31, 0.31),
    "table-2.3-cifar10": (9.05, 7.73, 7.66, 7.58),
    "table-2.3-cifar10-augmented": (6.50, 6.01, 5.94, 5.92),
    "table-2.4-cifar100": (32.74, 29.95, 29.87, 29.53),
}
_SPHERENET_9 = {
    "plain": Accuracy(90.61, 90.86),
    "sphere-cosine": Accuracy(91.29, 91.31),
    "sphere-linear": Accuracy(91.16, 91.65),
    "sphere-sigmoid": Accuracy(91.40, 91.81),
    "sphere-learned-sigmoid": Accuracy(91.32, 91.66),
}
# From the logs that the authors of SphereNet have published with their code, one run
# each, by group. The quick preset has SphereNet-9's beside it.
_ACCURACIES: dict[str, dict[str, Accuracy]] = {
    "operators-cifar10": _SPHERENET_9,
    "spherenet-9-cifar10": _SPHERENET_9,
    "sphereresnet-32-cifar10-augmented": {
        "plain": Accuracy(92.99, 93.09),
        "sphere-linear": Accuracy(94.63, 94.68),
    },
}
_MEASURES = {"error": 2, "margin": 1, "within": 1}


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: losses in the rows, or operators; and which differ."""
    measured = [(run, record) for run, record in found if not run.config.plane]
    methods = list(dict.fromkeys(run.config.methods[0] for run, _ in measured))
    of_operators = any(run.config.operator != ("plain",) for run, _ in measured)
    seeds = tables.number_of_seeds(measured)
    rows: dict[str, dict[str, dict[int, float]]] = {}
    cells: dict[str, list[str]] = {}
    errors = dict(zip(MARGINS, _ERRORS.get(config.group, ()), strict=False))
    official = _ACCURACIES.get(config.group, {})
    for run, record in measured:
        method, name = run.config.methods[0], run.config.operator[0]
        title = MARGINS[method].title
        if of_operators:
            several = f"; {title}" * (len(methods) > 1)
            title = operator(name).title + several
        values = rows.setdefault(title, {key: {} for key in _MEASURES})
        for key in _MEASURES:
            values[key][run.seed] = record["metrics"][key]
        if of_operators:
            values["accuracy"] = {s: 100.0 - e for s, e in values["error"].items()}
            known = [f"{value:.2f}" for value in official.get(name, ())] or ["", ""]
            cells[title] = known * bool(official)
        else:
            known = f"{errors[method]:.2f}" if method in errors else ""
            cells[title] = [known] * bool(errors)
    if of_operators:
        head = ["", f"accuracy, % ({seeds})"]
        head += ["official, final", "official, best"] * bool(official)
        measures = {"accuracy": 2}
    else:
        head = ["", f"error, % ({seeds})", "margin, °", "within, °"]
        head += ["dissertation, %"] * bool(errors)
        measures = _MEASURES
    lines = [head]
    for title, values in rows.items():
        shown = [tables.spread(values[key].values(), d) for key, d in measures.items()]
        lines.append([title, *shown, *cells[title]])
    yield from tables.markdown(lines)
    compared = {title: values[next(iter(measures))] for title, values in rows.items()}
    base = operator("plain").title if of_operators else MARGINS["softmax"].title
    base = next((title for title in rows if title.startswith(base)), "")
    yield from statistics.verdict(base, compared, is_error=not of_operators)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes Figure 2.3, and Figure 2.2 if there are runs in the plane."""
    _psi_curves(folder / "psi.png")
    plane = {
        MARGINS[run.config.methods[0]].title: record["metrics"]
        for run, record in found
        if run.config.plane
    }
    if plane:
        _plane(folder / f"{config.group}-plane.png", plane)


def _psi_curves(path: pathlib.Path) -> None:
    """Figure 2.3, with the additive margins beside it."""
    panels = {
        "Multiplicative": {f"m = {m}": sx.margins.SphereFace(m=m) for m in (2, 3, 4)},
        "Additive": {
            "CosFace, m = 0.35": sx.margins.CosFace(margin=0.35),
            "ArcFace, m = 0.5": sx.margins.ArcFace(margin=0.5),
            "ArcFace, m = 0.5, pure": sx.margins.ArcFace(margin=0.5, beyond="pure"),
        },
    }
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.7))
        for axis, (title, margins) in zip(axes, panels.items(), strict=True):
            sx.plots.psi(margins, axes=axis)
            axis.set(title=title, xlabel=r"angle $\theta$ to the target, degrees")
            axis.legend(loc="lower left")
        axes[1].set_ylabel("")
        figures.save(figure, path)


def _plane(path: pathlib.Path, plane: dict[str, dict[str, Any]]) -> None:
    """Figure 2.2: two-dimensional features as they leave the network, by class."""
    size = 2.3 * len(plane), 2.6
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, len(plane), figsize=size, squeeze=False)
        for axis, (title, metrics) in zip(axes[0], plane.items(), strict=True):
            points = unpack(metrics["features"]).astype(np.float64)
            labels = unpack(metrics["labels"])
            sx.plots.circle(points, labels, normalize=False, axes=axis)
            reach = 1.05 * np.quantile(np.abs(points), 0.998)
            axis.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach))
            axis.tick_params(labelsize=8)
        names = axes[0, 0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=10, markerscale=2)
        figures.save(figure, path)
