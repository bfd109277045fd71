"""Histograms of the angles between neurons, compared with random directions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sphax.energy import EnergyReport, KernelReport
from sphax.plots._drawing import COLORS, check_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


def energy_report(
    report: EnergyReport, *, axes: "Axes | Sequence[Axes] | np.ndarray | None" = None
) -> "list[Axes]":
    r"""Histograms of the angles between neurons, one panel per kernel.

    Each panel also shows the density of the angle between random directions, which is
    proportional to :math:`\sin^{d-2} \theta`, and an upper bound on the angle of the
    closest pair. Pairs at much smaller angles, or near 180 degrees, are redundant
    neurons.

    Args:
        report: See :func:`sphax.energy.energy_report`.
        axes: Where to draw, axes for each kernel; by default a new figure, with up to
            three panels per row.

    Returns:
        The axes of each kernel.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If ``report`` is not an :class:`sphax.energy.EnergyReport`, or
            ``axes`` are something else.
        ValueError: If there are not as many axes as kernels.

    Example:
        >>> report = sx.energy.energy_report({"kernel": jnp.eye(3)})
        >>> [axes] = sx.plots.energy_report(report)
        >>> axes.get_title()
        'kernel: 3 of 3 dimensions'
    """
    if not isinstance(report, EnergyReport):
        raise TypeError(
            "report must be an EnergyReport, as sphax.energy.energy_report(params)"
            f" returns, got {type(report).__name__}."
        )
    if axes is None:
        panels = _panels(len(report.kernels))
    else:
        panels = list(np.array(axes, object).flat)
    if len(panels) != len(report.kernels):
        raise ValueError(
            f"axes must be one for each of the {len(report.kernels)} kernels, got"
            f" {len(panels)}."
        )
    for panel, (name, kernel) in zip(panels, report.kernels.items(), strict=True):
        check_axes("axes", panel, "Axes, one for each kernel")
        _draw(panel, name, kernel)
    if axes is None:
        for panel in panels[-_COLUMNS:]:
            panel.set_xlabel("angle between neurons, degrees")
        handles, labels = panels[0].get_legend_handles_labels()
        place: dict[str, Any] = {"loc": "outside upper center", "frameon": False}
        columns = len(labels) if len(panels) > 1 else 1
        panels[0].figure.legend(handles, labels, ncols=columns, **place)
    return panels


def _panels(count: int) -> "list[Axes]":
    """Axes of a new figure."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(3.0 * columns, 2.2 * rows + 0.5)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.remove()
    return panels[:count]


def _draw(panel: "Axes", name: str, kernel: KernelReport) -> None:
    degrees = np.arange(180) + 0.5
    random = np.sin(np.radians(degrees)) ** (kernel.d - 2)
    random /= np.sum(random)
    width = _width(np.max(random) * np.sum(kernel.histogram))
    counts = kernel.histogram.reshape(-1, width).sum(1)
    shares = counts / (width * np.sum(counts))
    edges = np.arange(0, 181, width)
    style: dict[str, Any] = {"color": COLORS[0], "label": "pairs of neurons"}
    panel.stairs(shares, edges, fill=True, alpha=0.5, **style)
    panel.plot(degrees, random, color="black", lw=1.0, label="random directions")
    bound = np.degrees(kernel.closest_angle_bound)
    panel.axvline(
        bound, color=COLORS[2], lw=1.0, ls="--", label="closest pair, at most"
    )
    panel.set_title(f"{name}: {kernel.n} of {kernel.d} dimensions", fontsize="medium")
    panel.set_xlim(0.0, 180.0)
    panel.set_xticks(range(0, 181, 45))
    panel.set_yticks([])
    panel.spines[["top", "right", "left"]].set_visible(False)


def _width(pairs: float) -> int:
    """Width of the bars in degrees, for 20 random pairs or more in the fullest bar.

    ``pairs`` is the expected number of random pairs in the fullest degree.
    """
    return next((width for width in (1, 2, 3, 5) if width * pairs >= 20), 10)
