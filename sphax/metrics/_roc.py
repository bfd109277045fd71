"""Verification of pairs: ROC curve, area under it, EER, and TAR at a given FAR."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax.metrics._accept_counts import (
    AcceptCounts,
    as_pairs,
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
        genuine: Number of genuine pairs.
        impostors: Number of impostor pairs.
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
    genuine: int
    impostors: int
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


def roc(scores: Scores, same: ArrayLike | None = None) -> Roc:
    r"""Receiver operating characteristic of pairs.

    :math:`\mathrm{TAR}(t)` is the share of genuine pairs with score :math:`\ge t`,
    :math:`\mathrm{FAR}(t)` the share of impostor pairs. Points on a horizontal or
    vertical piece of the curve, other than its ends, are left out.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.

    Returns:
        A :class:`Roc`: the points (0, 0) and (1, 1), and the corners between them.

    Raises:
        TypeError: If scores are not floating or ``same`` not boolean.
        ValueError: If shapes differ, scores are not finite, or there is no genuine or
            no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> curve = sx.metrics.roc(scores, [True, False, True, False])
        >>> print(curve.far, curve.tar)
        [0.  0.  0.5 0.5 1. ] [0.  0.5 0.5 1.  1. ]
    """
    counts = _accept_counts(scores, same)
    flat = (np.diff(counts.impostors) == 0, np.diff(counts.genuine) == 0)
    is_inside = np.any([run[:-1] & run[1:] for run in flat], axis=0)
    kept = np.concatenate([[True], ~is_inside, [True]])
    far, tar = (rate[kept] for rate in _rates(counts))
    return Roc(
        counts.thresholds[kept],
        far,
        tar,
        _area(far, tar),
        _crossing(far, tar),
        counts.genuine_total,
        counts.impostor_total,
        f"{counts.rule}; area by trapezoids, so that a tie counts half; EER on the"
        " straight line between the two points around FAR = 1 - TAR",
    )


def roc_auc(scores: Scores, same: ArrayLike | None = None) -> float:
    r"""Area under the ROC curve.

    The probability :math:`P(g > i) + \tfrac12 P(g = i)` that a genuine score :math:`g`
    exceeds an impostor score :math:`i`, which is the area of the trapezoids under
    :func:`roc`.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.

    Returns:
        A number in [0, 1]. From a :class:`ScoreCounts`, scores of one bin are ties.

    Raises:
        TypeError: If scores are not floating or ``same`` not boolean.
        ValueError: If shapes differ, scores are not finite, or there is no genuine or
            no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.roc_auc(scores, [True, False, True, False])
        0.75
    """
    return _area(*_rates(_accept_counts(scores, same)))


def equal_error_rate(scores: Scores, same: ArrayLike | None = None) -> float:
    r"""Rate at which false accepts and false rejects are equally frequent.

    The rate with :math:`\mathrm{FAR} = 1 - \mathrm{TAR}`, on the straight line between
    the two points of the ROC curve on either side of it.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.

    Returns:
        A number in [0, 1].

    Raises:
        TypeError: If scores are not floating or ``same`` not boolean.
        ValueError: If shapes differ, scores are not finite, or there is no genuine or
            no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.equal_error_rate(scores, [True, False, True, False])
        0.5
    """
    return _crossing(*_rates(_accept_counts(scores, same)))


def tar_at_far(
    scores: Scores,
    same: ArrayLike | None = None,
    far: ArrayLike = 1e-3,
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

    Returns:
        A :class:`TarAtFar` of the shape of ``far``. With fewer than :math:`1 / f`
        impostors the rate cannot be measured: it is NaN, and ``is_supported`` False.
        ``far=0`` gives the rate at which none of the impostors is accepted (one minus
        the ZeroFMR of FVC); it decreases as impostors are added.

    Raises:
        TypeError: If scores are not floating or ``same`` not boolean.
        ValueError: If shapes differ, scores are not finite, there is no genuine or no
            impostor pair, or ``far`` is not within [0, 1].

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> at = sx.metrics.tar_at_far(scores, [True, False, True, False], far=[0.5, 1])
        >>> print(at.tar, at.threshold)
        [1. 1.] [0.5 0.3]

    References:
        Maio et al., `FVC2000: Fingerprint Verification Competition
        <https://doi.org/10.1109/34.990140>`_, TPAMI 2002, for ZeroFMR.
    """
    counts = _accept_counts(scores, same)
    return TarAtFar(
        *operating_points(counts, far),
        rule=f"{counts.rule}; the smallest threshold with FAR <= the given one",
    )


def _accept_counts(scores: Scores, same: ArrayLike | None) -> AcceptCounts:
    if isinstance(scores, ScoreCounts):
        if same is not None:
            raise ValueError("same has no effect with ScoreCounts; leave it out.")
        counts = scores.accept_counts()
    elif same is None:
        raise ValueError("same must be given, unless scores are a ScoreCounts.")
    else:
        counts = count_accepts(*as_pairs(scores, same))
    for kind, total in (
        ("genuine", counts.genuine_total),
        ("impostor", counts.impostor_total),
    ):
        if total == 0:
            raise ValueError(
                f"same must have genuine and impostor pairs, got no {kind} pair."
            )
    return counts


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
