"""Neurons as rows, in the dtype in which transforms compute, and back as updates."""

from typing import Any

import jax
import jax.numpy as jnp

from sphax._numerics import widen
from sphax.neurons import Axes, select


def zeros_like_leaves(params: Any, found: dict[str, Axes]) -> dict[str, jax.Array]:
    """A zero for every leaf found, by path, float32 at least."""
    if not isinstance(found, dict):  # a placeholder, as it is
        return found
    leaves = select(params, found)
    return {name: jnp.zeros_like(widen(leaf)) for name, leaf in leaves.items()}


def as_rows(
    axes: Axes, update: jax.Array, param: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both as rows ``[sets, n, d]``, in the wider dtype, float32 at least."""
    dtype = jnp.promote_types(widen(update).dtype, widen(param).dtype)
    return axes.rows(update).astype(dtype), axes.rows(param).astype(dtype)


def as_update(axes: Axes, rows: jax.Array, update: jax.Array) -> jax.Array:
    """Rows in the layout and the dtype of an update."""
    return axes.from_rows(rows, update.shape).astype(update.dtype)
