"""Verification of pairs: ROC and DET curves, areas, EER, and TAR at a given FAR."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_flag, check_range
from sphax.metrics._accept_counts import (
    AcceptCounts,
    as_pairs,
    as_weights,
    check_kinds,
    count_accepts,
    operating_points,
)
from sphax.metrics._score_counts import ScoreCounts

Scores = ArrayLike | ScoreCounts


class Roc(NamedTuple):
    """Corners of a ROC curve; see :func:`roc`.

    Attributes:
        thresholds: Decreasing from infinity, float64, ``[n]``.
        far: False accept rate, increasing from 0 to 1, ``[n]``.
        tar: True accept rate, increasing from 0 to 1, ``[n]``.
        auc: Area under the curve; see :func:`roc_auc`.
        eer: Equal error rate; see :func:`equal_error_rate`.
        genuine: Number of genuine pairs, or their total weight.
        impostors: Number of impostor pairs, or their total weight.
        rule: What was done, in words.

    Example:
        >>> curve = sx.metrics.roc(jnp.array([0.9, 0.4, 0.1]), [True, False, False])
        >>> curve.genuine, curve.impostors, curve.auc
        (1, 2, 1.0)
    """

    thresholds: np.ndarray
    far: np.ndarray
    tar: np.ndarray
    auc: float
    eer: float
    genuine: float
    impostors: float
    rule: str


class TarAtFar(NamedTuple):
    """True accept rates at given false accept rates; see :func:`tar_at_far`.

    Attributes:
        tar: True accept rate, in the shape of the requested rates; NaN if unsupported.
        threshold: Threshold at which it is reached, in the same shape; infinite where
            even the largest score accepts too many impostors.
        far: False accept rate reached there, at most the requested one.
        is_supported: Whether there are enough impostors for the rate, boolean.
        rule: What was done, in words.

    Example:
        >>> at = sx.metrics.tar_at_far(jnp.array([0.9, 0.4]), [True, False], far=1e-3)
        >>> print(at.tar, at.is_supported)
        nan False
    """

    tar: np.ndarray
    threshold: np.ndarray
    far: np.ndarray
    is_supported: np.ndarray
    rule: str


def roc(
    scores: Scores, same: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> Roc:
    r"""Receiver operating characteristic of pairs.

    :math:`\mathrm{TAR}(t)` is the share of genuine pairs with score :math:`\ge t`,
    :math:`\mathrm{FAR}(t)` the share of impostor pairs. Points on a horizontal or
    vertical piece of the curve, other than its ends, are left out.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A :class:`Roc`: the points (0, 0) and (1, 1), and the corners between them.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> curve = sx.metrics.roc(scores, [True, False, True, False])
        >>> print(curve.far, curve.tar)
        [0.  0.  0.5 0.5 1. ] [0.  0.5 0.5 1.  1. ]
    """
    counts = counts_of(scores, same, weights)
    thresholds, far, tar = _corners(counts)
    return Roc(
        thresholds,
        far,
        tar,
        _area(far, tar),
        _crossing(far, tar),
        counts.genuine_total,
        counts.impostor_total,
        f"{counts.rule}; area by trapezoids, so that a tie counts half; EER on the"
        " straight line between the two points around FAR = 1 - TAR",
    )


def roc_auc(
    scores: Scores, same: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> float:
    r"""Area under the ROC curve.

    The probability :math:`P(g > i) + \tfrac12 P(g = i)` that a genuine score :math:`g`
    exceeds an impostor score :math:`i`, which is the area of the trapezoids under
    :func:`roc`.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A number in [0, 1]. From a :class:`ScoreCounts`, scores of one bin are ties.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.roc_auc(scores, [True, False, True, False])
        0.75
    """
    return _area(*_rates(counts_of(scores, same, weights)))


def equal_error_rate(
    scores: Scores, same: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> float:
    r"""Rate at which false accepts and false rejects are equally frequent.

    The rate with :math:`\mathrm{FAR} = 1 - \mathrm{TAR}`, on the straight line between
    the two points of the ROC curve on either side of it.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A number in [0, 1].

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.equal_error_rate(scores, [True, False, True, False])
        0.5
    """
    return _crossing(*_rates(counts_of(scores, same, weights)))


def tar_at_far(
    scores: Scores,
    same: ArrayLike | None = None,
    far: ArrayLike = 1e-3,
    *,
    weights: ArrayLike | None = None,
) -> TarAtFar:
    r"""True accept rate at a false accept rate.

    :math:`\mathrm{TAR}(t)` at the smallest threshold :math:`t` with
    :math:`\mathrm{FAR}(t) \le f`, without interpolation. Some implementations
    interpolate the ROC, or take the tabulated FAR nearest to :math:`f`, which may
    exceed it; their rates are higher.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        far: :math:`f` in [0, 1], one or several.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A :class:`TarAtFar` of the shape of ``far``. With fewer than :math:`1 / f`
        impostors the rate cannot be measured: it is NaN, and ``is_supported`` False.
        The total weight of the impostors stands for their number, if there are weights.
        ``far=0`` gives the rate at which none of the impostors is accepted (one minus
        the ZeroFMR of FVC); it decreases as impostors are added.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, there
            is no genuine or no impostor pair, or ``far`` is not within [0, 1].

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> at = sx.metrics.tar_at_far(scores, [True, False, True, False], far=[0.5, 1])
        >>> print(at.tar, at.threshold)
        [1. 1.] [0.5 0.3]

    References:
        Maio et al., `FVC2000: Fingerprint Verification Competition
        <https://doi.org/10.1109/34.990140>`_, TPAMI 2002, for ZeroFMR.
    """
    counts = counts_of(scores, same, weights)
    return TarAtFar(
        *operating_points(counts, far),
        rule=f"{counts.rule}; the smallest threshold with FAR <= the given one",
    )


def partial_auc(
    scores: Scores,
    same: ArrayLike | None = None,
    *,
    max_far: float,
    standardize: bool = False,
    weights: ArrayLike | None = None,
) -> float:
    r"""Area under the ROC curve at small false accept rates.

    The mean of the true accept rate over :math:`\mathrm{FAR} \in [0, f]`,

    .. math::
        \frac{A}{f}, \qquad A = \int_0^f \mathrm{TAR} \; d\,\mathrm{FAR},

    on the straight lines of :func:`roc`. The standardized value

    .. math::
        \frac12 \Bigl(1 + \frac{A - f^2 / 2}{f - f^2 / 2}\Bigr)

    is 1/2 where scores tell nothing, and 1 where no genuine pair is rejected. For
    :math:`f = 1` both are :func:`roc_auc`.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        max_far: Largest false accept rate :math:`f`, in (0, 1].
        standardize: Whether to return the standardized value (McClish).
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A number, in [0, 1].

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, there
            is no genuine or no impostor pair, or ``max_far`` is not in (0, 1].

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> sx.metrics.partial_auc(scores, same, max_far=0.5)
        0.5

    References:
        McClish, `Analyzing a portion of the ROC curve
        <https://doi.org/10.1177/0272989X8900900307>`_, Medical Decision Making 1989.
    """
    check_range("max_far", max_far, 0.0, 1.0, exclude_low=True, include_high=True)
    check_flag("standardize", standardize)
    limit = float(max_far)
    far, tar = _rates(counts_of(scores, same, weights))
    after = int(np.argmax(far >= limit))
    before = after - 1
    part = (limit - far[before]) / (far[after] - far[before])
    end = tar[before] + part * (tar[after] - tar[before])
    area = _area(np.append(far[:after], limit), np.append(tar[:after], end))
    if not standardize:
        return area / limit
    chance = limit**2 / 2
    return (1 + (area - chance) / (limit - chance)) / 2


class Det(NamedTuple):
    """Corners of a DET curve; see :func:`det`.

    Attributes:
        thresholds: Decreasing from infinity, float64, ``[n]``.
        far: False accept rate, increasing from 0 to 1, ``[n]``.
        frr: False reject rate, decreasing from 1 to 0, ``[n]``.
        far_probit: Normal quantile of ``far``, from minus infinity to infinity,
            ``[n]``.
        frr_probit: Normal quantile of ``frr``, from infinity to minus infinity,
            ``[n]``.
        rule: What was done, in words.

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> print(sx.metrics.det(scores, same).frr_probit)
        [ inf   0.   0. -inf -inf]
    """

    thresholds: np.ndarray
    far: np.ndarray
    frr: np.ndarray
    far_probit: np.ndarray
    frr_probit: np.ndarray
    rule: str


def det(
    scores: Scores, same: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> Det:
    r"""Detection error tradeoff: both error rates, on axes of normal quantiles.

    The corners of :func:`roc` with the false reject rate
    :math:`\mathrm{FRR} = 1 - \mathrm{TAR}`, and the quantiles :math:`\Phi^{-1}`
    (probits) of both rates, where :math:`\Phi` is the distribution function of the
    standard normal. On axes of these quantiles, normally distributed scores give a
    straight line.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A :class:`Det`. The quantiles of the rates 0 and 1 are infinite; clip them for a
        plot.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair.

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> curve = sx.metrics.det(scores, same)
        >>> print(curve.far, curve.frr)
        [0.  0.  0.5 0.5 1. ] [1.  0.5 0.5 0.  0. ]

    References:
        Martin et al., `The DET curve in assessment of detection task performance
        <https://doi.org/10.21437/Eurospeech.1997-504>`_, Eurospeech 1997.
    """
    counts = counts_of(scores, same, weights)
    thresholds, far, tar = _corners(counts)
    frr = 1.0 - tar
    return Det(thresholds, far, frr, _probits(far), _probits(frr), counts.rule)


def counts_of(
    scores: Scores, same: ArrayLike | None, weights: ArrayLike | None
) -> AcceptCounts:
    """Accept counts of scores or of a histogram; raises unless both kinds occur."""
    if isinstance(scores, ScoreCounts):
        for name, value in (("same", same), ("weights", weights)):
            if value is not None:
                raise ValueError(
                    f"{name} has no effect with ScoreCounts; leave it out."
                )
        counts = scores.accept_counts()
    elif same is None:
        raise ValueError("same must be given, unless scores are a ScoreCounts.")
    else:
        pairs = as_pairs(scores, same)
        each = None if weights is None else as_weights(weights, scores)
        counts = count_accepts(*pairs, each)
    check_kinds(counts.genuine_total, counts.impostor_total)
    return counts


def _corners(counts: AcceptCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds and rates of the points not within a flat or an upright piece."""
    flat = (np.diff(counts.impostors) == 0, np.diff(counts.genuine) == 0)
    is_inside = np.any([run[:-1] & run[1:] for run in flat], axis=0)
    kept = np.concatenate([[True], ~is_inside, [True]])
    far, tar = (rate[kept] for rate in _rates(counts))
    return counts.thresholds[kept], far, tar


def _rates(counts: AcceptCounts) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates."""
    far = counts.impostors / counts.impostor_total
    return far, counts.genuine / counts.genuine_total


def _area(far: np.ndarray, tar: np.ndarray) -> float:
    return float(np.trapezoid(tar, far))


def _crossing(far: np.ndarray, tar: np.ndarray) -> float:
    excess = far - (1.0 - tar)  # from -1 to 1
    after = int(np.argmax(excess >= 0.0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return float(far[before] + part * (far[after] - far[before]))


def _probits(rates: np.ndarray) -> np.ndarray:
    quantile = NormalDist().inv_cdf  # refuses 0 and 1
    ends = {0.0: -np.inf, 1.0: np.inf}
    return np.array([ends[r] if r in ends else quantile(r) for r in rates.tolist()])
