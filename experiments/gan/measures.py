"""How close samples are to data, and how much of the data they cover."""

import numpy as np
from scipy.spatial import distance

# Neighbors whose distance is the radius of the ball around a point, as in the paper.
_NEIGHBORS = 3


def precision_and_recall(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Shares of the samples among the data, and of the data among the samples.

    A point is among others if it lies in the ball around one of them that reaches to
    the third nearest of its own kind.

    Args:
        real: Features of the data, ``[n, d]``.
        made: Those of samples, ``[m, d]``; as many, for shares that compare.

    Returns:
        Precision and recall, in percent.

    References:
        Kynkäänniemi et al., `Improved Precision and Recall Metric for Assessing
        Generative Models <https://arxiv.org/abs/1904.06991>`_, NeurIPS 2019, Eq. 1.
    """
    between = distance.cdist(made, real)
    precision = np.any(between <= radii(real), axis=1)
    recall = np.any(radii(made) >= between.T, axis=1)
    return float(100.0 * np.mean(precision)), float(100.0 * np.mean(recall))


def radii(points: np.ndarray) -> np.ndarray:
    """Distance of each point to its third nearest other one, ``[n]``."""
    within = distance.cdist(points, points)
    return np.partition(within, _NEIGHBORS, axis=1)[:, _NEIGHBORS]


def coverage(kinds: np.ndarray, number: int) -> tuple[int, float]:
    """How many kinds the samples have.

    Args:
        kinds: Kind of each sample, such as its class; -1 if it has none.
        number: Of kinds, which are equally frequent in the data.

    Returns:
        The number of kinds with a tenth of their share or more; and the exponential of
        the entropy, by which kinds count less the rarer they are.
    """
    counts = np.bincount(kinds[kinds >= 0], minlength=number)
    covered = int(np.sum(counts >= 0.1 * len(kinds) / number))
    shares = counts[counts > 0] / max(np.sum(counts), 1)
    return covered, float(np.exp(-np.sum(shares * np.log(shares))))
