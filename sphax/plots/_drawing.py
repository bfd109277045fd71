"""What the figures share: axes, colors, names and labels of axes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sphax._checks import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Petroff's ten colors (arXiv:2107.02270), distinct under every kind of color vision,
# with the greys at the end. The style has the same cycle.
COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59"),
    *("#e76300", "#92dadd", "#b9ac70", "#717581", "#94a4a2"),
)
REFERENCE: dict[str, Any] = {"color": "0.6", "lw": 1.0, "ls": ":"}
_STYLES = ("-", "--", "-.", ":")


def new_figure(width: float, height: float) -> "Figure":
    """A figure that pyplot does not know, which would keep it; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "sphax.plots draws with matplotlib, which is not installed:"
            " pip install 'sphax[plots]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def as_axes(
    axes: "Axes | None",
    size: tuple[float, float],
    *,
    projection: str = "rectilinear",
) -> "Axes":
    """The given axes, or those of a new figure; raises unless of this projection."""
    if axes is None:
        return new_figure(*size).add_subplot(projection=projection)
    check_axes("axes", axes, "Axes, such as plt.subplots()[1]")
    if axes.name != projection:
        raise ValueError(
            f"axes must have the projection {projection!r}, got {axes.name!r}; make"
            f" them by plt.subplots(subplot_kw={{'projection': {projection!r}}})[1]."
        )
    return axes


def check_axes(name: str, axes: object, expected: str) -> None:
    """Raises unless these are axes of matplotlib."""
    # By its methods: this check must not import matplotlib.
    if not (hasattr(axes, "plot") and hasattr(axes, "figure")):
        raise TypeError(f"{name} must be matplotlib {expected}, got {shown(axes)}.")


def by_name(name: str, values: Any) -> dict[str, Any]:
    """A mapping from names to values; a single value has the empty name."""
    if not isinstance(values, Mapping):
        return {"": values}
    if not values:
        raise ValueError(f"{name} must not be empty, got {values!r}.")
    return {str(key): value for key, value in values.items()}


def line_styles(axes: "Axes", count: int) -> list[dict[str, Any]]:
    """Colors for more lines, after the lines that are already there."""
    first = sum(line.get_color() in COLORS for line in axes.get_lines())
    return [
        {
            "color": COLORS[number % len(COLORS)],
            "ls": _STYLES[number // len(COLORS) % len(_STYLES)],
        }
        for number in range(first, first + count)
    ]


def as_class_names(names: Sequence[str] | None, classes: int) -> list[str]:
    """Names of the classes, their numbers by default."""
    if names is None:
        return [str(number) for number in range(classes)]
    if isinstance(names, str) or len(names) != classes:
        raise ValueError(
            f"names must have a string for each of the {classes} classes, got"
            f" {names!r}."
        )
    return [str(name) for name in names]


def check_classes(name: str, labels: np.ndarray, classes: int) -> None:
    """Raises if a label is not the number of a class."""
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"{name} must be in [0, {classes}), got {labels.min()} to {labels.max()}."
        )


def percent(rate: float, position: object = None) -> str:
    """A rate as a label of a tick."""
    del position
    return f"{100.0 * rate:.6g} %"


def add_legend(axes: "Axes", **options: Any) -> None:
    """A legend beside new axes, where it hides nothing, if any artist has a name."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        columns = 1 + (len(names) - 1) // 14
        place: dict[str, Any] = {"loc": "outside right center", "ncols": columns}
        axes.figure.legend(handles, names, **place, **options)
