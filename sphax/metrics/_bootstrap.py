"""Intervals of measures by resampling subjects with replacement (bootstrap)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_numpy_labels, check_count, check_range
from sphax.metrics._accept_counts import as_pairs, check_kinds


class Interval(NamedTuple):
    """A measure and its interval; see :func:`bootstrap` and :func:`bootstrap_probes`.

    Attributes:
        estimate: The measure of all pairs or probes, in its own shape ``[...]``.
        low: Lower end of the interval, ``[...]``.
        high: Upper end of the interval, ``[...]``.
        samples: The measure of each resample, float64, ``[resamples, ...]``.
        rule: What was done, in words.

    Example:
        >>> is_right, subjects = np.array([True, True, False, True]), [0, 0, 1, 2]
        >>> found = sx.metrics.bootstrap_probes(np.mean, is_right, subjects)
        >>> print(found.estimate, found.low, found.high)
        0.75 0.0 1.0
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    samples: np.ndarray
    rule: str


def subject_weights(subjects: ArrayLike, counts: ArrayLike) -> np.ndarray:
    r"""Weights of pairs when subjects occur several times, or not at all.

    A pair of two images of subject :math:`a` weighs :math:`m_a`, a pair of subjects
    :math:`a \ne b` weighs :math:`m_a m_b`. If :math:`m` are the multiplicities in a
    sample with replacement, these are the pairs of the sample, except that two copies
    of one subject are not compared with each other.

    Args:
        subjects: Subjects of both sides of each pair, integer in ``[0, subjects)``,
            ``[pairs, 2]``.
        counts: Multiplicity :math:`m` of each subject, floating or integer, not
            negative, ``[subjects]``.

    Returns:
        Weights, float64, ``[pairs]``, for ``weights=`` of the verification measures.

    Raises:
        TypeError: If subjects are not integer.
        ValueError: If shapes are not as above, or subjects are not within the counts.

    Example:
        >>> sx.metrics.subject_weights([[0, 0], [0, 1], [1, 2]], [2, 3, 0])
        array([2., 6., 0.])

    References:
        Owen, `The pigeonhole bootstrap <https://arxiv.org/abs/0712.1111>`_, Annals of
        Applied Statistics 2007.
    """
    sides = _as_sides(subjects)
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1:
        raise ValueError(
            f"counts must have an entry for each subject, got shape {counts.shape}."
        )
    if sides.size and not 0 <= sides.min() <= sides.max() < len(counts):
        raise ValueError(
            f"subjects must be in [0, {len(counts)}), the numbers of counts, got"
            f" {sides.min()} to {sides.max()}; renumber them by np.unique(...,"
            " return_inverse=True)."
        )
    return _product(counts, *_factors(sides, len(counts)))


