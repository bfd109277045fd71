"""Checks of the kinds of hyperparameters and keys, with errors that teach."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_number(name: str, value: Any, *, others: str = "") -> None:
    """Raises unless ``value`` is a number, or an array that can be one.

    Args:
        name: Of the argument.
        value: What was given.
        others: What else the argument may be, for the message.
    """
    is_number = isinstance(value, (int, float, np.number)) and value is not True
    is_array = isinstance(value, (jax.Array, np.ndarray))
    if not (is_array or is_number) or value is False:
        raise TypeError(f"{name} must be a number{others}, got {shown(value)}.")


def check_number_or_schedule(name: str, value: Any) -> None:
    """Raises unless ``value`` is a number, or a function of the step."""
    if not callable(value):
        check_number(name, value, others=", or a schedule, a function of the step")


def check_integer(name: str, value: Any) -> None:
    """Raises unless ``value`` is an integer, known when a function is traced."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be an integer, got a traced array: it is fixed when a program"
            " is compiled; mark it static in jax.jit, or set it outside."
        )
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {shown(value)}.")


def check_key(name: str, key: Any) -> None:
    """Raises unless ``key`` is a single key of :func:`jax.random.key`, or its data."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.ndim == 0:
                return
            raise ValueError(f"{name} must be a single key, got shape {key.shape}.")
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return  # as jax.random.PRNGKey makes them
    raise TypeError(
        f"{name} must be a random key, as jax.random.key(0), got {shown(key)}."
    )


def shown(value: Any) -> str:
    """A value as errors show it: itself if it is short, else its type."""
    is_short = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if is_short else type(value).__name__
