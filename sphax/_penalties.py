"""Penalties on sets of neurons, and their means and sums."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_choice
from sphax._hyperparameters import register, static

# A penalty on a set of neurons: rows [n, d] and a key, or None, to a scalar.
Penalty = Callable[[jax.Array, jax.Array | None], jax.Array]
Reduce = Literal["mean", "sum"]
_REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


@register
class _WithOptions:
    """A penalty of a function and its options, those that are arrays being leaves."""

    arrays: dict[str, Any]
    function: Callable[..., jax.Array] = static(default=None)
    others: tuple[tuple[str, Any], ...] = static(default=())

    def __call__(self, rows: jax.Array, key: jax.Array | None) -> jax.Array:
        return self.function(rows, key, **self.arrays, **dict(self.others))


def as_pytree(function: Callable[..., jax.Array], **options: Any) -> Penalty:
    """A function of rows and key, and options of it, as a penalty that jit can take.

    Penalties of one function are equal if all options but arrays are: what is compiled
    for one of them is there for the others. A pytree stays as it is.
    """
    if not jax.tree_util.all_leaves([function]):
        return function
    arrays = {
        name: value
        for name, value in options.items()
        if isinstance(value, jax.Array | np.ndarray)
    }
    others = tuple(item for item in options.items() if item[0] not in arrays)
    return _WithOptions(arrays, function, others)


def penalty_of_sets(
    penalty: Penalty, sets: jax.Array, key: jax.Array | None, reduce: Reduce
) -> jax.Array:
    """Mean, or sum, of the penalties of sets of neurons ``[sets, n, d]``."""
    keys = None if key is None else jax.random.split(key, len(sets))
    if len(sets) == 1:
        # Not a batch of one: loops, which it changes, cost more to trace and compile.
        values = penalty(jnp.squeeze(sets, 0), None if keys is None else keys[0])[None]
    else:
        in_axes = 0, None if keys is None else 0
        values = jax.vmap(penalty, in_axes)(sets, keys)
    return reduced(values, reduce)


def reduced(values: jax.Array, reduce: Reduce) -> jax.Array:
    """Mean or sum of the values; raises unless ``reduce`` is one of these."""
    check_choice("reduce", reduce, tuple(_REDUCTIONS))
    return _REDUCTIONS[reduce](values)
