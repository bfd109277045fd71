"""New figures, without windows and without a state that plots would share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(rows: int, columns: int) -> "tuple[Figure, list[Axes]]":
    """A figure and its panels, row after row."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "sphax.plots draws with matplotlib, which is not installed:"
            " pip install 'sphax[plots]'."
        ) from error
    size = 3.0 * columns, 2.2 * rows
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
