"""Verification rates over thresholds: ROC, its area, EER and TAR at a FAR."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax.metrics._counts import ScoreCounts
from sphax.metrics._inputs import as_pairs, as_rate
from sphax.metrics._steps import Steps, operate_at, steps_of_scores

Scores = ArrayLike | ScoreCounts


class Roc(NamedTuple):
    """Corners of a ROC curve; see :func:`roc`.

    Attributes:
        thresholds: Falling from infinity, float64, ``[n]``.
        far: False accept rate (impostors with score >= threshold), ``[n]``, from 0.
        tar: True accept rate (genuine with score >= threshold), ``[n]``, to 1.
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
        tar: True accept rate, of the shape of the rates asked for; NaN if unsupported.
        threshold: The threshold that gives it, of that shape; infinite where even the
            largest score accepts too many impostors.
        far: The false accept rate reached there, at most the one asked for.
        is_supported: Whether there are impostors enough, boolean, of that shape.
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

    :math:`\mathrm{TAR}(t)` is the share of genuine, :math:`\mathrm{FAR}(t)` of impostor
    pairs with score :math:`\ge t`. Points inside a straight run, horizontal or
    vertical, are left out: the curve through the others is the same.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.

    Returns:
        A :class:`Roc`, of the first point (0, 0), the last (1, 1) and the corners.

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
    steps = _steps(scores, same)
    flat = (np.diff(steps.impostors) == 0, np.diff(steps.genuine) == 0)
    is_inside = np.any([run[:-1] & run[1:] for run in flat], axis=0)
    kept = np.concatenate([[True], ~is_inside, [True]])
    far, tar = (rate[kept] for rate in _rates(steps))
    return Roc(
        steps.thresholds[kept],
        far,
        tar,
        _area(far, tar),
        _crossing(far, tar),
        steps.genuine_total,
        steps.impostor_total,
        f"{steps.rule}; area by trapezoids, so that a tie counts half; EER on the"
        " straight line between the two points around FAR = 1 - TAR",
    )


def roc_auc(scores: Scores, same: ArrayLike | None = None) -> float:
    r"""Area under the ROC curve.

    :math:`P(g > i) + \tfrac12 P(g = i)` for a genuine score :math:`g` and an impostor's
    :math:`i`: the trapezoids under :func:`roc`.

    Args:
        scores: As for :func:`roc`.
        same: As there.

    Returns:
        A number in [0, 1]. From a :class:`ScoreCounts`, scores of one bin are ties.

    Raises:
        TypeError: As :func:`roc`.
        ValueError: As :func:`roc`.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.roc_auc(scores, [True, False, True, False])
        0.75
    """
    return _area(*_rates(_steps(scores, same)))


def equal_error_rate(scores: Scores, same: ArrayLike | None = None) -> float:
    r"""Rate at which false accepts and false rejects are equally frequent.

    Where :math:`\mathrm{FAR} = 1 - \mathrm{TAR}` on the straight line between the two
    neighbouring points of the ROC curve around it.

    Args:
        scores: As for :func:`roc`.
        same: As there.

    Returns:
        A number in [0, 1].

    Raises:
        TypeError: As :func:`roc`.
        ValueError: As :func:`roc`.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.equal_error_rate(scores, [True, False, True, False])
        0.5
    """
    return _crossing(*_rates(_steps(scores, same)))


def tar_at_far(
    scores: Scores,
    same: ArrayLike | None = None,
    far: ArrayLike = 1e-3,
) -> TarAtFar:
    r"""True accept rate at a false accept rate.

    :math:`\mathrm{TAR}(t)` at the smallest threshold :math:`t` with
    :math:`\mathrm{FAR}(t) \le f`: a step function, nothing is interpolated. Some codes
    interpolate the ROC, or take the tabulated FAR nearest to :math:`f`, which may
    exceed it; their rates are higher.

    Args:
        scores: As for :func:`roc`.
        same: As there.
        far: :math:`f` in [0, 1], one or several.

    Returns:
        A :class:`TarAtFar` of the shape of ``far``. With fewer than :math:`1 / f`
        impostors the rate cannot be measured: it is NaN, and ``is_supported`` False. At
        ``far=0`` it is the rate at which none of these impostors is accepted, one less
        the ZeroFMR of FVC, which falls as impostors are added.

    Raises:
        TypeError: As :func:`roc`.
        ValueError: As :func:`roc`, or if ``far`` is not within [0, 1].

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> at = sx.metrics.tar_at_far(scores, [True, False, True, False], far=[0.5, 1])
        >>> print(at.tar, at.threshold)
        [1. 1.] [0.5 0.3]

    References:
        Maio et al., `FVC2000: Fingerprint Verification Competition
        <https://doi.org/10.1109/34.990140>`_, TPAMI 2002, for ZeroFMR.
    """
    rates = as_rate("far", far)
    steps = _steps(scores, same)
    return TarAtFar(
        *operate_at(steps, rates),
        rule=f"{steps.rule}; the smallest threshold with FAR <= the given one",
    )


def _steps(scores: Scores, same: ArrayLike | None) -> Steps:
    if isinstance(scores, ScoreCounts):
        if same is not None:
            raise ValueError("same has no effect with ScoreCounts; leave it out.")
        steps = scores.steps()
    elif same is None:
        raise ValueError("same must be given, unless scores are a ScoreCounts.")
    else:
        steps = steps_of_scores(*as_pairs(scores, same))
    for kind, total in (
        ("genuine", steps.genuine_total),
        ("impostor", steps.impostor_total),
    ):
        if total == 0:
            raise ValueError(
                f"same must have genuine and impostor pairs, got no {kind} pair."
            )
    return steps


def _rates(steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates."""
    return steps.impostors / steps.impostor_total, steps.genuine / steps.genuine_total


def _area(far: np.ndarray, tar: np.ndarray) -> float:
    return float(np.trapezoid(tar, far))


def _crossing(far: np.ndarray, tar: np.ndarray) -> float:
    excess = far - (1.0 - tar)  # from -1 to 1
    after = int(np.argmax(excess >= 0.0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return float(far[before] + part * (far[after] - far[before]))
