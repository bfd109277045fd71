"""Histograms of scores: the ROC of any number of pairs in a fixed amount of memory."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from sphax.metrics._accept_counts import AcceptCounts, as_pairs

# Rounding in bfloat16 may take a cosine this far beyond the limit.
_ROUNDING = 1.01


class ScoreCounts:
    r"""Histograms of genuine and impostor scores, filled block by block.

    A score :math:`s` falls into bin :math:`\lfloor s / \delta \rfloor`. This is exact
    for a power of two :math:`\delta`, so that the number of pairs accepted at each
    threshold :math:`k \delta` is exact; only the thresholds between these are lost. A
    TAR at a given FAR is never higher than the one computed from the scores themselves,
    and the FAR reached never exceeds the given one. :func:`roc`, :func:`roc_auc`,
    :func:`partial_auc`, :func:`det`, :func:`equal_error_rate`, :func:`tar_at_far`,
    :func:`threshold_at_far`, :func:`min_cllr` and :func:`calibrate` take the counts in
    place of scores. With the default values they occupy 16 MiB.

    Args:
        blocks: Blocks ``(scores, same)`` to count at once, as :func:`pair_scores`
            yields them.
        spacing: Distance :math:`\delta` between thresholds, a power of two.
        limit: Largest absolute value of a score, 1 for cosines.

    Raises:
        ValueError: If ``spacing`` is not a power of two, or ``limit`` is below it; from
            :meth:`add`, if scores are not finite or beyond the limit.

    Example:
        >>> x, labels = jnp.eye(4), jnp.array([0, 0, 1, 1])
        >>> counts = sx.metrics.ScoreCounts(sx.metrics.pair_scores(x, labels))
        >>> counts.add([0.9, 0.8, -0.5], [True, True, False])
        >>> counts.genuine, counts.impostors
        (4, 5)
        >>> sx.metrics.roc_auc(counts)
        0.8
    """

    def __init__(
        self,
        blocks: Iterable[tuple[ArrayLike, ArrayLike]] = (),
        *,
        spacing: float = 2.0**-19,
        limit: float = 1.0,
    ):
        if not spacing > 0.0 or math.frexp(spacing)[0] != 0.5:
            raise ValueError(
                f"spacing must be a power of two, such as 2.0**-19, got {spacing}."
            )
        if not spacing <= limit < math.inf:
            raise ValueError(
                f"limit must be finite and at least the spacing {spacing}, got {limit}."
            )
        self.spacing, self.limit = spacing, limit
        self._half = math.ceil(limit / spacing)
        self._genuine = np.zeros(2 * self._half + 1, np.int64)
        self._impostors = np.zeros_like(self._genuine)
        for scores, same in blocks:
            self.add(scores, same)

    def add(self, scores: ArrayLike, same: ArrayLike) -> None:
        """Counts more pairs.

        Args:
            scores: Similarities, floating, ``[...]``.
            same: Whether each pair is genuine, boolean, ``[...]``.
        """
        scores, same = as_pairs(scores, same)
        largest = np.max(np.abs(scores))
        if largest > self.limit * _ROUNDING:
            raise ValueError(
                f"scores must be within [-{self.limit:g}, {self.limit:g}], got one of"
                f" size {largest:g}; give ScoreCounts a larger limit."
            )
        bins = np.floor(scores / scores.dtype.type(self.spacing)).astype(np.int64)
        bins = np.clip(bins + self._half, 0, 2 * self._half)
        np.add.at(self._genuine, bins[same], 1)
        np.add.at(self._impostors, bins[~same], 1)

    @property
    def genuine(self) -> int:
        """Number of genuine pairs so far."""
        return int(self._genuine.sum())

    @property
    def impostors(self) -> int:
        """Number of impostor pairs so far."""
        return int(self._impostors.sum())

    def accept_counts(self) -> AcceptCounts:
        """Numbers of pairs accepted at every threshold that changes them."""
        bins = np.flatnonzero(self._genuine + self._impostors)[::-1]
        if not bins.size:
            raise ValueError(
                "scores must not be empty: nothing was added to the counts."
            )
        thresholds = (bins - self._half) * self.spacing
        return AcceptCounts(
            np.append(np.inf, thresholds),
            np.append(0, np.cumsum(self._genuine[bins])),
            np.append(0, np.cumsum(self._impostors[bins])),
            self.genuine,
            self.impostors,
            "a pair is accepted when score >= threshold; the multiples of"
            f" {self.spacing:g} are the thresholds, with exact counts at each",
        )
