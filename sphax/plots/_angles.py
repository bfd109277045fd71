"""Histograms of the angles of genuine and impostor pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite, check_count
from sphax.metrics import ScoreCounts
from sphax.plots._drawing import COLORS, add_legend, as_axes, by_name, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rounding in bfloat16 may take a cosine this far beyond the limit.
_ROUNDING = 1.01


def angles(
    cosines: ArrayLike | jax.Array | ScoreCounts,
    same: ArrayLike | jax.Array | None = None,
    *,
    thresholds: float | ArrayLike | Mapping[str, float] = (),
    bins: int = 90,
    axes: "Axes | None" = None,
) -> "Axes":
    """Histograms of the angles of genuine and impostor pairs, and thresholds.

    What overlaps cannot be told apart by a threshold: genuine pairs to the right of one
    are rejected, impostor pairs to its left are accepted.

    Args:
        cosines: Cosine of each pair, floating, ``[...]``, such as
            :func:`sphax.metrics.pair_scores` yields, or a
            :class:`sphax.metrics.ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        thresholds: Cosines from which a pair is accepted, drawn as lines: a number,
            several, or numbers by name, as in ``{"FAR = 1 %": found.threshold}``.
        bins: Number of bars between the smallest and the largest angle.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; angles are in degrees. The bars of the genuine pairs sum to 100 %, and
        so do those of the impostor pairs.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If cosines are not floating, ``same`` not boolean, ``bins`` not an
            integer, or ``axes`` is something else.
        ValueError: If shapes differ, values are beyond [-1, 1] or not finite, or there
            is no genuine or no impostor pair.

    Example:
        >>> cosines, same = jnp.array([0.9, 0.8, 0.1]), [True, True, False]
        >>> axes = sx.plots.angles(cosines, same, thresholds={"FAR = 0": 0.5})
        >>> axes.get_legend_handles_labels()[1]
        ['genuine', 'impostor', 'FAR = 0']
    """
    check_count("bins", bins)
    degrees, genuine, impostors = _weighted(cosines, same)
    named = {
        name: _degrees("thresholds", np.ravel(np.asarray(value, np.float64)))
        for name, value in by_name("thresholds", thresholds).items()
    }
    is_new = axes is None
    axes = as_axes(axes, (5.4, 3.0))
    edges = np.histogram_bin_edges(degrees, bins)
    for name, weights, color in (
        ("genuine", genuine, COLORS[0]),
        ("impostor", impostors, COLORS[2]),
    ):
        shares = np.histogram(degrees, edges, weights=weights)[0] / weights.sum()
        axes.stairs(shares, edges, fill=True, alpha=0.5, color=color, label=name)
    styles = ("--", ":", "-.", (0, (5, 1)))
    for number, (name, values) in enumerate(named.items()):
        for place, value in enumerate(values):
            label = "_" if place else name or "threshold"
            style = {"color": "black", "lw": 1.2, "ls": styles[number % len(styles)]}
            axes.axvline(value, label=label, **style)
    axes.set(xlabel="angle, degrees", ylabel="share of pairs")
    axes.set_ylim(0.0, None)
    axes.yaxis.set_major_formatter(percent)
    if is_new:
        add_legend(axes)
    return axes


def _weighted(cosines, same) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles in degrees, and how many genuine and impostor pairs have each."""
    if isinstance(cosines, ScoreCounts):
        if same is not None:
            raise ValueError("same has no effect with ScoreCounts; leave it out.")
        counts = cosines.accept_counts()
        values, genuine = counts.thresholds[1:], np.diff(counts.genuine)
        impostors = np.diff(counts.impostors)
    else:
        if same is None:
            raise ValueError("same must be given, unless cosines are a ScoreCounts.")
        values, genuine = as_finite("cosines", cosines), np.asarray(same)
        if genuine.dtype != np.bool_:
            raise TypeError(f"same must be boolean, got dtype {genuine.dtype}.")
        if genuine.shape != values.shape:
            raise ValueError(
                "same must have the shape of cosines, got same"
                f" {genuine.shape} and cosines {values.shape}."
            )
        values, genuine = values.ravel(), genuine.ravel()
        impostors = ~genuine
    if not genuine.any() or not impostors.any():
        raise ValueError(
            "cosines must be of genuine and of impostor pairs, got"
            f" {genuine.sum()} genuine and {impostors.sum()} impostor pairs."
        )
    weights = genuine.astype(np.float64), impostors.astype(np.float64)
    return _degrees("cosines", values), *weights


def _degrees(name: str, cosines: np.ndarray) -> np.ndarray:
    largest = np.max(np.abs(cosines), initial=0.0)
    if not largest <= _ROUNDING:
        raise ValueError(
            f"{name} must be cosines, within [-1, 1], got one of size {largest:g}."
        )
    return np.degrees(np.arccos(np.clip(cosines.astype(np.float64), -1.0, 1.0)))
