"""Options that are Python objects, checked with errors that teach."""

from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np


def check_count(
    name: str, value: object, least: int, *, may_be_traced: bool = False
) -> None:
    """Raises unless ``value`` is an integer, ``least`` or more.

    Integer scalars that are arrays pass if they may be traced.
    """
    if isinstance(value, jax.Array):
        is_scalar = jnp.issubdtype(value.dtype, jnp.integer) and not value.ndim
        if not is_scalar:
            raise TypeError(
                f"{name} must be an integer, got {value.dtype} of shape {value.shape}."
            )
        if not may_be_traced:
            raise TypeError(
                f"{name} must be a Python integer, since shapes or loops depend on"
                f" it, got an array; under jax.jit, make it static: static_argnames="
                f"{name!r} of the function that takes it as an argument."
            )
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}.")


def check_flag(name: str, value: object) -> None:
    """Raises unless ``value`` is True or False."""
    if isinstance(value, jax.Array):
        raise TypeError(
            f"{name} must be True or False, known when the function is traced, got an"
            f" array; under jax.jit, mark it static: static_argnames={name!r}."
        )
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def is_number(value: object, name: str) -> TypeGuard[float]:
    """Whether ``value`` is a Python number, whose range can be checked.

    Otherwise it is a floating array, a scalar; raises unless it is one of these.
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be floating, got dtype {value.dtype}; as a Python number"
                " it may be an integer."
            )
        if value.ndim:
            raise ValueError(f"{name} must be a scalar, got shape {value.shape}.")
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number or a scalar array, got {value!r}.")
    # JAX passes constants as Python numbers that carry a type of their own.
    return not hasattr(value, "aval")
