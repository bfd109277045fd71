"""Verification accuracy by cross-validation over folds, the protocol of LFW."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_choice
from sphax.metrics._inputs import as_labels, as_pairs
from sphax.metrics._steps import steps_of_scores


class VerificationAccuracy(NamedTuple):
    """Accuracy over folds; see :func:`verification_accuracy`.

    Attributes:
        accuracy: Mean over the folds, in [0, 1].
        standard_error: Standard deviation over the folds (N - 1) over the root of their
            number.
        per_fold: Accuracy of each, in the order of their numbers, float64, ``[folds]``.
        thresholds: Similarity threshold of each, chosen on the others, ``[folds]``.
        rule: How thresholds were chosen, in words.

    Example:
        >>> scores, same = jnp.array([0.9, 0.1, 0.7, 0.3]), [True, False, True, False]
        >>> result = sx.metrics.verification_accuracy(scores, same, [0, 0, 1, 1])
        >>> print(result.per_fold, result.thresholds)
        [1. 1.] [0.5 0.5]
    """

    accuracy: float
    standard_error: float
    per_fold: np.ndarray
    thresholds: np.ndarray
    rule: str


def verification_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    *,
    rule: Literal["exact", "matlab", "insightface"] = "exact",
) -> VerificationAccuracy:
    r"""Accuracy of telling same from different pairs, by cross-validation (LFW).

    For each fold, the threshold that is most accurate on all the others is applied to
    it. LFW view 2 has ten folds of 600 pairs in file order,
    ``folds = np.repeat(np.arange(10), 600)``.

    - ``"exact"``: candidates are the midpoints between neighbouring distinct training
      scores, and one beyond either end (infinite). Where several are most accurate, the
      middle one of them, the upper of two: it is most accurate itself, which their mean
      need not be. A score at or above the threshold means same.
    - ``"matlab"``, of SphereFace's code: candidates -1, -0.9999, ..., 1; the mean of
      all the most accurate ones. A score above the threshold means same, below it
      different, and one at it is an error either way. That code also subtracts the mean
      of the training embeddings, which is up to the caller, fold by fold.
    - ``"insightface"``, of that code: squared distances :math:`d = 2 - 2 s` against
      0, 0.01, ..., 3.99; the first, which is the smallest, most accurate one;
      :math:`d` below it means same. Reported as the similarity :math:`1 - d / 2`.

    A threshold chosen on the very pairs that are judged gives a higher accuracy, which
    is not that of the protocol.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[pairs]``; cosines for the last two rules.
        same: Whether each pair is genuine, boolean, ``[pairs]``.
        folds: Fold of each pair, integer, ``[pairs]``, any two numbers or more.
        rule: How the threshold is chosen.

    Returns:
        A :class:`VerificationAccuracy`.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean, folds not integer.
        ValueError: If shapes differ, scores are not finite, or not cosines where they
            have to be; if there is one fold only, or one without genuine or impostor
            pairs.

    Example:
        >>> scores = jnp.array([0.812, 0.2, 0.603, 0.305])
        >>> args = scores, [True, False, True, False], [0, 0, 1, 1]
        >>> sx.metrics.verification_accuracy(*args).thresholds.round(4)
        array([0.454, 0.506])
        >>> sx.metrics.verification_accuracy(*args, rule="insightface").thresholds
        array([0.6 , 0.81])

    References:
        Huang et al., `Labeled Faces in the Wild <https://vis-www.cs.umass.edu/lfw/>`_,
        2007; the codes of `SphereFace <https://github.com/wy1iu/sphereface>`_ and
        `insightface <https://github.com/deepinsight/insightface>`_.
    """
    check_choice("rule", rule, tuple(_RULES))
    scores, same = as_pairs(scores, same)
    scores = scores.astype(np.float64)
    folds = as_labels("folds", folds, len(scores), "scores")
    numbers = _checked_folds(folds, same)
    chosen = _RULES[rule]
    if chosen.is_of_cosines and np.max(np.abs(scores)) > 1.01:
        raise ValueError(
            f'scores must be cosines for rule="{rule}", got one of size'
            f' {np.max(np.abs(scores)):g}; rule="exact" takes any similarity.'
        )
    thresholds, rates = [], []
    for fold in numbers:
        held = folds == fold
        threshold = chosen.fit(scores[~held], same[~held])
        rates.append(np.mean(chosen.is_right(scores[held], same[held], threshold)))
        thresholds.append(chosen.as_similarity(threshold))
    error = np.std(rates, ddof=1) / np.sqrt(len(rates))
    return VerificationAccuracy(
        float(np.mean(rates)),
        float(error),
        np.array(rates),
        np.array(thresholds),
        chosen.words,
    )


def _checked_folds(folds: np.ndarray, same: np.ndarray) -> np.ndarray:
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise ValueError(
            f"folds must have two numbers or more, got {numbers.tolist()} alone; the"
            " threshold is chosen on the other folds."
        )
    for kind, members in (("genuine", folds[same]), ("impostor", folds[~same])):
        missing = np.setdiff1d(numbers, members)
        if missing.size:
            raise ValueError(
                "folds must have genuine and impostor pairs each, got no"
                f" {kind} pair in {missing.tolist()}."
            )
    return numbers


def _fit_exact(scores: np.ndarray, same: np.ndarray) -> float:
    steps = steps_of_scores(scores, same)
    # After accepting k distinct scores, the threshold lies below the k-th of them.
    right = steps.genuine + (steps.impostor_total - steps.impostors)
    ordered = np.append(steps.thresholds, -np.inf)
    candidates = ordered[:-1] / 2 + ordered[1:] / 2
    best = candidates[right == right.max()]
    return best[(len(best) - 1) // 2]  # they fall, so this is the upper of two


def _fit_matlab(scores: np.ndarray, same: np.ndarray) -> float:
    ticks = np.arange(-10_000, 10_001)
    grid = ticks / 10_000
    above, below = np.sort(scores[same]), np.sort(scores[~same])
    right = len(above) - np.searchsorted(above, grid, "right")
    right += np.searchsorted(below, grid, "left")
    return float(np.mean(ticks[right == right.max()]) / 10_000)


def _fit_insightface(scores: np.ndarray, same: np.ndarray) -> float:
    grid = np.arange(0, 4, 0.01)
    near, far = (np.sort(2 - 2 * scores[kind]) for kind in (same, ~same))
    right = np.searchsorted(near, grid, "left")
    right += len(far) - np.searchsorted(far, grid, "left")
    return grid[np.argmax(right)]


class _Rule(NamedTuple):
    """Thresholds on the rule's own scale, so that a score on the grid is judged right.

    ``fit(scores, same)`` gives one, ``is_right(scores, same, threshold)`` applies it.
    """

    fit: Callable[[np.ndarray, np.ndarray], float]
    is_right: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    as_similarity: Callable[[float], float]
    is_of_cosines: bool
    words: str


_RULES = {
    "exact": _Rule(
        _fit_exact,
        lambda scores, same, t: (scores >= t) == same,
        float,
        False,
        "midpoints of neighbouring training scores; the middle one of the most"
        " accurate; score >= threshold is same",
    ),
    "matlab": _Rule(
        _fit_matlab,
        lambda scores, same, t: np.where(same, scores > t, scores < t),
        float,
        True,
        "thresholds -1:0.0001:1; mean of all the most accurate; score > threshold is"
        " same, < different, = an error",
    ),
    "insightface": _Rule(
        _fit_insightface,
        lambda scores, same, d: (2 - 2 * scores < d) == same,
        lambda d: 1 - d / 2,
        True,
        "squared distances 2 - 2 score, thresholds 0:0.01:3.99; the first of the most"
        " accurate; distance < threshold is same",
    ),
}
