"""Files of the figures."""

import pathlib
from typing import Any

import matplotlib

# Before pyplot is imported: figures are written to files, without a window.
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a figure, the same bytes for the same content, and closes it."""
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
