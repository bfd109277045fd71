"""Hyperparameters that are single numbers, plain or traced."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import as_array


def as_scalar(
    name: str, x: jax.typing.ArrayLike, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """``x`` as an array of the dtype; raises unless real and a scalar."""
    array = as_array(name, x)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar, got shape {array.shape}.")
    if not jnp.isrealobj(array):
        raise TypeError(f"{name} must be real, got dtype {array.dtype}.")
    return array.astype(dtype)


def check_range(
    name: str,
    x: jax.typing.ArrayLike,
    low: float,
    high: float = math.inf,
    *,
    is_open: bool = False,
) -> None:
    """Raises if a Python number lies outside ``[low, high)``, or ``(low, high)``."""
    if not isinstance(x, (int, float)):
        return
    if not low <= x < high or (is_open and x == low):
        raise ValueError(
            f"{name} must lie in {'(' if is_open else '['}{low:g}, {high:g}), got {x}."
        )
