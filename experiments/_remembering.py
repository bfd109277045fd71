"""Penalties that remember something of a layer from step to step, such as a pole."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from experiments import _layers

# Of rows [n, d] and a memory: the penalty, and the memory of the next step.
Penalty = Callable[[jax.Array, Any], tuple[jax.Array, Any]]
# Of a key and rows: the first memory.
Start = Callable[[jax.Array, jax.Array], Any]
_SEED = 0


class Memories(NamedTuple):
    """What is remembered, by layer."""

    by_layer: dict[str, Any]


def add_gradient(
    weight: float,
    penalty: Penalty,
    start: Start,
    *,
    mask: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """Adds the gradient of a penalty, summed over layers, to the updates.

    What :func:`sphax.optim.add_penalty_gradient` does, for penalties with a memory. The
    gradient is taken through what the penalty does to it in this step.
    """

    def init(params):
        key = jax.random.key(_SEED)
        found = _layers.neurons(params).items()
        return Memories(
            {
                name: start(jax.random.fold_in(key, number), rows)
                for number, (name, rows) in enumerate(found)
            }
        )

    def update(updates, state, params=None, **extra_args):
        del extra_args

        def total(params):
            found = {
                name: penalty(rows, state.by_layer[name])
                for name, rows in _layers.neurons(params).items()
            }
            memories = {name: memory for name, (_, memory) in found.items()}
            return sum(value for value, _ in found.values()), memories

        gradients, memories = jax.grad(total, has_aux=True)(params)
        updates = jax.tree.map(lambda u, g: u + weight * g, updates, gradients)
        return updates, Memories(jax.lax.stop_gradient(memories))

    return optax.masked(optax.GradientTransformationExtraArgs(init, update), mask)
