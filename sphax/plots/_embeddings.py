"""Embeddings of two and three features, by class, with prototypes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite, as_numpy_labels, check_flag, check_range
from sphax.plots._drawing import (
    COLORS,
    add_legend,
    as_axes,
    as_class_names,
    check_classes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "o^svDP*X"
_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
_LINE: dict[str, Any] = {"color": "0.85", "lw": 0.6, "zorder": 0}


class _Classes(NamedTuple):
    """Points by class."""

    points: np.ndarray
    labels: np.ndarray
    prototypes: np.ndarray | None
    names: list[str]


def circle(
    embeddings: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    *,
    prototypes: ArrayLike | jax.Array | None = None,
    names: Sequence[str] | None = None,
    normalize: bool = True,
    width: float = 0.12,
    axes: "Axes | None" = None,
) -> "Axes":
    """Embeddings of two features by class, and the directions of prototypes as rays.

    A loss of angles sees the directions alone, which are drawn on the unit circle. So
    that points do not hide each other, their radius alternates within a ring. Without
    ``normalize`` embeddings are drawn where they are.

    Args:
        embeddings: Floating, ``[n, 2]``.
        labels: Class of each, integer, ``[n]``.
        prototypes: Prototype of each class, floating, ``[classes, 2]``.
        names: Names of the classes for the legend; their numbers by default.
        normalize: Whether to draw directions only.
        width: Width of the ring, in [0, 1); 0 draws points exactly on the circle.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes, with a collection of points for each class that occurs. A zero vector
        is drawn in the center.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If embeddings or prototypes are not floating, labels not integer, or
            ``axes`` is something else.
        ValueError: If shapes do not fit, values are not finite, there are no
            embeddings, or a label is negative or of no prototype or name.

    Example:
        >>> axes = sx.plots.circle(jnp.eye(2), [0, 1], names=["cat", "dog"])
        >>> axes.get_legend_handles_labels()[1]
        ['cat', 'dog']
    """
    check_flag("normalize", normalize)
    check_range("width", width, 0.0, 1.0)
    classes = _as_classes(embeddings, labels, prototypes, names, 2)
    is_new = axes is None
    axes = as_axes(axes, (4.2, 3.4))
    points, reach = classes.points, 1.05 * np.max(np.abs(classes.points), initial=1e-9)
    if normalize:
        turns = (_GOLDEN * np.arange(len(points))) % 1.0 - 0.5
        points = _unit(points) * (1.0 + width * turns[:, None])
        reach = 1.15 + 0.5 * width
        around = np.linspace(0.0, 2.0 * np.pi, 361)
        axes.plot(np.cos(around), np.sin(around), **_LINE)
    else:
        axes.axhline(0.0, **_LINE)
        axes.axvline(0.0, **_LINE)
    _draw(axes, classes, points, reach if normalize else 2.0 * reach)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    if normalize:
        axes.set_axis_off()
    if is_new:
        add_legend(axes, markerscale=1.5, handletextpad=0.2)
    return axes


def sphere(
    embeddings: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    *,
    prototypes: ArrayLike | jax.Array | None = None,
    names: Sequence[str] | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Directions of embeddings of three features on the sphere, by class.

    Points of the far side are paler. In a window, and in a notebook after
    ``%matplotlib widget`` (ipympl, in the extra ``notebooks``), axes of pyplot turn
    with the mouse: ``plt.subplots(subplot_kw={"projection": "3d"})[1]``. Elsewhere,
    ``axes.view_init(elev, azim)`` chooses the view.

    Args:
        embeddings: Floating, ``[n, 3]``, of any length.
        labels: Class of each, integer, ``[n]``.
        prototypes: Prototype of each class, floating, ``[classes, 3]``.
        names: Names of the classes for the legend; their numbers by default.
        axes: Where to draw, of the projection ``"3d"``; a new figure by default.

    Returns:
        The axes, with a collection of points for each class that occurs. A zero vector
        is drawn in the center.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If embeddings or prototypes are not floating, labels not integer, or
            ``axes`` is something else.
        ValueError: If shapes do not fit, values are not finite, there are no
            embeddings, a label is negative or of no prototype or name, or ``axes`` are
            not three-dimensional.

    Example:
        >>> axes = sx.plots.sphere(jnp.eye(3), [0, 1, 2], prototypes=jnp.eye(3))
        >>> axes.name
        '3d'
    """
    classes = _as_classes(embeddings, labels, prototypes, names, 3)
    is_new = axes is None
    drawn: Any = as_axes(axes, (4.6, 3.6), projection="3d")
    polar, around = np.radians(np.mgrid[0:181:15, 0:361:15])
    grid = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
    drawn.plot_wireframe(*grid, color="0.85", lw=0.4)
    _draw(drawn, classes, _unit(classes.points), 1.0)
    drawn.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    drawn.set_box_aspect((1.0, 1.0, 1.0), zoom=1.5)
    drawn.set_axis_off()
    if is_new:
        add_legend(drawn, markerscale=1.5, handletextpad=0.2)
    return drawn


def _as_classes(embeddings, labels, prototypes, names, features: int) -> _Classes:
    """The arguments as NumPy arrays; raises unless they fit."""
    points = as_finite("embeddings", embeddings).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != features:
        other = {2: "sphere draws three features", 3: "circle draws two features"}
        raise ValueError(
            f"embeddings must be [n, {features}], got shape {points.shape};"
            f" sphax.plots.{other[features]}, and more have to be projected first."
        )
    labels = as_numpy_labels("labels", labels, len(points), "embeddings")
    classes = int(labels.max(initial=0)) + 1 if names is None else len(names)
    if prototypes is not None:
        prototypes = as_finite("prototypes", prototypes).astype(np.float64)
        if prototypes.ndim != 2 or prototypes.shape[1] != features:
            raise ValueError(
                f"prototypes must be [classes, {features}], got shape"
                f" {prototypes.shape}."
            )
        prototypes, classes = _unit(prototypes), len(prototypes)
    check_classes("labels", labels, classes)
    return _Classes(points, labels, prototypes, as_class_names(names, classes))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Directions; zero vectors stay zero."""
    # Divided by the largest entry first: squares of long vectors overflow.
    largest = np.max(np.abs(vectors), axis=1, keepdims=True)
    vectors = vectors / np.where(largest > 0.0, largest, 1.0)
    length = np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
    return vectors / np.where(length > 0.0, length, 1.0)


def _draw(axes: Any, classes: _Classes, points: np.ndarray, ray: float) -> None:
    """Points of each class that occurs, and the ray of each prototype."""
    size = float(np.clip(9000.0 / len(points), 5.0, 24.0))
    for number, name in enumerate(classes.names):
        color = COLORS[number % len(COLORS)]
        marker = _MARKERS[number // len(COLORS) % len(_MARKERS)]
        mine = points[classes.labels == number]
        if len(mine):
            kind = {"color": color, "marker": marker, "label": name}
            axes.scatter(*mine.T, s=size, linewidths=0, alpha=0.8, **kind)
        if classes.prototypes is not None:
            ends = np.stack([0.0 * points[0], ray * classes.prototypes[number]])
            axes.plot(*ends.T, color=color, lw=1.0)
            if points.shape[1] == 3:
                end = {"marker": marker, "mec": "black", "ms": 6.0}
                axes.plot(*ends[1:].T, color=color, **end)
