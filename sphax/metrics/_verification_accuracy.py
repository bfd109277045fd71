"""Verification accuracy by cross-validation over folds (the LFW protocol)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_numpy_labels, check_choice
from sphax.metrics._accept_counts import as_pairs, as_weights, count_accepts


class VerificationAccuracy(NamedTuple):
    """Accuracy over folds; see :func:`verification_accuracy`.

    Attributes:
        accuracy: Mean over the folds, in [0, 1].
        standard_error: Standard deviation over the folds (with N - 1), divided by the
            square root of their number.
        per_fold: Accuracy of each fold, ordered by fold number, float64, ``[folds]``.
        thresholds: Similarity threshold of each fold, chosen on the others,
            ``[folds]``.
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
    weights: ArrayLike | None = None,
) -> VerificationAccuracy:
    r"""Accuracy of same-or-different decisions, by cross-validation over folds (LFW).

    The threshold for each fold is the one that is most accurate on all other folds. LFW
    view 2 has ten folds of 600 pairs in file order,
    ``folds = np.repeat(np.arange(10), 600)``.

    - ``"exact"``: candidates are the midpoints between neighboring distinct training
      scores, and one beyond either end (infinite). Among several most accurate ones,
      the middle one is taken, or the upper of the two in the middle. (Their mean need
      not be most accurate.) A score at or above the threshold means same.
    - ``"matlab"``, as in SphereFace's code: candidates are -1, -0.9999, ..., 1; the
      threshold is the mean of all the most accurate ones. A score above it means same,
      a score below it different, and a score equal to it is an error. That code also
      subtracts the mean of the training embeddings, which is left to the caller, fold
      by fold.
    - ``"insightface"``, as in insightface's code: squared distances
      :math:`d = 2 - 2 s` are compared with 0, 0.01, ..., 3.99, and the smallest of the
      most accurate ones is taken; :math:`d` below it means same. The threshold is
      returned as a similarity, :math:`1 - d / 2`.

    A threshold chosen on the evaluated pairs themselves gives a higher accuracy, which
    the protocol does not allow. The standard error is that of the protocol, over folds;
    for an interval over subjects, see :func:`bootstrap`.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[pairs]``; cosines for the last two rules.
        same: Whether each pair is genuine, boolean, ``[pairs]``.
        folds: Fold of each pair, integer, ``[pairs]``, at least two distinct numbers.
        rule: How the threshold is chosen.
        weights: Weight of each pair, floating or integer, ``[pairs]``, not negative: a
            pair of weight 2 counts as two pairs.

    Returns:
        A :class:`VerificationAccuracy`.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean, folds not integer,
            or weights not numbers.
        ValueError: If shapes differ, scores are not finite, or not cosines where the
            rule needs cosines; if weights are negative; if there is only one fold, or a
            fold lacks genuine or impostor pairs.

    Example:
        >>> scores = jnp.array([0.812, 0.2, 0.603, 0.305])
        >>> args = scores, [True, False, True, False], [0, 0, 1, 1]
        >>> sx.metrics.verification_accuracy(*args).thresholds.round(4)
        array([0.454, 0.506])
        >>> sx.metrics.verification_accuracy(*args, rule="insightface").thresholds
        array([0.6 , 0.81])

    References:
        Huang et al., `Labeled Faces in the Wild <https://vis-www.cs.umass.edu/lfw/>`_,
        2007; the code of `SphereFace <https://github.com/wy1iu/sphereface>`_ and
        `insightface <https://github.com/deepinsight/insightface>`_.
    """
    check_choice("rule", rule, tuple(_RULES))
    scores, same, folds, weights = as_folds(scores, same, folds, weights)
    if rule != "exact":
        check_cosines(scores, rule)
    validate, words = _RULES[rule]
    thresholds, rates = [], []
    for fold in np.unique(folds):
        held = folds == fold
        threshold, is_right = validate(
            *(scores[~held], same[~held], weights[~held]), scores[held], same[held]
        )
        thresholds.append(threshold)
        rates.append(np.average(is_right, weights=weights[held]))
    error = np.std(rates, ddof=1) / np.sqrt(len(rates))
    return VerificationAccuracy(
        float(np.mean(rates)),
        float(error),
        np.array(rates),
        np.array(thresholds),
        words,
    )


