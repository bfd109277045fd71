"""Threshold for a false accept rate, with an interval of its true rate."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_range
from sphax.metrics._bootstrap import bootstrap
from sphax.metrics._roc import Scores, counts_of
from sphax.metrics._score_counts import ScoreCounts


class ThresholdAtFar(NamedTuple):
    """A threshold and its false accept rate; see :func:`threshold_at_far`.

    Attributes:
        threshold: Smallest score at which the false accept rate is at most the given
            one; infinite where even the largest score accepts too many impostors.
        far: False accept rate of the given pairs at the threshold.
        low: Lower end of the interval of the true false accept rate.
        high: Upper end of it.
        rule: What was done, in words.

    Example:
        >>> scores = np.linspace(0.0, 1.0, 301)
        >>> found = sx.metrics.threshold_at_far(scores, scores == 1.0, far=0.01)
        >>> print(found.far, round(found.high, 4))
        0.01 0.0289
    """

    threshold: float
    far: float
    low: float
    high: float
    rule: str


def threshold_at_far(
    scores: Scores,
    same: ArrayLike | None = None,
    far: float = 1e-3,
    *,
    level: float = 0.95,
    subjects: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ThresholdAtFar:
    r"""Threshold for deployment at a false accept rate, with its uncertainty.

    The threshold is the smallest score :math:`t` with :math:`\mathrm{FAR}(t) \le f`.
    With :math:`k` of :math:`n` impostor pairs accepted there, the interval of the true
    rate is that of Clopper and Pearson, for independent pairs: with
    :math:`\alpha = 1 - \text{level}`, from the :math:`\alpha / 2` quantile of
    :math:`\mathrm{Beta}(k, n - k + 1)`, or 0 if :math:`k = 0`, to the
    :math:`1 - \alpha / 2` quantile of :math:`\mathrm{Beta}(k + 1, n - k)`, or 1 if
    :math:`k = n`. If none is accepted it ends at
    :math:`1 - (\alpha / 2)^{1/n} \approx 3.7 / n` for the level 0.95, and at the
    :math:`3 / n` of the rule of three for the level 0.9, whose upper end is a bound of
    confidence 0.95.

    Pairs that share subjects are not independent, and the interval is too short. With
    ``subjects``, it is the interval of :math:`\mathrm{FAR}(t)` by :func:`bootstrap`.
    Neither interval accounts for the choice of :math:`t` by the same pairs.

    Host code: concrete arrays, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        far: :math:`f` in [0, 1].
        level: Probability of the interval, in (0, 1).
        subjects: Subjects of both sides of each pair, integer, ``[pairs, 2]``, for the
            interval by resampling; scores are ``[pairs]`` then.
        resamples: Number of resamples; with ``subjects`` only.
        seed: Seed of the draws; with ``subjects`` only.

    Returns:
        A :class:`ThresholdAtFar`. A rate below :math:`1 / n` gives a threshold that
        accepts none of the impostors, and the interval shows what that is worth; by
        resampling it is unknown then, and ``high`` is NaN.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or subjects not
            integer.
        ValueError: If shapes do not fit, scores are not finite, there is no genuine or
            no impostor pair, ``far`` is not within [0, 1], or ``level`` not in (0, 1).

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> found = sx.metrics.threshold_at_far(scores, same, far=0.5)
        >>> print(found.threshold, found.far, round(found.low, 4), round(found.high, 4))
        0.5 0.5 0.0126 0.9874

    References:
        Clopper and Pearson, `The use of confidence or fiducial limits
        <https://doi.org/10.1093/biomet/26.4.404>`_, Biometrika 1934.
    """
    check_range("far", far, 0.0, 1.0, include_high=True)
    check_range("level", level, 0.0, 1.0, exclude_low=True)
    counts = counts_of(scores, same, None)
    rates = counts.impostors / counts.impostor_total
    last = np.searchsorted(rates, far, "right") - 1
    threshold, accepted = counts.thresholds[last], counts.impostors[last]
    rule = f"{counts.rule}; the smallest threshold with FAR <= the given one"
    if subjects is None:
        low, high = _clopper_pearson(accepted, counts.impostor_total, level)
        rule += f"; Clopper-Pearson interval of level {level:g}, for independent pairs"
    elif isinstance(scores, ScoreCounts) or same is None:
        raise ValueError(
            "subjects must go with scores of pairs; a ScoreCounts does not know whose"
            " they are."
        )
    else:

        def far_there(scores, same, weights):
            is_accepted = scores[~same] >= threshold
            return np.average(is_accepted, weights=weights[~same])

        found = bootstrap(
            far_there,
            scores,
            same,
            subjects,
            resamples=resamples,
            level=level,
            seed=seed,
        )
        low, high = found.low, found.high if accepted else np.nan
        rule += f"; {found.rule}"
    return ThresholdAtFar(
        float(threshold), float(rates[last]), float(low), float(high), rule
    )


def _clopper_pearson(k: float, n: float, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = _beta_quantile(k, n - k + 1, tail) if k else 0.0
    high = _beta_quantile(k + 1, n - k, 1 - tail) if k < n else 1.0
    return low, high


def _beta_quantile(a: float, b: float, probability: float) -> float:
    """Quantile of Beta(a, b), a and b at least 1, by integrating its density.

    The log-odds have a smooth density that falls off on both sides, at least as fast as
    a logistic one in units of ``width``: sums over a grid are accurate to 1e-6.
    """
    width = np.sqrt(1 / a + 1 / b)
    odds = np.log(a / b) + width * np.linspace(-60, 60, 2**17 + 1)
    log_density = a * odds - (a + b) * np.logaddexp(0.0, odds)
    density = np.exp(log_density - log_density.max())
    below = np.cumsum(density) - density / 2
    quantile = np.interp(probability * density.sum(), below, odds)
    return float(1 / (1 + np.exp(-quantile)))
