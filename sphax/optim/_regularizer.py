"""The gradient of a penalty on the neurons, added to the updates."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._norms import widen
from sphax._penalties import Penalty, Reduce, penalty_of_sets
from sphax.neurons import Axes, replace, select
from sphax.optim._neurons import Mask, transform
from sphax.optim._weights import Weight, weights_of_layers

ByPath = dict[str, jax.Array]


class RegularizerState(NamedTuple):
    """State of a transform that adds the gradient of a penalty.

    ``count`` is the number of steps taken; ``values`` has, for every leaf that the
    transform found, by path, the penalty at the params of the last step that took its
    gradient, without its weight, in float32;
    ``key`` is the one given: steps draw from it and from their number, so that a run
    that resumes draws what it would have drawn.

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
    values: ByPath
    key: jax.Array | None


def add_gradient(
    penalty: Penalty,
    weight: Weight,
    find: Callable[..., dict[str, Axes]],
    *,
    reduce: Reduce,
    every: jax.typing.ArrayLike,
    key: jax.Array | None,
    mask: Mask | None,
) -> optax.GradientTransformationExtraArgs:
    """Transform that adds the gradient of a penalty of the leaves that are found."""
    if isinstance(every, (int, float)) and not (every >= 1 and every == int(every)):
        raise ValueError(f"every must be a whole number, 1 or more, got {every}.")

    def init(params):
        zero = jnp.zeros([], jnp.float32)
        values = jax.tree.map(lambda _: zero, find(params))
        return RegularizerState(jnp.zeros([], jnp.int32), values, key)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        found = find(params, at_init=state.values)
        moves, leaves = select(updates, found), select(params, found)
        leaves = {name: widen(leaf) for name, leaf in leaves.items()}
        weights = weights_of_layers(weight, params, found, state.count, reduce)
        values, gradients = _in_every(
            every,
            state.count,
            lambda: _values_and_gradients(penalty, leaves, found, state, reduce),
            lambda: (state.values, jax.tree.map(jnp.zeros_like, leaves)),
        )
        news = {}
        for name, gradient in gradients.items():
            scale = jnp.asarray(weights[name], dtype=gradient.dtype)
            added = scale * jnp.asarray(every, dtype=gradient.dtype) * gradient
            move = moves[name]
            news[name] = (move.astype(added.dtype) + added).astype(move.dtype)
        count = jnp.asarray(optax.safe_increment(state.count))
        return replace(updates, news), state._replace(count=count, values=values)

    return transform(init, update, mask)


def _values_and_gradients(
    penalty: Penalty,
    leaves: ByPath,
    found: dict[str, Axes],
    state: RegularizerState,
    reduce: Reduce,
) -> tuple[ByPath, ByPath]:
    values, gradients = {}, {}
    key = None if state.key is None else jax.random.fold_in(state.key, state.count)
    for number, (name, leaf) in enumerate(leaves.items()):
        own = None if key is None else jax.random.fold_in(key, number)

        def value_of(leaf, axes=found[name], own=own):
            return penalty_of_sets(penalty, axes.rows(leaf), own, reduce)

        value, gradients[name] = jax.value_and_grad(value_of)(leaf)
        values[name] = value.astype(jnp.float32)
    return values, gradients


def _in_every(every, step, compute, otherwise):
    """``compute()`` in steps 0, k, 2k, ..., and ``otherwise()`` between them."""
    if isinstance(every, (int, float)) and every == 1:
        return compute()
    is_due = step % jnp.asarray(every, dtype=step.dtype) == 0
    return jax.lax.cond(is_due, compute, otherwise)
