"""Verification and open-set identification by the protocol BLUFR."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax.metrics._identification import dir_at_far
from sphax.metrics._pair_scores import as_sets, cosines, pair_scores
from sphax.metrics._roc import tar_at_far
from sphax.metrics._score_counts import ScoreCounts


class Blufr(NamedTuple):
    """Rates over the trials; see :func:`blufr`.

    Attributes:
        vr: Verification rate, mean minus standard deviation.
        dir: Detection and identification rate, mean minus standard deviation.
        vr_per_trial: ``[trials]``.
        dir_per_trial: ``[trials]``.
        rule: What was done, in words.

    Example:
        >>> x, labels = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), [1, 1, 2]
        >>> trial = sx.data.BLUFRTrial(*map(np.array, ([], [0, 1, 2], [0], [1, 2])))
        >>> sx.metrics.blufr(x, labels, [trial, trial], dir_far=1.0, vr_far=1.0).dir
        1.0
    """

    vr: float
    dir: float
    vr_per_trial: np.ndarray
    dir_per_trial: np.ndarray
    rule: str


def blufr(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    trials: Sequence[Any],
    *,
    vr_far: float = 1e-3,
    dir_far: float = 1e-2,
    rank: int = 1,
) -> Blufr:
    r"""Rates of the protocol BLUFR: mean minus standard deviation over its trials.

    In each trial, the verification rate is :func:`tar_at_far` over all pairs of the
    test images (in blocks, with thresholds that are multiples of :math:`2^{-19}`), and
    the identification rate is :func:`dir_at_far` of the probes in the gallery, with
    thresholds chosen in the trial. The standard deviation divides by the number of
    trials less 1.

    Host code: concrete arrays, not under ``jit``.

    Args:
        embeddings: Of all images, in the order of the protocol, floating,
            ``[images, features]``. A method that is trained on each trial's images has
            other embeddings for each: call this for one of them at a time, and combine
            ``vr_per_trial`` and ``dir_per_trial``.
        labels: Person of each image, integer, ``[images]``.
        trials: Records with arrays ``test``, ``gallery`` and ``probes`` of numbers of
            images, as :func:`sphax.data.read_blufr` gives them.
        vr_far: False accept rate of the verification rate.
        dir_far: False alarm rate of the identification rate.
        rank: Rank of the identification rate.

    Returns:
        :class:`Blufr`; rates are NaN where there are too few impostor pairs or unknown
        probes for the false accept rate, and with one trial ``vr`` and ``dir`` are.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, or there is no trial.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> trial = sx.data.BLUFRTrial(*map(np.array, ([], [0, 1, 2, 3], [0], [1, 3])))
        >>> found = sx.metrics.blufr(x, [5, 5, 6, 6], [trial], vr_far=0.5, dir_far=1.0)
        >>> print(found.vr_per_trial, found.dir_per_trial)
        [1.] [1.]

    References:
        Liao et al., `A Benchmark Study of Large-scale Unconstrained Face Recognition
        <https://doi.org/10.1109/BTAS.2014.6996301>`_, IJCB 2014.
    """
    (x, people), _ = as_sets(embeddings, labels, None, None)
    if not len(trials):
        raise ValueError("trials must be one or more, got none.")
    verified, identified = [], []
    for trial in trials:
        test, gallery, probes = map(
            np.asarray, (trial.test, trial.gallery, trial.probes)
        )
        counts = ScoreCounts(pair_scores(x[test], people[test]))
        verified.append(tar_at_far(counts, far=vr_far))
        scores = np.asarray(cosines(x[probes], x[gallery], "highest"))
        identified.append(
            dir_at_far(scores, people[probes], people[gallery], dir_far, rank=rank)
        )
    vr = np.array([float(each.tar) for each in verified])
    dir_ = np.array([float(each.dir) for each in identified])
    return Blufr(
        _mean_minus_deviation(vr),
        _mean_minus_deviation(dir_),
        vr,
        dir_,
        f"verification of all test pairs at FAR {vr_far:g}: {verified[0].rule};"
        f" identification at FAR {dir_far:g}: {identified[0].rule}; mean minus standard"
        f" deviation (N - 1) over {len(trials)} trials",
    )


def _mean_minus_deviation(rates: np.ndarray) -> float:
    # NumPy warns of a deviation of one number.
    return float(rates.mean() - rates.std(ddof=1)) if len(rates) > 1 else float("nan")
