"""Pictures of points on the sphere, with the edges of their convex hull."""

import math
import pathlib
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from scipy import spatial

from experiments._drawing import STYLE, save

_COLUMNS = 4
# By the number of edges at a point.
_COLORS = {3: "C2", 4: "C4", 5: "C3", 6: "C0"}
# From the first point to the front, towards a neighbor and aside: off the symmetries.
_TILT = np.radians(22.0), np.radians(14.0)


def draw(
    path: pathlib.Path,
    pictures: Mapping[int, np.ndarray],
    gaps: Mapping[int, float],
    limit: float,
) -> None:
    """Spheres by their number of points, and the scaled gap of all against its limit.

    Args:
        path: File to write.
        pictures: Points ``[n, 3]``, which must not lie in one plane.
        gaps: By number of points.
        limit: What they tend to.
    """
    rows = math.ceil(len(pictures) / _COLUMNS)
    names = np.arange(rows * _COLUMNS).reshape(rows, _COLUMNS).astype(str)
    with plt.rc_context(STYLE):
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
        _gaps(axes["gap"], gaps, limit)
        marks = [
            Line2D([], [], ls="", marker="o", color=color, label=f"{number} neighbors")
            for number, color in _COLORS.items()
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=4)
        save(figure, path)


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
    """Rotation of rows after which the third axis points to the beholder."""
    front, others = points[0], points[1:]
    nearest = others[np.argmax(others @ front)]
    # Orthonormal from the right: the front, then up to its neighbor, then aside.
    axes, scales = np.linalg.qr(np.stack([front, nearest], axis=1), mode="complete")
    front, up, aside = (axes * np.sign([*np.diag(scales), 1.0])).T
    rotation = np.stack([aside, up, front], axis=1)
    for axis, angle in zip((1, 0), _TILT, strict=True):
        turn, plane = np.eye(3), np.ix_([axis, 2], [axis, 2])
        turn[plane] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        rotation = rotation @ turn
    return rotation


def _gaps(axis, gaps, limit):
    axis.plot(list(gaps), list(gaps.values()), ".", ms=4, color="0.3")
    axis.axhline(limit, color="C1", lw=1.0)
    text = f"{limit:.4f}, hexagonal lattice"
    places = axis.get_yaxis_transform()
    axis.text(0.01, limit, text, va="bottom", transform=places)
    axis.set(xlabel="charges n", ylabel="(1 - mean energy) $\\sqrt{n}$")