def bootstrap(
    measure: Callable[..., Any],
    scores: ArrayLike,
    same: ArrayLike,
    subjects: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    sets: ArrayLike | None = None,
) -> Interval:
    r"""Interval of a verification measure by resampling subjects (bootstrap).

    Pairs are not independent: :math:`n` subjects form :math:`n (n - 1) / 2` impostor
    pairs. An interval from resampled pairs is too short, often by half. This one draws
    :math:`n` subjects with replacement, and calls the measure with the pairs weighted
    by :func:`subject_weights`; pairs of one subject with itself are not created. The
    interval is that of the percentiles: the :math:`(1 \pm \text{level}) / 2` quantiles
    of the resampled measures, interpolated linearly. It is rather too wide than too
    short (Owen).

    With two systems, ``scores [2, pairs]``, the measure is that of the first minus that
    of the second; both are measured with the same subjects in each resample, so that
    what they have in common cancels.

    The standard error over folds of :func:`verification_accuracy` is another quantity:
    it regards the folds as the sample.

    Host code: concrete arrays, not under ``jit``.

    Args:
        measure: Function ``measure(scores, same, weights=weights)`` of pairs in the
            given order, which returns a number or an array, such as
            :func:`equal_error_rate`, or a field of a record: ``lambda *pairs, weights:
            tar_at_far(*pairs, far=1e-3, weights=weights).tar``.
        scores: Similarities, floating, ``[pairs]``, or ``[2, pairs]`` of two systems.
        same: Whether each pair is genuine, boolean, ``[pairs]``.
        subjects: Subjects of both sides of each pair, integer, ``[pairs, 2]``.
        resamples: Number of resamples.
        level: Probability of the interval, in (0, 1).
        seed: Seed of the draws. The same seed, subjects and ``same`` draw the same
            subjects.
        sets: Sets of subjects, each resampled apart, integer, ``[2]`` for all left and
            all right sides, or ``[pairs, 2]`` for each. Subjects of two sets are
            different, even if they have the same number: with ``sets=[0, 1]`` every
            pair weighs the product of its sides.

    Returns:
        An :class:`Interval`; NaN where the measure of a resample is NaN. ``rule`` says
        how many resamples were drawn again, since no genuine or no impostor pair had a
        weight.

    Raises:
        TypeError: If scores are not floating, ``same`` not boolean, subjects or sets
            not integer, or the measure does not return numbers.
        ValueError: If shapes do not fit, scores are not finite, there is no genuine or
            no impostor pair, or, within a set, the two subjects of a genuine pair
            differ or those of an impostor pair are equal.

    Example:
        >>> scores = jnp.array([0.9, 0.7, 0.2, 0.6, 0.3, 0.1])
        >>> subjects = np.array([[0, 0], [1, 1], [2, 2], [0, 1], [0, 2], [1, 2]])
        >>> same = subjects[:, 0] == subjects[:, 1]
        >>> found = sx.metrics.bootstrap(sx.metrics.roc_auc, scores, same, subjects)
        >>> print(found.estimate.round(4), found.low.round(4), found.high)
        0.7778 0.3333 1.0

    References:
        Bolle, Ratha and Pankanti, `Error analysis of pattern recognition systems: the
        subsets bootstrap <https://doi.org/10.1016/j.cviu.2003.08.002>`_, Computer
        Vision and Image Understanding 2004; Owen, `The pigeonhole bootstrap
        <https://arxiv.org/abs/0712.1111>`_, Annals of Applied Statistics 2007.
    """
    _check_options(resamples, level, seed)
    same = np.asarray(same)
    systems = np.asarray(scores)
    if same.ndim != 1 or systems.shape not in (same.shape, (2, *same.shape)):
        raise ValueError(
            "scores must be [pairs] or [2, pairs] and same [pairs], got scores"
            f" {systems.shape} and same {same.shape}."
        )
    systems = [as_pairs(each, same)[0] for each in np.atleast_2d(systems)]
    check_kinds(same.sum(), (~same).sum())
    sides, sizes = _number_sides(subjects, sets, same)
    factors = _factors(sides, sum(sizes))
    genuine = np.flatnonzero(same)

    def measured(weights):
        first, *second = (
            _as_numbers(measure(each, same, weights=weights)) for each in systems
        )
        return first - second[0] if second else first

    rng, samples, redrawn = np.random.default_rng(seed), [], 0
    while len(samples) < resamples:
        weights = _product(_draw(rng, sizes), *factors)
        if 0.0 < weights[genuine].sum() < weights.sum():
            samples.append(measured(weights))
        else:
            redrawn += 1
    rule = (
        f"{_rule(level, resamples)} of {' and '.join(map(str, sizes))} subjects; a"
        " genuine pair weighs the multiplicity of its subject, other pairs the product"
        f" of both; {redrawn} resamples without genuine or impostor pairs were drawn"
        " again"
    )
    if len(systems) == 2:
        rule += "; the first system minus the second, with the same subjects"
    return _interval(measured(np.ones(len(same))), samples, level, rule)


def bootstrap_probes(
    measure: Callable[[Any], Any],
    probes: Any,
    subjects: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    sets: ArrayLike | None = None,
) -> Interval:
    """Interval of a measure of probes by resampling their subjects (bootstrap).

    For rates of identification and retrieval, and for every mean over probes. A
    resample draws as many subjects as there are, with replacement, and has all probes
    of a subject as often as it was drawn. What the probes are compared with, the
    gallery, stays as it is: the interval says nothing about other galleries. The
    interval is that of the percentiles, as in :func:`bootstrap`.

    A measure of several galleries or systems takes them together, so that each resample
    has the same probes for all of them; the difference of two systems is the measure
    ``lambda both: rate(both[0]) - rate(both[1])``.

    Host code: concrete arrays, not under ``jit``.

    Args:
        measure: Function of the resampled probes, which returns a number or an array.
        probes: Arrays ``[probes, ...]``, or a pytree of them: scores of the probes,
            their labels, whether each was right, or what :func:`find_mates` returned.
            Leaves without axes are passed on unchanged.
        subjects: Subject of each probe, integer, ``[probes]``.
        resamples: Number of resamples.
        level: Probability of the interval, in (0, 1).
        seed: Seed of the draws. The same seed and subjects draw the same subjects.
        sets: Set of each probe's subject, integer or boolean, ``[probes]``; subjects
            of each set are resampled apart, so that their number stays the same.
            With few subjects, keep those with a mate apart from those without, so that
            no resample lacks either.

    Returns:
        An :class:`Interval`; NaN where the measure of a resample is NaN.

    Raises:
        TypeError: If subjects are not integer, or the measure does not return numbers.
        ValueError: If arrays are empty or do not have an entry for each probe, or a
            subject is in two sets.

    Example:
        >>> scores = np.array([[0.9, 0.3], [0.6, 0.5], [0.2, 0.8], [0.4, 0.1]])
        >>> labels = np.array([0, 1, 1, 0])
        >>> def rank_one(probes):
        ...     return sx.metrics.cmc(*probes, np.arange(2)).rates[0]
        >>> found = sx.metrics.bootstrap_probes(rank_one, (scores, labels), labels)
        >>> print(found.estimate, found.low, found.high)
        0.75 0.5 1.0
    """
    _check_options(resamples, level, seed)
    probes = jax.tree.map(lambda x: np.asarray(x) if np.ndim(x) else x, probes)
    lengths = {len(x) for x in jax.tree.leaves(probes) if np.ndim(x)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "probes must be arrays with an entry for each probe on the first axis, got"
            f" arrays of {sorted(lengths)} entries."
        )
    (length,) = lengths
    subjects = as_numpy_labels("subjects", subjects, length, "probes")
    sets = np.zeros(length) if sets is None else np.asarray(sets)
    if sets.shape != subjects.shape:
        raise ValueError(
            f"sets must have an entry for each of the {length} probes, got shape"
            f" {sets.shape}."
        )
    numbers, sizes = _number(subjects, sets)
    if sum(sizes) > len(np.unique(subjects)):
        raise ValueError(
            "sets must be the same for all probes of a subject, got"
            f" {sum(sizes) - len(np.unique(subjects))} subjects in several sets."
        )

    def measured(counts):
        rows = np.repeat(np.arange(length), counts[numbers])
        taken = jax.tree.map(lambda x: x[rows] if np.ndim(x) else x, probes)
        return _as_numbers(measure(taken))

    rng = np.random.default_rng(seed)
    samples = [measured(_draw(rng, sizes)) for _ in range(resamples)]
    rule = (
        f"{_rule(level, resamples)} of {' and '.join(map(str, sizes))} subjects of the"
        " probes, all of a subject's probes together; the gallery is fixed"
    )
    return _interval(measured(np.ones(sum(sizes), int)), samples, level, rule)


