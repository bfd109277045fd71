"""Numbers of pairs accepted at each threshold, from which all rates are read."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite, check_finite


class AcceptCounts(NamedTuple):
    """Numbers of pairs with score >= threshold, at decreasing thresholds.

    Where pairs have weights, their total weights, in float64.

    Attributes:
        thresholds: Decreasing from infinity, float64, ``[n]``.
        genuine: Number of genuine pairs accepted at each, from 0, ``[n]``.
        impostors: Number of impostor pairs accepted at each, from 0, ``[n]``.
        genuine_total: Number of all genuine pairs.
        impostor_total: Number of all impostor pairs.
        rule: Which scores are thresholds, in words.
    """

    thresholds: np.ndarray
    genuine: np.ndarray
    impostors: np.ndarray
    genuine_total: float
    impostor_total: float
    rule: str


def count_accepts(
    scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None
) -> AcceptCounts:
    """Accept counts at every distinct score; a pair of weight zero does not exist."""
    if weights is not None:
        return _sum_weights(scores, same, weights)
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


def _sum_weights(
    scores: np.ndarray, same: np.ndarray, weights: np.ndarray
) -> AcceptCounts:
    kept = weights > 0.0
    scores, same, weights = scores[kept], same[kept], weights[kept]
    order = np.argsort(scores)[::-1]
    scores, same, weights = scores[order], same[order], weights[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    # Two sums rather than a difference, which might decrease by rounding.
    genuine = np.append(0.0, np.cumsum(np.where(same, weights, 0.0))[last])
    impostors = np.append(0.0, np.cumsum(np.where(same, 0.0, weights))[last])
    return AcceptCounts(
        np.append(np.inf, scores[last].astype(np.float64)),
        genuine,
        impostors,
        float(genuine[-1]),
        float(impostors[-1]),
        "a pair is accepted when score >= threshold; every distinct score is a"
        " threshold; pairs count by their weights",
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


def as_pairs(
    scores: ArrayLike, same: ArrayLike, *, name: str = "scores"
) -> tuple[np.ndarray, np.ndarray]:
    """Both on one axis; raises unless ``same`` is boolean and of the scores' shape."""
    scores, same = as_finite(name, scores), np.asarray(same)
    if same.dtype != np.bool_:
        raise TypeError(
            f"same must be boolean, True for a genuine pair, got dtype {same.dtype};"
            " compare labels, or use same.astype(bool)."
        )
    if same.shape != scores.shape:
        raise ValueError(
            f"same must have the shape of {name}, an entry for each pair, got same"
            f" {same.shape} and {name} {scores.shape}."
        )
    return scores.ravel(), same.ravel()


def as_weights(weights: ArrayLike, like: ArrayLike) -> np.ndarray:
    """Weights on one axis, float64; raises unless they are weights of ``like``."""
    array = np.asarray(weights)
    if not any(jnp.issubdtype(array.dtype, k) for k in (np.floating, np.integer)):
        raise TypeError(
            f"weights must be floating or integer, got dtype {array.dtype}."
        )
    if array.shape != np.shape(like):
        raise ValueError(
            f"weights must have an entry for each pair, {np.shape(like)}, got shape"
            f" {array.shape}."
        )
    array = array.astype(np.float64).ravel()
    check_finite("weights", array)
    if np.min(array, initial=0.0) < 0.0:
        raise ValueError(f"weights must not be negative, got {array.min():g}.")
    if not array.any():
        raise ValueError("weights must not all be zero.")
    return array


def check_kinds(genuine: float, impostors: float) -> None:
    """Raises unless there are pairs of both kinds."""
    for kind, total in (("genuine", genuine), ("impostor", impostors)):
        if total == 0:
            raise ValueError(
                f"same must have genuine and impostor pairs, got no {kind} pair."
            )
