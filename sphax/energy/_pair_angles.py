"""What the angles of all pairs of directions are like, on the host, in float64."""

import math
from typing import NamedTuple

import numpy as np

# Rows whose cosines with others are held at a time.
_ROWS = 128
_BINS = 180


class PairAngles(NamedTuple):
    """Of the pairs of a set of directions, or of several sets."""

    closest: float  # radians
    coherence: float  # largest absolute cosine
    histogram: np.ndarray  # pairs, by equal parts of [0, pi]


def pair_angles(sets: np.ndarray) -> PairAngles:
    """Of vectors ``[sets, n, d]``; a zero vector is at a right angle to all."""
    closest, coherence, histogram = math.pi, 0.0, np.zeros(_BINS, np.int64)
    for rows in sets:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
        for start in range(0, len(units), _ROWS):
            of_block = _angles_with_later(units[start:], _ROWS)
            closest = min(closest, of_block.closest)
            coherence = max(coherence, of_block.coherence)
            histogram += of_block.histogram
    return PairAngles(closest, coherence, histogram)


def _angles_with_later(units: np.ndarray, size: int) -> PairAngles:
    """Of the first ``size`` unit vectors with all that come after each."""
    first, second = np.triu_indices(min(size, len(units)), 1, len(units))
    cosines = np.clip(units[:size] @ units.T, -1.0, 1.0)[first, second]
    if not cosines.size:
        return PairAngles(math.pi, 0.0, np.zeros(_BINS, np.int64))
    histogram, _ = np.histogram(np.arccos(cosines), _BINS, (0.0, math.pi))
    nearest = np.argmax(cosines)
    closest = _angle(units[first[nearest]], units[second[nearest]])
    return PairAngles(closest, float(np.max(np.abs(cosines))), histogram)


def _angle(u: np.ndarray, v: np.ndarray) -> float:
    """Accurate for close directions too, where the cosine has lost its digits."""
    if not (np.any(u) and np.any(v)):
        return math.pi / 2
    return 2.0 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
