"""Validation rate at a false accept rate, by cross-validation over folds (LFW)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_choice, check_range
from sphax.metrics._accept_counts import count_accepts, operating_points
from sphax.metrics._verification_accuracy import as_folds, check_cosines, weight_below


class ValAtFar(NamedTuple):
    """Validation rate over folds; see :func:`val_at_far`.

    Attributes:
        val: Mean true accept rate over the folds, in [0, 1]; NaN if unsupported.
        standard_error: Standard deviation over the folds (with N - 1), divided by the
            square root of their number.
        far: Mean false accept rate over the folds, which may exceed the given one.
        per_fold: True accept rate of each fold, ordered by fold number, float64,
            ``[folds]``.
        thresholds: Similarity threshold of each fold, chosen on the others,
            ``[folds]``.
        rule: How thresholds were chosen, in words.

    Example:
        >>> scores, same = jnp.array([0.9, 0.1, 0.7, 0.3]), [True, False, True, False]
        >>> result = sx.metrics.val_at_far(scores, same, [0, 0, 1, 1], far=0.0)
        >>> print(result.per_fold, result.thresholds.round(4))
        [1. 0.] [0.7 0.9]
    """

    val: float
    standard_error: float
    far: float
    per_fold: np.ndarray
    thresholds: np.ndarray
    rule: str


def val_at_far(
    scores: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    far: float = 1e-3,
    *,
    rule: Literal["exact", "insightface"] = "exact",
    weights: ArrayLike | None = None,
) -> ValAtFar:
    r"""True accept rate at a false accept rate, by cross-validation over folds (VAL).

    The threshold for each fold is chosen on all other folds, and applied to the fold.

    - ``"exact"``: the threshold of :func:`tar_at_far`, the smallest score :math:`t`
      with :math:`\mathrm{FAR}(t) \le f` on the training folds; a score at or above it
      means same.
    - ``"insightface"``, as in the code of FaceNet's reimplementation and insightface:
      the false accept rates of the training folds at squared distances
      :math:`d = 2 - 2 s` below 0, 0.001, ..., 3.999, joined by straight lines, are
      solved for :math:`f`; if even the last one is below :math:`f`, the threshold is
      0. :math:`d` below it means same. Where the rate is flat, that code depends on the
      version of its interpolation; ours starts from the largest distance with a rate of
      at most :math:`f`. The threshold is returned as a similarity, :math:`1 - d / 2`.

    That code reports the standard deviation over folds (with N). This one reports the
    standard error of the mean, which regards folds as independent and subjects as fixed
    to their folds; for an interval over subjects, see :func:`bootstrap`.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[pairs]``; cosines for the last rule.
        same: Whether each pair is genuine, boolean, ``[pairs]``.
        folds: Fold of each pair, integer, ``[pairs]``, at least two distinct numbers.
        far: :math:`f` in [0, 1].
        rule: How the threshold is chosen.
        weights: Weight of each pair, floating or integer, ``[pairs]``, not negative: a
            pair of weight 2 counts as two pairs.

    Returns:
        A :class:`ValAtFar`. For ``"exact"``, a fold whose training folds have fewer
        than :math:`1 / f` impostors has the rate NaN, and so do the means.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean, folds not integer,
            or weights not numbers.
        ValueError: If shapes differ, scores are not finite, or not cosines where the
            rule needs cosines; if weights are negative; if there is only one fold, or a
            fold lacks genuine or impostor pairs; if ``far`` is not within [0, 1].

    Example:
        >>> scores = jnp.array([0.8, 0.2, 0.6, 0.3])
        >>> args = scores, [True, False, True, False], [0, 0, 1, 1]
        >>> sx.metrics.val_at_far(*args, far=0.0).thresholds
        array([0.6, 0.8])
        >>> sx.metrics.val_at_far(*args, far=0.0, rule="insightface").thresholds
        array([0.3, 0.2])

    References:
        Schroff et al., `FaceNet <https://arxiv.org/abs/1503.03832>`_, CVPR 2015,
        Sec. 4; the code of `insightface <https://github.com/deepinsight/insightface>`_.
    """
    check_choice("rule", rule, tuple(_RULES))
    check_range("far", far, 0.0, 1.0, include_high=True)
    scores, same, folds, weights = as_folds(scores, same, folds, weights)
    if rule == "insightface":
        check_cosines(scores, rule)
    choose, words = _RULES[rule]
    thresholds, rates = [], []
    for fold in np.unique(folds):
        held = folds == fold
        threshold, is_accepted = choose(
            *(scores[~held], same[~held], weights[~held]), scores[held], float(far)
        )
        thresholds.append(threshold)
        rates.append(
            [
                np.average(is_accepted[kind], weights=weights[held][kind])
                for kind in (same[held], ~same[held])
            ]
        )
    thresholds = np.array(thresholds)
    rates = np.where(np.isnan(thresholds)[:, None], np.nan, rates)
    error = np.std(rates[:, 0], ddof=1) / np.sqrt(len(rates))
    val, reached = rates.mean(axis=0)
    return ValAtFar(
        float(val), float(error), float(reached), rates[:, 0], thresholds, words
    )


# Each rule takes the training scores with their labels (genuine or not) and weights,
# the scores of the fold held out, and the false accept rate. It returns the threshold
# as a similarity, and which pairs of the fold are accepted.


def _exact(scores, same, weights, held_scores, far):
    counts = count_accepts(scores, same, weights)
    threshold = float(operating_points(counts, far)[1])
    return threshold, held_scores >= threshold


def _insightface(scores, same, weights, held_scores, far):
    grid = np.arange(0, 4, 0.001)
    below = weight_below(2 - 2 * scores[~same], weights[~same], grid)
    rates = below / weights[~same].sum()
    distance = 0.0
    if rates[-1] >= far:
        last = max(0, np.searchsorted(rates, far, "right") - 1)
        distance = np.interp(far, rates[last : last + 2], grid[last : last + 2])
    return 1 - distance / 2, 2 - 2 * held_scores < distance


_RULES = {
    "exact": (
        _exact,
        "the smallest training score with FAR <= the given one; score >= threshold is"
        " same",
    ),
    "insightface": (
        _insightface,
        "squared distances 2 - 2 score, thresholds 0:0.001:3.999, interpolated at the"
        " given FAR; distance < threshold is same",
    ),
}
