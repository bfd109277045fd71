"""What becomes of the parameters during training, kept in the optimiser's state.

So that it is in the checkpoints, and a run that goes on from one has all of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Trace(NamedTuple):
    """Number of steps taken, and the values of every so many of them."""

    count: jax.Array
    values: Any


def trace(
    measure: Callable[[Any], Any], *, every: int, steps: int
) -> optax.GradientTransformation:
    """Leaves updates as they are, and keeps what ``measure`` says of the params.

    Args:
        measure: Of params to a pytree of arrays.
        every: Steps between two of its values, the first being before the first step.
        steps: Of the whole training.
    """

    def init(params):
        rows = -(-steps // every)
        values = jax.tree.map(
            lambda one: jnp.zeros((rows, *one.shape), one.dtype),
            jax.eval_shape(measure, params),
        )
        return Trace(jnp.zeros([], jnp.int32), values)

    def update(updates, state, params=None):
        def with_another():
            row = state.count // every
            return jax.tree.map(
                lambda kept, new: kept.at[row].set(new), state.values, measure(params)
            )

        is_due = state.count % every == 0
        values = jax.lax.cond(is_due, with_another, lambda: state.values)
        return updates, Trace(state.count + 1, values)

    return optax.GradientTransformation(init, update)
