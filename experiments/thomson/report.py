"""The table of least energies, and pictures of the best points, from stored runs.

For many charges the mean energy of a pair tends to 1 as ``1 - 2 c / sqrt(n)``, with a
constant ``c`` that is conjectured to be that of a hexagonal lattice (Kuijlaars and
Saff, Asymptotics for Minimal Discrete Energy on the Sphere, Transactions of the AMS
350, 1998).
"""

import math
import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from scipy import spatial

from experiments.common import figures, tables
from experiments.common.runs import Found, unpack
from experiments.thomson.config import Config, lowest_known
from experiments.thomson.train import SAME

# c = -3 sqrt(sqrt(3) / (8 pi)) zeta(1/2) L(1/2), L of the Dirichlet character mod 3.
LATTICE = 0.553051293358
# Numbers of charges with a picture, if their points are stored.
_PICTURED = (4, 6, 8, 12, 24, 32, 72, 100)
_COLUMNS = 4
# By the number of edges at a point.
_COLORS = {3: "C2", 4: "C4", 5: "C3", 6: "C0"}
# From the first point to the front, towards a neighbor and aside: off the symmetries.
_TILT = np.radians(22.0), np.radians(14.0)


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: one row for each number of charges."""
    head = ["n", "energy", "lowest known", "difference / known"]
    head += [f"of {config.restarts} starts, reached it", "minima found", "gap x √n"]
    rows, reached, lower = [head], 0, 0
    for run, record in found:
        n, metrics = run.config.largest, record["metrics"]
        energy, known = metrics["energy"], lowest_known()[n]
        reached += metrics["reached"] > 0
        lower += energy < known * (1.0 - SAME)
        cells = [f"{energy:.9f}", f"{known:.9f}", f"{energy / known - 1.0:.0e}"]
        cells += [f"{metrics['reached']}", f"{metrics['minima']}"]
        rows.append([f"{n}", *cells, f"{scaled_gap(n, energy):.4f}"])
    yield from tables.markdown(rows)
    yield ""
    yield (
        f"{reached} of {len(found)} energies are the lowest known or lower, {lower} of"
        " them by more than rounding."
    )
    yield ""
    yield tables.caption(config.command, found)


def scaled_gap(n: int, energy: float) -> float:
    """``sqrt(n)`` times what the mean energy of a pair falls short of 1."""
    return float(np.sqrt(n) * (1.0 - energy / (n * (n - 1) / 2)))


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes pictures of some of the best points, and the scaled gap of all."""
    gaps, pictures = {}, {}
    for run, record in found:
        n, metrics = run.config.largest, record["metrics"]
        gaps[n] = scaled_gap(n, metrics["energy"])
        if n in _PICTURED and "points" in metrics:
            pictures[n] = unpack(metrics["points"]).astype(np.float64)
    rows = math.ceil(len(pictures) / _COLUMNS)
    names = np.arange(rows * _COLUMNS).reshape(rows, _COLUMNS).astype(str)
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplot_mosaic(
            [*names.tolist(), ["gap"] * _COLUMNS],
            figsize=(7.2, 1.9 * rows + 2.0),
            height_ratios=[1.0] * rows + [0.9],
            layout="constrained",
        )
        for name in names.flat:
            axes[name].set_axis_off()
        for name, (n, points) in zip(names.flat, pictures.items(), strict=False):
            _sphere(axes[name], points)
            axes[name].set_title(f"n = {n}")
        axis, limit = axes["gap"], 2.0 * LATTICE
        axis.plot(list(gaps), list(gaps.values()), ".", ms=4, color="0.3")
        axis.axhline(limit, color="C1", lw=1.0)
        place = {"va": "bottom", "transform": axis.get_yaxis_transform()}
        axis.text(0.01, limit, f"{limit:.4f}, hexagonal lattice", **place)
        axis.set(xlabel="charges n", ylabel="(1 - mean energy) $\\sqrt{n}$")
        marks = [
            Line2D([], [], ls="", marker="o", color=color, label=f"{number} neighbors")
            for number, color in _COLORS.items()
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=4)
        figures.save(figure, folder / f"{config.group}-spheres.png")


def hull_edges(points: np.ndarray) -> np.ndarray:
    """Pairs of points joined by an edge of the convex hull, ``[edges, 2]``.

    The hull comes in triangles: sides that only divide a flat face are left out.
    """
    hull = spatial.ConvexHull(points)
    normals = hull.equations[:, :3]
    edges = set()
    for face, neighbors in enumerate(hull.neighbors):
        for corner, neighbor in enumerate(neighbors):
            if normals[face] @ normals[neighbor] < 1.0 - 1e-9:
                edges.add(tuple(sorted(np.delete(hull.simplices[face], corner))))
    return np.array(sorted(edges))


def _sphere(axis, points):
    edges = hull_edges(points)
    seen = points @ _view(points)
    axis.add_patch(Circle((0.0, 0.0), 1.0, fc="0.97", ec="0.8", lw=0.6))
    share = np.linspace(0.0, 1.0, 33)[:, None]
    for start, end in seen[edges]:
        arc = (1.0 - share) * start + share * end
        arc /= np.linalg.norm(arc, axis=1, keepdims=True)
        for is_front, color in ((False, "0.87"), (True, "0.4")):
            x, y = np.where((arc[:, 2:] >= 0.0) == is_front, arc[:, :2], np.nan).T
            axis.plot(x, y, color=color, lw=0.8, zorder=2 + is_front)
    is_front = seen[:, 2] >= 0.0
    degrees = np.bincount(edges.ravel(), minlength=len(points))
    colors = np.array([_COLORS.get(int(degree), "k") for degree in degrees])
    size = 30.0 / len(points) ** 0.3
    axis.scatter(*seen[is_front, :2].T, s=size, c=colors[is_front], zorder=4, lw=0)
    axis.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))


def _view(points):
    """Rotation of rows after which the third axis points to the viewer."""
    front, others = points[0], points[1:]
    nearest = others[np.argmax(others @ front)]
    # Orthonormal from the right: the front, then up to its neighbor, then aside.
    axes, scales = np.linalg.qr(np.stack([front, nearest], axis=1), mode="complete")
    front, up, aside = (axes * np.sign([*np.diag(scales), 1.0])).T
    rotation = np.stack([aside, up, front], axis=1)
    for axis, angle in zip((1, 0), _TILT, strict=True):
        tilt, plane = np.eye(3), np.ix_([axis, 2], [axis, 2])
        tilt[plane] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        rotation = rotation @ tilt
    return rotation