def _check_options(resamples: int, level: float, seed: int) -> None:
    check_count("resamples", resamples)
    check_range("level", level, 0.0, 1.0, exclude_low=True)
    check_count("seed", seed, 0)


def _as_sides(subjects: ArrayLike) -> np.ndarray:
    array = np.asarray(subjects)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"subjects must be integer, got dtype {array.dtype}.")
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            "subjects must be [pairs, 2], both sides of each pair, got shape"
            f" {array.shape}."
        )
    return array


def _number_sides(
    subjects: ArrayLike, sets: ArrayLike | None, same: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Numbers of the subjects ``[pairs, 2]``, and how many each set has."""
    subjects = _as_sides(subjects)
    if len(subjects) != len(same):
        raise ValueError(
            f"subjects must have an entry for each of the {len(same)} pairs, got shape"
            f" {subjects.shape}."
        )
    sets = np.zeros(2, int) if sets is None else np.asarray(sets)
    if sets.shape not in ((2,), subjects.shape):
        raise ValueError(
            "sets must be [2], for left and right sides, or [pairs, 2], got shape"
            f" {sets.shape}."
        )
    sets = np.broadcast_to(sets, subjects.shape)
    sides, sizes = _number(subjects, sets)
    is_wrong = (sides[:, 0] == sides[:, 1]) != same
    wrong = np.count_nonzero(is_wrong & (sets[:, 0] == sets[:, 1]))
    if wrong:
        raise ValueError(
            "subjects must be equal in genuine pairs and differ in impostor pairs, got"
            f" {wrong} of {len(same)} pairs in which they do not; subjects of different"
            " sets may have the same numbers if sets= tells them apart."
        )
    return sides, sizes


def _number(subjects: np.ndarray, sets: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Consecutive numbers of subjects, set by set, and how many each set has."""
    subject = np.unique(subjects, return_inverse=True)[1]
    group = np.unique(sets, return_inverse=True)[1]
    count = subject.max() + 1
    found, numbers = np.unique(group * count + subject, return_inverse=True)
    return numbers.reshape(subjects.shape), np.bincount(found // count).tolist()


def _draw(rng: np.random.Generator, sizes: list[int]) -> np.ndarray:
    """Multiplicities of subjects, drawn with replacement within each set."""
    draws = [np.bincount(rng.integers(n, size=n), minlength=n) for n in sizes]
    return np.concatenate(draws)


def _factors(sides: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, the numbers of the two multiplicities whose product it weighs.

    A pair of one subject has a factor of 1 as its second, with the number ``count``.
    """
    left, right = np.ascontiguousarray(sides.T)
    return left, np.where(left == right, count, right)


def _product(counts: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    factors = np.append(counts.astype(np.float64), 1.0)
    return factors[left] * factors[right]


def _as_numbers(value: Any) -> np.ndarray:
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"measure must return a number or an array, got {type(value).__name__};"
            " from a record, take a field: lambda *pairs, weights: f(*pairs,"
            " weights=weights).tar."
        ) from error


def _rule(level: float, resamples: int) -> str:
    return f"percentile interval of level {level:g} from {resamples} resamples"


def _interval(
    estimate: np.ndarray, samples: list[np.ndarray], level: float, rule: str
) -> Interval:
    each = np.stack(samples)
    with np.errstate(invalid="ignore"):  # between infinite samples it is NaN
        low, high = np.quantile(each, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(estimate[()], low, high, each, rule)
