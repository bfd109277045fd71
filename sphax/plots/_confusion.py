"""Confusion matrix: which classes are taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_numpy_labels, check_count
from sphax.plots._drawing import as_axes, as_class_names, check_classes, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More numbers cannot be read.
_WITH_NUMBERS = 20


def confusion(
    labels: ArrayLike | jax.Array,
    predictions: ArrayLike | jax.Array,
    *,
    num_classes: int | None = None,
    names: Sequence[str] | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Confusion matrix: of the examples of each class, how many are predicted as which.

    Rows are the right classes and sum to 100 %. Up to twenty classes have their
    percentages written into the cells.

    Args:
        labels: Right class of each example, integer, ``[n]``.
        predictions: Predicted class of each example, integer, ``[n]``.
        num_classes: Number of classes; that of the names, or up to the largest class
            that occurs, by default.
        names: Names of the classes; their numbers by default.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes, with an image of the shares ``[classes, classes]``; the row of a class
        without examples is NaN, and blank.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If labels or predictions are not integer, or ``axes`` is something
            else.
        ValueError: If shapes differ, there are no examples, or a label is not in
            ``[0, num_classes)``.

    Example:
        >>> axes = sx.plots.confusion([0, 0, 1, 1], jnp.array([0, 0, 1, 0]))
        >>> print(axes.images[0].get_array())
        [[1.  0. ]
         [0.5 0.5]]
    """
    right = np.asarray(labels)
    if right.ndim != 1 or not right.size:
        raise ValueError(
            f"labels must be [n], one for each example, got shape {right.shape}."
        )
    right = as_numpy_labels("labels", right, len(right), "examples")
    given = as_numpy_labels("predictions", predictions, len(right), "labels")
    if num_classes is None:
        largest = max(int(right.max()), int(given.max()))
        num_classes = largest + 1 if names is None else len(names)
    check_count("num_classes", num_classes)
    check_classes("labels", right, num_classes)
    check_classes("predictions", given, num_classes)
    names = as_class_names(names, num_classes)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (right, given), 1.0)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0.0, counts / np.maximum(totals, 1.0), np.nan)

    is_new = axes is None
    side = min(3.0 + 0.22 * num_classes, 7.5)
    axes = as_axes(axes, (side + 0.6, side))
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if num_classes <= _WITH_NUMBERS:
        places = range(num_classes)
        turned: dict[str, Any] = {
            "rotation": 45,
            "ha": "right",
            "rotation_mode": "anchor",
        }
        is_long = max(map(len, names)) > 2
        axes.set_xticks(places, names, **turned if is_long else {})
        axes.set_yticks(places, names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = shares[row, column]
            color = "white" if share > 0.5 else "black"
            text = f"{100.0 * share:.0f}" if share >= 0.005 else "<1"
            place: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": "small",
            }
            axes.text(column, row, text, color=color, **place)
    axes.set(xlabel="predicted class", ylabel="class")
    if is_new:
        label = "share of the class's examples"
        axes.figure.colorbar(image, ax=axes, label=label, format=percent, shrink=0.8)
    return axes
