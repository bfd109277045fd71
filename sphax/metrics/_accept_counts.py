"""Numbers of pairs accepted at each threshold, from which all rates are read."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite


class AcceptCounts(NamedTuple):
    """Numbers of pairs with score >= threshold, at decreasing thresholds.

    Attributes:
        thresholds: Decreasing from infinity, float64, ``[n]``.
        genuine: Number of genuine pairs accepted at each, from 0, ``[n]``.
        impostors: Number of impostor pairs accepted at each, from 0, ``[n]``.
        genuine_total: Number of genuine pairs.
        impostor_total: Number of impostor pairs.
        rule: Which scores are thresholds, in words.
    """

    thresholds: np.ndarray
    genuine: np.ndarray
    impostors: np.ndarray
    genuine_total: int
    impostor_total: int
    rule: str


def count_accepts(scores: np.ndarray, same: np.ndarray) -> AcceptCounts:
    """Accept counts at every distinct score."""
    # Two sorts and a search of sorted keys: a third of the time of an argsort.
    ordered, genuine = np.sort(scores), np.sort(scores[same])
    is_first = np.append(True, ordered[1:] != ordered[:-1])
    first = np.flatnonzero(is_first)[::-1]
    thresholds = ordered[first]
    accepted = len(scores) - first
    accepted_genuine = len(genuine) - np.searchsorted(genuine, thresholds)
    return AcceptCounts(
        np.append(np.inf, thresholds.astype(np.float64)),
        np.append(0, accepted_genuine),
        np.append(0, accepted - accepted_genuine),
        len(genuine),
        len(scores) - len(genuine),
        "a pair is accepted when score >= threshold; every distinct score is a"
        " threshold",
    )


def operating_points(
    counts: AcceptCounts, far: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The smallest threshold whose false accept rate does not exceed ``far``.

    A rate is supported if it is 0, or if there are impostors enough for one of them to
    have it.

    Returns:
        The true accept rate, the threshold, the false accept rate, all three NaN where
        the rate is not supported, and whether it is, each of the shape of ``far``.
    """
    rates = np.asarray(far, np.float64)
    if not np.all((rates >= 0.0) & (rates <= 1.0)):
        raise ValueError(f"far must be within [0, 1], got {far}.")
    # Correctly rounded quotients: 3 / 3000 is the number that 1e-3 is read as, where
    # the product 1e-3 * 3000 might miss 3.
    reached = counts.impostors / counts.impostor_total
    last = np.searchsorted(reached, rates, side="right") - 1
    is_supported = (rates == 0.0) | (rates >= 1 / counts.impostor_total)
    values = (
        counts.genuine[last] / counts.genuine_total,
        counts.thresholds[last],
        reached[last],
    )
    tar, threshold, at = (np.where(is_supported, v, np.nan)[()] for v in values)
    return tar, threshold, at, is_supported


def as_pairs(scores: ArrayLike, same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both on one axis; raises unless ``same`` is boolean and of the scores' shape."""
    scores, same = as_finite("scores", scores), np.asarray(same)
    if same.dtype != np.bool_:
        raise TypeError(
            f"same must be boolean, True for a genuine pair, got dtype {same.dtype};"
            " compare labels, or use same.astype(bool)."
        )
    if same.shape != scores.shape:
        raise ValueError(
            "same must have the shape of scores, an entry for each pair, got same"
            f" {same.shape} and scores {scores.shape}."
        )
    return scores.ravel(), same.ravel()
