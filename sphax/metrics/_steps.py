"""Accepted pairs at every threshold: what all rates of this package are read from."""

from typing import NamedTuple

import numpy as np

EVERY_SCORE = (
    "a pair is accepted when score >= threshold; every distinct score is a threshold"
)


class Steps(NamedTuple):
    """Pairs accepted at falling thresholds, ``[n]`` each, from none at infinity on."""

    thresholds: np.ndarray
    genuine: np.ndarray
    impostors: np.ndarray
    genuine_total: int
    impostor_total: int
    rule: str


def steps_of_scores(scores: np.ndarray, same: np.ndarray) -> Steps:
    """Steps at every distinct score, with genuine and impostor pairs in the totals."""
    # Two sorts and a search of sorted keys: a third of the time of an argsort.
    ordered, genuine = np.sort(scores), np.sort(scores[same])
    is_first = np.append(True, ordered[1:] != ordered[:-1])
    first = np.flatnonzero(is_first)[::-1]
    thresholds = ordered[first]
    accepted = len(scores) - first
    accepted_genuine = len(genuine) - np.searchsorted(genuine, thresholds)
    return _from_infinity(
        thresholds, accepted_genuine, accepted - accepted_genuine, EVERY_SCORE
    )


def steps_of_counts(
    thresholds: np.ndarray, genuine: np.ndarray, impostors: np.ndarray, rule: str
) -> Steps:
    """Steps from the pairs that are lost between one falling threshold and the last."""
    return _from_infinity(thresholds, np.cumsum(genuine), np.cumsum(impostors), rule)


def _from_infinity(thresholds, genuine, impostors, rule):
    return Steps(
        np.append(np.inf, thresholds.astype(np.float64)),
        np.append(0, genuine),
        np.append(0, impostors),
        int(genuine[-1]),
        int(impostors[-1]),
        rule,
    )


class Operating(NamedTuple):
    """Where the steps are at given false accept rates, of the rates' shape each."""

    rate: np.ndarray
    threshold: np.ndarray
    far: np.ndarray
    is_supported: np.ndarray


def operate_at(steps: Steps, far: np.ndarray) -> Operating:
    """The smallest threshold whose false accept rate does not exceed ``far``.

    Supported by as many impostors as have one among them at that rate; a rate of 0 asks
    for no false accept in these, however many they are.
    """
    # Correctly rounded quotients: 3 / 3000 is the number that 1e-3 is read as, where
    # the product 1e-3 * 3000 might miss 3.
    reached = steps.impostors / steps.impostor_total
    last = np.searchsorted(reached, far, side="right") - 1
    is_supported = (far == 0.0) | (far >= 1 / steps.impostor_total)
    values = (
        steps.genuine[last] / steps.genuine_total,
        steps.thresholds[last],
        reached[last],
    )
    rate, threshold, at = (np.where(is_supported, v, np.nan)[()] for v in values)
    return Operating(rate, threshold, at, is_supported)
