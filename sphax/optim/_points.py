"""Params that are points of a manifold: each leaf's neurons, moved as rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._norms import widen
from sphax.neurons import Axes, replace, select


def zeros_like_points(params: Any, found: dict[str, Axes]) -> dict[str, jax.Array]:
    """A zero for every neuron, by path, ``[batch, n, d]``, float32 at least."""
    if not isinstance(found, dict):  # a placeholder, as it is
        return found
    leaves = select(params, found)
    return {
        name: jnp.zeros_like(widen(axes.rows(leaves[name])))
        for name, axes in found.items()
    }


def move(
    advance: Callable[..., tuple[jax.Array, Any]],
    gradients: Any,
    params: Any,
    found: dict[str, Axes],
    *moments: dict[str, jax.Array],
) -> tuple[Any, dict[str, Any]]:
    """The updates that lead to the new points, and the new moments, by path.

    ``advance`` takes gradient and point as rows, and the moments, to the new point and
    moments; all in float32 at least.
    """
    olds, slopes = select(params, found), select(gradients, found)
    updates, after = {}, {}
    for name, axes in found.items():
        slope, old = axes.rows(slopes[name]), axes.rows(olds[name])
        dtype = jnp.promote_types(widen(slope).dtype, widen(old).dtype)
        point = old.astype(dtype)
        states = (moment[name] for moment in moments)
        new, after[name] = advance(slope.astype(dtype), point, *states)
        difference = axes.from_rows(new - point, slopes[name].shape)
        updates[name] = difference.astype(slopes[name].dtype)
    return replace(gradients, updates), after