def as_folds(
    scores: ArrayLike, same: ArrayLike, folds: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, same, folds and weights, without pairs of weight zero.

    Raises unless they fit, and each fold has pairs of both kinds.
    """
    each = None if weights is None else as_weights(weights, scores)
    scores, same = as_pairs(scores, same)
    folds = as_numpy_labels("folds", folds, len(scores), "scores")
    each = np.ones(len(scores)) if each is None else each
    kept = each > 0.0
    scores, same, folds = scores[kept].astype(np.float64), same[kept], folds[kept]
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
    return scores, same, folds, each[kept]


def check_cosines(scores: np.ndarray, rule: str) -> None:
    """Raises if scores cannot be cosines, in which the rule has its grid."""
    if np.max(np.abs(scores)) > 1.01:
        raise ValueError(
            f'scores must be cosines for rule="{rule}", got one of size'
            f' {np.max(np.abs(scores)):g}; rule="exact" takes any similarity.'
        )


def weight_below(
    values: np.ndarray,
    weights: np.ndarray,
    grid: np.ndarray,
    side: Literal["left", "right"] = "left",
) -> np.ndarray:
    """Total weight of the values below each point of a grid; up to it if "right"."""
    order = np.argsort(values)
    total = np.append(0.0, np.cumsum(weights[order]))
    return total[np.searchsorted(values[order], grid, side)]


# Each rule takes the training scores with their labels (genuine or not) and weights,
# and the scores of the fold held out with their labels. It returns the threshold as a
# similarity, and which pairs of the fold are classified correctly. It compares scores
# on its own scale, where its grid is exact.


def _exact(scores, same, weights, held_scores, held_same):
    counts = count_accepts(scores, same, weights)
    # After accepting k distinct scores, the threshold lies below the k-th of them.
    right = counts.genuine + (counts.impostor_total - counts.impostors)
    ordered = np.append(counts.thresholds, -np.inf)
    candidates = ordered[:-1] / 2 + ordered[1:] / 2
    best = candidates[right == right.max()]
    threshold = best[(len(best) - 1) // 2]  # they decrease: the upper of two
    return float(threshold), (held_scores >= threshold) == held_same


def _matlab(scores, same, weights, held_scores, held_same):
    ticks = np.arange(-10_000, 10_001)
    grid = ticks / 10_000
    right = weight_below(scores[~same], weights[~same], grid)
    right += weights[same].sum()
    right -= weight_below(scores[same], weights[same], grid, "right")
    threshold = float(np.mean(ticks[right == right.max()]) / 10_000)
    is_right = np.where(held_same, held_scores > threshold, held_scores < threshold)
    return threshold, is_right


def _insightface(scores, same, weights, held_scores, held_same):
    grid, distances = np.arange(0, 4, 0.01), 2 - 2 * scores
    right = weight_below(distances[same], weights[same], grid)
    right -= weight_below(distances[~same], weights[~same], grid)
    distance = grid[np.argmax(right)]
    return 1 - distance / 2, (2 - 2 * held_scores < distance) == held_same


_RULES = {
    "exact": (
        _exact,
        "midpoints of neighboring training scores; the middle one of the most"
        " accurate; score >= threshold is same",
    ),
    "matlab": (
        _matlab,
        "thresholds -1:0.0001:1; mean of all the most accurate; score > threshold is"
        " same, < different, = an error",
    ),
    "insightface": (
        _insightface,
        "squared distances 2 - 2 score, thresholds 0:0.01:3.99; the first of the most"
        " accurate; distance < threshold is same",
    ),
}
