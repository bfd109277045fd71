"""Log-likelihood ratios of pairs: their cost (Cllr), and calibration of scores."""

from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_finite, check_choice, check_flag, check_range
from sphax.metrics._accept_counts import (
    AcceptCounts,
    as_pairs,
    as_weights,
    check_kinds,
)
from sphax.metrics._roc import Scores, counts_of


def cllr(llr: ArrayLike, same: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    r"""Cost of log-likelihood ratios (Cllr), in bits.

    For natural logarithms :math:`\ell` of the likelihood ratio of genuine to impostor,

    .. math::
        \tfrac12 \operatorname{mean}_{\text{genuine}} \log_2(1 + e^{-\ell})
        + \tfrac12 \operatorname{mean}_{\text{impostor}} \log_2(1 + e^{\ell}).

    Ratios that tell nothing, :math:`\ell = 0`, cost 1; perfect ones cost 0; misleading
    ones may cost more than 1. The cost is the sum of :func:`min_cllr`, which depends on
    the order of the pairs alone, and of a loss by wrong calibration.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        llr: Log-likelihood ratios :math:`\ell`, floating, ``[...]``; they may be
            infinite.
        same: Whether each pair is genuine, boolean, ``[...]``.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs.

    Returns:
        The cost, 0 or more. An infinite ratio costs 0 if it is right, and makes the
        cost infinite if it is wrong.

    Raises:
        TypeError: If ratios are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, a ratio is NaN, weights are negative, or there is
            no genuine or no impostor pair.

    Example:
        >>> llr = jnp.array([2.0, 1.0, 0.0, -1.0])
        >>> round(sx.metrics.cllr(llr, [True, True, False, False]), 6)
        0.52175

    References:
        Brümmer and du Preez, `Application-independent evaluation of speaker detection
        <https://doi.org/10.1016/j.csl.2005.08.001>`_, Computer Speech and Language
        2006.
    """
    ratios = np.asarray(llr)
    is_infinite = np.isinf(ratios)
    same = as_pairs(np.where(is_infinite, 0, ratios), same, name="llr")[1]
    ratios = ratios.astype(np.float64).ravel()
    each = np.ones(len(ratios)) if weights is None else as_weights(weights, llr)
    return _cost(ratios, each * same, each * ~same)


def min_cllr(
    scores: Scores, same: ArrayLike | None = None, *, weights: ArrayLike | None = None
) -> float:
    r"""Cost of the best log-likelihood ratios that rise with the score, in bits.

    :func:`cllr` after the calibration ``calibrate(scores, same, method="pav")`` of the
    same scores. It measures how well scores separate genuine from impostor pairs;
    ``cllr(llr, same) - min_cllr(llr, same)`` is what wrong calibration costs.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A number in [0, 1]: 0 for separated scores, 1 for equal ones.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.5, 0.3])
        >>> sx.metrics.min_cllr(scores, [True, False, True, False])
        0.5

    References:
        Brümmer and du Preez, `Application-independent evaluation of speaker detection
        <https://doi.org/10.1016/j.csl.2005.08.001>`_, Computer Speech and Language
        2006.
    """
    counts = counts_of(scores, same, weights)
    _, *steps = _pool(counts)
    return _cost(_ratios(*steps), *steps)


class LogisticCalibration(NamedTuple):
    r"""A straight line from scores to log-likelihood ratios; see :func:`calibrate`.

    A call ``calibration(scores)`` returns ``slope * scores + intercept``.

    Attributes:
        slope: Change of the ratio with the score, positive if genuine pairs score
            higher.
        intercept: Ratio of the score 0.
        rule: What was done, in words.

    Example:
        >>> calibration = sx.metrics.LogisticCalibration(10.0, -4.0, "by hand")
        >>> calibration(jnp.array([0.4, 0.6]))
        array([0., 2.])
    """

    slope: float
    intercept: float
    rule: str

    def __call__(self, scores: ArrayLike) -> np.ndarray:
        """Log-likelihood ratios of floating scores, in their shape, float64."""
        scores = as_finite("scores", scores).astype(np.float64)
        return self.slope * scores + self.intercept


class PavCalibration(NamedTuple):
    """Steps from scores to log-likelihood ratios; see :func:`calibrate`.

    A call ``calibration(scores)`` returns, for each score, the ratio of the first
    threshold that it reaches, and the last ratio if it reaches none of them.

    Attributes:
        thresholds: Decreasing, float64, ``[steps]``.
        llr: Log-likelihood ratio at each, decreasing, ``[steps]``; it may be infinite.
        rule: What was done, in words.

    Example:
        >>> steps = np.array([0.75, 0.25]), np.array([1.5, -2.0])
        >>> calibration = sx.metrics.PavCalibration(*steps, "by hand")
        >>> calibration(jnp.array([0.9, 0.75, 0.5, 0.1]))
        array([ 1.5,  1.5, -2. , -2. ])
    """

    thresholds: np.ndarray
    llr: np.ndarray
    rule: str

    def __call__(self, scores: ArrayLike) -> np.ndarray:
        """Log-likelihood ratios of floating scores, in their shape, float64."""
        scores = as_finite("scores", scores).astype(np.float64)
        step = np.searchsorted(-self.thresholds, -scores)
        return self.llr[np.minimum(step, len(self.llr) - 1)]


@overload
def calibrate(
    scores: Scores,
    same: ArrayLike | None = None,
    *,
    method: Literal["logistic"] = "logistic",
    prior: float = 0.5,
    smooth: bool = False,
    weights: ArrayLike | None = None,
) -> LogisticCalibration: ...
@overload
def calibrate(
    scores: Scores,
    same: ArrayLike | None = None,
    *,
    method: Literal["pav"],
    prior: float = 0.5,
    smooth: bool = False,
    weights: ArrayLike | None = None,
) -> PavCalibration: ...
def calibrate(
    scores: Scores,
    same: ArrayLike | None = None,
    *,
    method: Literal["logistic", "pav"] = "logistic",
    prior: float = 0.5,
    smooth: bool = False,
    weights: ArrayLike | None = None,
) -> LogisticCalibration | PavCalibration:
    r"""A function from scores to log-likelihood ratios, fitted to pairs.

    - ``"logistic"``: :math:`\ell = a s + b`, where :math:`a, b` minimize

      .. math::
          \pi \operatorname{mean}_{\text{genuine}} \log(1 + e^{-\ell - \lambda})
          + (1 - \pi) \operatorname{mean}_{\text{impostor}} \log(1 + e^{\ell + \lambda})

      with prior :math:`\pi` and :math:`\lambda = \log \pi - \log(1 - \pi)`, by
      Newton's method.
    - ``"pav"``: the rising function of the scores that fits best, by every proper cost
      (pool adjacent violators). In each of its steps :math:`\ell` is the logarithm of
      the share of genuine pairs divided by the share of impostor pairs. In the outer
      steps it is often infinite; ``smooth=True`` makes it finite by one genuine and one
      impostor pair more, at either end of the scores.

    Apply it to other pairs than those it was fitted to, and judge it by :func:`cllr`.

    Host code: concrete arrays, float64, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[...]``, or a :class:`ScoreCounts`, whose
            scores are taken at the lower ends of their bins.
        same: Whether each pair is genuine, boolean, ``[...]``; not given with counts.
        method: Kind of function.
        prior: Probability :math:`\pi` of a genuine pair, in (0, 1), near which ratios
            should be most accurate; for ``"logistic"`` only.
        smooth: Whether to add two pairs at either end; for ``"pav"`` only.
        weights: Weight of each pair, floating or integer, ``[...]``, not negative: a
            pair of weight 2 counts as two pairs. Not given with counts.

    Returns:
        A :class:`LogisticCalibration` or a :class:`PavCalibration`; either is called
        with scores and returns natural-log likelihood ratios.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean or weights not
            numbers.
        ValueError: If shapes differ, scores are not finite, weights are negative, or
            there is no genuine or no impostor pair; if ``prior`` is not in (0, 1); if
            an option of the other method is given; for ``"logistic"``, if a threshold
            separates genuine from impostor pairs, where no :math:`a, b` are best.

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> sx.metrics.calibrate(scores, same)(jnp.array([0.4, 0.6, 0.8])).round(4)
        array([-0.9082,  0.    ,  0.9082])
        >>> sx.metrics.calibrate(scores, same, method="pav", smooth=True).llr.round(4)
        array([ 0.6931,  0.    , -0.6931])

    References:
        Brümmer and du Preez, `Application-independent evaluation of speaker detection
        <https://doi.org/10.1016/j.csl.2005.08.001>`_, Computer Speech and Language
        2006.
    """
    check_choice("method", method, ("logistic", "pav"))
    check_range("prior", prior, 0.0, 1.0, exclude_low=True)
    check_flag("smooth", smooth)
    if method == "logistic" and smooth:
        raise ValueError('smooth has an effect with method="pav" only; leave it out.')
    if method == "pav" and prior != 0.5:
        raise ValueError(
            'prior has an effect with method="logistic" only; leave it out.'
        )
    counts = counts_of(scores, same, weights)
    if method == "logistic":
        return _fit_line(counts, float(prior))
    if smooth:
        counts = _with_two_pairs_at_either_end(counts)
    thresholds, *steps = _pool(counts)
    return PavCalibration(
        thresholds,
        _ratios(*steps),
        "pool adjacent violators, ties pooled first"
        + ("; one pair of each kind more at either end" if smooth else ""),
    )


def _cost(llr: np.ndarray, genuine: np.ndarray, impostors: np.ndarray) -> float:
    """Cllr of ratios that have these weights in genuine and in impostor pairs."""
    check_kinds(genuine.sum(), impostors.sum())
    costs = 0.0
    for sign, weights in ((-1.0, genuine), (1.0, impostors)):
        occurs = weights > 0.0  # infinity times zero would be NaN
        bits = np.logaddexp(0.0, sign * llr[occurs]) / np.log(2.0)
        costs += np.average(bits, weights=weights[occurs])
    return float(costs / 2)


def _pool(counts: AcceptCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, and weights of genuine and impostor pairs, of the steps of PAV.

    Their ends are the corners of the convex hull above the ROC curve.
    """
    points = list(zip(counts.impostors.tolist(), counts.genuine.tolist(), strict=True))
    kept: list[int] = []
    for number, (x, y) in enumerate(points):
        while len(kept) > 1:
            (x0, y0), (x1, y1) = points[kept[-2]], points[kept[-1]]
            if (y1 - y0) * (x - x1) > (y - y1) * (x1 - x0):
                break
            kept.pop()
        kept.append(number)
    genuine, impostors = np.diff(counts.genuine[kept]), np.diff(counts.impostors[kept])
    return counts.thresholds[kept[1:]], genuine, impostors


def _ratios(genuine: np.ndarray, impostors: np.ndarray) -> np.ndarray:
    """Log-likelihood ratios of steps with these weights of pairs."""
    with np.errstate(divide="ignore"):  # to infinity
        ratios = np.log(genuine) - np.log(impostors)
    return ratios - np.log(genuine.sum() / impostors.sum())


def _with_two_pairs_at_either_end(counts: AcceptCounts) -> AcceptCounts:
    genuine, impostors = (
        np.concatenate([[0], accepted + 1, [total + 2]])
        for accepted, total in (
            (counts.genuine, counts.genuine_total),
            (counts.impostors, counts.impostor_total),
        )
    )
    thresholds = np.concatenate([[np.inf], counts.thresholds, [-np.inf]])
    return counts._replace(thresholds=thresholds, genuine=genuine, impostors=impostors)


def _fit_line(counts: AcceptCounts, prior: float) -> LogisticCalibration:
    scores = counts.thresholds[1:]
    genuine, impostors = np.diff(counts.genuine), np.diff(counts.impostors)
    of_genuine, of_impostors = scores[genuine > 0], scores[impostors > 0]
    if of_genuine[-1] >= of_impostors[0] or of_genuine[0] <= of_impostors[-1]:
        raise ValueError(
            "scores of genuine and impostor pairs must overlap for"
            f' method="logistic", got genuine ones in [{of_genuine[-1]:g},'
            f" {of_genuine[0]:g}] and impostor ones in [{of_impostors[-1]:g},"
            f" {of_impostors[0]:g}], which a threshold separates, so that no finite"
            ' slope is best; use method="pav" with smooth=True, or more pairs.'
        )
    center, spread = scores.mean(), scores.std()
    design = np.stack([(scores - center) / spread, np.ones_like(scores)])
    genuine = prior * genuine / counts.genuine_total
    impostors = (1 - prior) * impostors / counts.impostor_total
    offset = np.log(prior / (1 - prior))

    def entropy(line):
        logits = line @ design + offset
        return genuine @ np.logaddexp(0.0, -logits) + impostors @ np.logaddexp(
            0.0, logits
        )

    line = np.zeros(2)
    for _ in range(100):
        logits = line @ design + offset
        posterior = np.exp(-np.logaddexp(0.0, -logits))
        gradient = design @ (impostors * posterior - genuine * (1 - posterior))
        curvature = (genuine + impostors) * posterior * (1 - posterior)
        step = np.linalg.solve((design * curvature) @ design.T, gradient)
        decrement = gradient @ step
        size = 1.0
        # Close to the minimum, where rounding hides the descent, full steps converge.
        while decrement > 1e-9 and entropy(line) - entropy(line - size * step) < (
            size * decrement / 4
        ):
            size /= 2
        line = line - size * step
        if decrement < 1e-20:
            break
    slope = line[0] / spread
    return LogisticCalibration(
        float(slope),
        float(line[1] - slope * center),
        f"logistic regression at prior {prior:g}, without regularization",
    )
