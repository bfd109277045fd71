"""Checks of arguments that several rooms make."""

import jax
import jax.numpy as jnp


def check_labels(labels: jax.Array, shape: tuple[int, ...], of: str) -> None:
    """Raises unless ``labels`` are integers of the shape of ``of``, less one axis."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integer, got dtype {labels.dtype}.")
    if labels.shape != shape:
        raise ValueError(
            f"labels must have the shape of {of} without its last axis, {shape}, got"
            f" {labels.shape}."
        )
