"""Concrete NumPy arguments of the host code, with errors that teach."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


def as_scores(name: str, scores: ArrayLike) -> np.ndarray:
    """``scores`` in float32 or float64; raises unless floating, finite and some."""
    array = np.asarray(scores)
    # jax's own, since NumPy does not count bfloat16 as floating.
    if not jnp.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    check_finite(name, array)
    return array


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises if any value is NaN or infinite, and says how many."""
    broken = array.size - np.count_nonzero(np.isfinite(array))
    if broken:
        missing = np.count_nonzero(np.isnan(array))
        raise ValueError(
            f"{name} must be finite, got {missing} NaN and {broken - missing} infinite"
            f" of {array.size} values."
        )


def as_pairs(scores: ArrayLike, same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both in one axis; raises unless ``same`` is boolean and of the scores' shape."""
    scores, same = as_scores("scores", scores), np.asarray(same)
    if same.dtype != np.bool_:
        raise TypeError(
            f"same must be boolean, True for a genuine pair, got dtype {same.dtype};"
            " compare labels, or use same.astype(bool)."
        )
    if same.shape != scores.shape:
        raise ValueError(
            "same must have the shape of scores, an entry for each pair, got same"
            f" {same.shape} and scores {scores.shape}."
        )
    return scores.ravel(), same.ravel()


def as_labels(name: str, labels: ArrayLike, length: int, of: str) -> np.ndarray:
    """``labels`` as an array; raises unless integer, one for each of ``of``."""
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integer, got dtype {array.dtype}.")
    if array.shape != (length,):
        raise ValueError(
            f"{name} must have an entry for each of the {length} {of}, got shape"
            f" {array.shape}."
        )
    return array


def as_common(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers in one dtype that holds all of both, or numbers in their place.

    NumPy compares int64 with uint64 in float64, where those above 2**53 run together.
    """
    if np.issubdtype(np.result_type(x, y), np.integer):
        return x, y
    # Python's integers have no limit.
    exact = np.concatenate([x.astype(object), y.astype(object)])
    numbers = np.unique(exact, return_inverse=True)[1]
    return numbers[: len(x)], numbers[len(x) :]


def as_rate(name: str, rate: ArrayLike) -> np.ndarray:
    """A rate or several, float64; raises unless within [0, 1]."""
    array = np.asarray(rate, np.float64)
    if not np.all((array >= 0.0) & (array <= 1.0)):
        raise ValueError(f"{name} must be within [0, 1], got {rate}.")
    return array
