"""Gram matrix of prototypes: the cosine between any two of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite, check_choice
from sphax.plots._drawing import as_axes, as_class_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More names cannot be read.
_WITH_NAMES = 20


def gram(
    prototypes: ArrayLike | jax.Array,
    *,
    order: ArrayLike | jax.Array | str | None = None,
    names: Sequence[str] | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    r"""Cosines between prototypes, with the smallest angle between two of them.

    The title states the smallest angle (separation). The simplex, the best that
    :math:`n` prototypes can do in :math:`n - 1` dimensions or more, has the cosine
    :math:`-1 / (n - 1)` everywhere outside of the diagonal.

    Args:
        prototypes: Vector of each class, floating, ``[classes, features]``, of any
            length.
        order: Order of the rows, a permutation of the classes, integer, ``[classes]``,
            such as ``np.argsort(superclass)``; or ``"similar"``, which puts similar
            prototypes next to each other.
        names: Names of the classes, in the order of ``prototypes``; their numbers by
            default.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes, with an image of the cosines ``[classes, classes]``. A zero vector has
        cosine 0 with all others.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If prototypes are not floating, or ``axes`` is something else.
        ValueError: If prototypes are not two or more rows, are not finite, ``order`` is
            not a permutation, or the number of names is another one.

    Example:
        >>> axes = sx.plots.gram(jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]))
        >>> axes.get_title()
        'smallest angle 45.0°'

    References:
        "similar" takes the leaves of average linkage of the angles, in the order of
        Bar-Joseph, Gifford and Jaakkola, `Fast optimal leaf ordering for hierarchical
        clustering <https://doi.org/10.1093/bioinformatics/17.suppl_1.S22>`_,
        Bioinformatics 2001.
    """
    vectors = as_finite("prototypes", prototypes).astype(np.float64)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(
            "prototypes must be [classes, features], two classes or more, got shape"
            f" {vectors.shape}."
        )
    names = as_class_names(names, len(vectors))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(length > 0.0, length, 1.0)
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    rows = _as_order(order, cosines)
    largest = np.max(cosines[np.triu_indices(len(cosines), 1)])

    is_new = axes is None
    axes = as_axes(axes, (4.4, 3.6))
    ordered = cosines[np.ix_(rows, rows)]
    image = axes.imshow(ordered, cmap="RdBu_r", vmin=-1.0, vmax=1.0)
    axes.set(xlabel="class", ylabel="class")
    axes.set_title(f"smallest angle {np.degrees(np.arccos(largest)):.1f}°")
    if len(names) <= _WITH_NAMES:
        shown = [names[row] for row in rows]
        axes.set_xticks(range(len(rows)), shown, rotation=90, fontsize="x-small")
        axes.set_yticks(range(len(rows)), shown, fontsize="x-small")
    elif order is not None:
        axes.set(xlabel="class, in the given order", xticks=[], yticks=[])
    if is_new:
        axes.figure.colorbar(image, ax=axes, label="cosine")
    return axes


def _as_order(order, cosines: np.ndarray) -> np.ndarray:
    classes = len(cosines)
    if order is None:
        return np.arange(classes)
    if isinstance(order, str):
        check_choice("order", order, ("similar",))
        from scipy.cluster.hierarchy import leaves_list, linkage

        angles = np.arccos(cosines[np.triu_indices(classes, 1)])
        return leaves_list(linkage(angles, "average", optimal_ordering=True))
    rows = np.asarray(order)
    if not np.array_equal(np.sort(rows, axis=None), np.arange(classes)):
        raise ValueError(
            f"order must have each of the {classes} classes once, from 0 on, or be"
            f" 'similar', got shape {rows.shape}; np.argsort makes a permutation."
        )
    return rows
