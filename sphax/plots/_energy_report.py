"""Histograms of the angles between neurons, compared with random directions."""

from typing import TYPE_CHECKING

import numpy as np

from sphax.energy import EnergyReport, KernelReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3


def energy_report(report: EnergyReport) -> "Figure":
    r"""Histograms of the angles between neurons, one panel per kernel.

    Each panel also shows the density of the angle between random directions, which is
    proportional to :math:`\sin^{d-2} \theta`, and an upper bound on the angle of the
    closest pair. Pairs at much smaller angles, or near 180 degrees, are redundant
    neurons.

    Args:
        report: See :func:`sphax.energy.energy_report`.

    Returns:
        A figure with up to three panels per row.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If ``report`` is not an :class:`sphax.energy.EnergyReport`.

    Example:
        >>> report = sx.energy.energy_report({"kernel": jnp.eye(3)})
        >>> figure = sx.plots.energy_report(report)
        >>> figure.axes[0].get_title()
        'kernel: 3 of 3 dimensions'
    """
    if not isinstance(report, EnergyReport):
        raise TypeError(
            "report must be an EnergyReport, as sphax.energy.energy_report(params)"
            f" returns, got {type(report).__name__}."
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "sphax.plots draws with matplotlib, which is not installed:"
            " pip install 'sphax[plots]'."
        ) from error
    count = len(report.kernels)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    # Not by pyplot, which would keep the figure in its global state.
    figure = Figure(figsize=(3.0 * columns, 2.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, (name, kernel) in zip(panels, report.kernels.items(), strict=False):
        _draw(panel, name, kernel)
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count][-columns:]:
        panel.set_xlabel("angle between neurons, degrees")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False
    )
    return figure


def _draw(panel: "Axes", name: str, kernel: KernelReport) -> None:
    degrees = np.arange(180) + 0.5
    random = np.sin(np.radians(degrees)) ** (kernel.d - 2)
    random /= np.sum(random)
    width = _width(np.max(random) * np.sum(kernel.histogram))
    counts = kernel.histogram.reshape(-1, width).sum(1)
    shares = counts / (width * np.sum(counts))
    edges = np.arange(0, 181, width)
    panel.stairs(shares, edges, fill=True, alpha=0.5, label="pairs of neurons")
    panel.plot(degrees, random, color="black", lw=1.0, label="random directions")
    bound = np.degrees(kernel.closest_angle_bound)
    panel.axvline(bound, color="C1", lw=1.0, ls="--", label="closest pair, at most")
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
