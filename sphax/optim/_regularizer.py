"""The gradient of a penalty on the neurons, added to the updates."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._norms import widen
from sphax.optim._dimensions import Axes
from sphax.optim._neurons import (
    Found,
    Mask,
    Neurons,
    find_neurons,
    replace,
    select,
    transform,
)

# A penalty on the neurons of one leaf: rows [n, d] and a key, or None, to a scalar.
Penalty = Callable[[jax.Array, jax.Array | None], jax.Array]


class RegularizerState(NamedTuple):
    """State of a transform that adds the gradient of a penalty.

    ``count`` is the number of steps taken; ``neurons`` has the path of every leaf that
    the transform found, with its axes; ``values`` has, for each of them, the penalty at
    the params of the last step, without its weight, in float32.

    Example:
        >>> import optax
        >>> params = {"dense": {"kernel": jnp.diag(jnp.array([1.0, 2.0]))}}
        >>> tx = optax.chain(sx.optim.add_orthogonality_gradient(1e-4), optax.sgd(0.1))
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> optax.tree.get(state, "values")
        {'dense/kernel': Array(9., dtype=float32)}
    """

    count: jax.Array
    neurons: Found
    values: dict[str, jax.Array]


def add_gradient(
    penalty: Penalty,
    weight: optax.ScalarOrSchedule,
    *,
    key: jax.Array | None,
    neurons: Neurons,
    mask: Mask | None,
) -> optax.GradientTransformationExtraArgs:
    """Transform that adds the weight times the gradient of the sum over all leaves."""

    def init(params):
        found = find_neurons(params, neurons)
        values = jax.tree.map(
            lambda _: jnp.zeros([], jnp.float32),
            found,
            is_leaf=lambda x: isinstance(x, Axes),
        )
        return RegularizerState(jnp.zeros([], jnp.int32), found, values)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        scale = weight(state.count) if callable(weight) else weight
        # Of the step alone: a run that resumes draws what it would have drawn.
        draw = None if key is None else jax.random.fold_in(key, state.count)
        olds, moves = select(params, state.neurons), select(updates, state.neurons)
        values, news = {}, {}
        for number, (name, axes) in enumerate(state.neurons.items()):
            own = None if draw is None else jax.random.fold_in(draw, number)
            value, gradient = jax.value_and_grad(_total)(
                widen(olds[name]), axes, penalty, own
            )
            values[name] = value.astype(jnp.float32)
            added = jnp.asarray(scale, dtype=gradient.dtype) * gradient
            move = moves[name]
            news[name] = (move.astype(added.dtype) + added).astype(move.dtype)
        count = jnp.asarray(optax.safe_increment(state.count))
        return replace(updates, news), RegularizerState(count, state.neurons, values)

    return transform(init, update, mask)


def _total(
    leaf: jax.Array, axes: Axes, penalty: Penalty, key: jax.Array | None
) -> jax.Array:
    """The penalties of all sets of neurons in a leaf, such as its heads."""
    sets = axes.rows(leaf)
    keys = None if key is None else jax.random.split(key, len(sets))
    return jnp.sum(jax.vmap(penalty, (0, None if keys is None else 0))(sets, keys))
