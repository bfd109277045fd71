"""The gradient of a penalty on the neurons, added to the updates."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_key
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax._penalties import Penalty, Reduce, as_pytree, penalty_of_sets
from sphax.neurons import Axes, replace, select
from sphax.optim._neurons import Mask, check_period, transform
from sphax.optim._weights import Weight, check_weight, weights_of_layers

ByPath = dict[str, jax.Array]


class RegularizerState(NamedTuple):
    """State of a transform that adds the gradient of a penalty.

    ``count`` is the number of steps taken; ``values`` has, for every leaf that the
    transform found, by path, the penalty at the params of the last step that took its
    gradient, without its weight, in float32;
    ``key`` has the data of the one given, which every serialization can take: steps
    draw from it and from their number, so that a run that resumes draws what it would
    have drawn.

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
    check_period(every)
    check_weight(weight)
    if key is not None:
        check_key(key)
    if not callable(penalty):
        raise TypeError(
            "penalty must be a function of the neurons as rows [n, d], and of a key,"
            f" got {type(penalty).__name__}."
        )

    def init(params):
        zero = jnp.zeros([], jnp.float32)
        values = jax.tree.map(lambda _: zero, find(params))
        data = None if key is None else jax.random.key_data(key)
        return RegularizerState(jnp.zeros([], jnp.int32), values, data)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        own_key = None
        if key is not None:
            impl = jax.random.key_impl(key)
            own_key = jax.random.wrap_key_data(state.key, impl=impl)
        found = find(params, at_init=state.values)
        moves, leaves = select(updates, found), select(params, found)
        weights = weights_of_layers(weight, params, found, state.count, reduce)
        is_always = isinstance(every, (int, float)) and every == 1
        entries = {
            name: (leaves[name], number, None if is_always else state.values[name])
            for number, name in enumerate(found)
        }
        fixed = {name: (axes, reduce) for name, axes in found.items()}
        period = None if is_always else every
        shared = as_pytree(penalty), period, state.count, own_key
        after = map_alike(_value_and_gradient, entries, fixed, *shared)
        values = {name: value for name, (value, _) in after.items()}
        news = {}
        for name, (_, gradient) in after.items():
            scale = jnp.asarray(weights[name], gradient.dtype)
            added = scale * jnp.asarray(every, gradient.dtype) * gradient
            move = moves[name]
            news[name] = (move.astype(added.dtype) + added).astype(move.dtype)
        count = jnp.asarray(optax.safe_increment(state.count))
        return replace(updates, news), state._replace(count=count, values=values)

    return transform(init, update, mask)


def _value_and_gradient(fixed, entry, penalty, period, step, key):
    """The penalty of a leaf, and its gradient, which is zero between periods."""
    (axes, reduce), (leaf, number, last) = fixed, entry
    leaf = widen(leaf)
    if key is not None:
        key = jax.random.fold_in(jax.random.fold_in(key, step), number)

    def compute():
        value, gradient = jax.value_and_grad(
            lambda leaf: penalty_of_sets(penalty, axes.rows(leaf), key, reduce)
        )(leaf)
        return value.astype(jnp.float32), gradient

    def leave_out():
        # Inside `shard_map`, both results differ between devices as those above do.
        zeros = jnp.zeros_like(leaf)
        return jnp.sum(zeros).astype(jnp.float32), zeros

    if period is None:
        return compute()
    is_due = step % jnp.asarray(period, step.dtype) == 0
    value, gradient = jax.lax.cond(is_due, compute, leave_out)
    return jnp.where(is_due, value, last), gradient
