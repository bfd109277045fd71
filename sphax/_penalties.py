"""Penalties on sets of neurons, and their means and sums."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice

# A penalty on a set of neurons: rows [n, d] and a key, or None, to a scalar.
Penalty = Callable[[jax.Array, jax.Array | None], jax.Array]
Reduce = Literal["mean", "sum"]
_REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


def penalty_of_sets(
    penalty: Penalty, sets: jax.Array, key: jax.Array | None, reduce: Reduce
) -> jax.Array:
    """Mean, or sum, of the penalties of sets of neurons ``[sets, n, d]``."""
    keys = None if key is None else jax.random.split(key, len(sets))
    in_axes = 0, None if keys is None else 0
    return reduced(jax.vmap(penalty, in_axes)(sets, keys), reduce)


def reduced(values: jax.Array, reduce: Reduce) -> jax.Array:
    """Mean or sum of the values; raises unless ``reduce`` is one of these."""
    check_choice("reduce", reduce, tuple(_REDUCTIONS))
    return _REDUCTIONS[reduce](values)
