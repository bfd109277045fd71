"""The style of the figures, and how they are written."""

import pathlib
from typing import Any

import matplotlib

# Before pyplot: figures are written, and no window opens.
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
}


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a figure, the same bytes for the same content, and forgets it."""
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
