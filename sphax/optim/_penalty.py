"""Any penalty on the neurons, as a part of the gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_choice, check_key
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax.neurons import Neurons, replace, select
from sphax.optim._layer_weights import Weight, check_weight, weights_of_layers
from sphax.optim._neurons import Mask, check_period, find_neurons, transform

_REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}
# No step has this number: the state of a penalty draws from it.
_BEFORE_THE_STEPS = 2**32 - 1


class StatefulPenalty(NamedTuple):
    """A penalty on neurons that keeps a state from step to step.

    Every set of neurons has its state, such as the poles of
    :func:`sphax.energy.polarization`, or a learned projection.

    Attributes:
        init: Makes the first state, a pytree of arrays, from the neurons as rows
            ``[n, d]`` and a key, or None if no key is given.
        apply: Function of rows, state and key to the penalty, a scalar, and the new
            state, of the same shapes and dtypes. No gradient passes through the state
            that it is given.

    Example:
        >>> def random_pole(rows, key):
        ...     return sx.sphere.sample_uniform(key, (1, rows.shape[1]))
        >>> def polarization(rows, poles, key):
        ...     return sx.energy.polarization(rows, poles)
        >>> poles = sx.optim.StatefulPenalty(random_pole, polarization)
        >>> tx = sx.optim.add_penalty_gradient(poles, 1.0, key=jax.random.key(0))
        >>> state = tx.init({"kernel": jnp.eye(3, 2)})
        >>> state.penalty_state["kernel"].shape  # [sets, poles, d]
        (1, 1, 3)
    """

    init: Callable[[jax.Array, jax.Array | None], Any]
    apply: Callable[[jax.Array, Any, jax.Array | None], tuple[jax.Array, Any]]


# A penalty on a set of neurons: of rows [n, d] and a key, or None, to a scalar.
Penalty = Callable[[jax.Array, jax.Array | None], jax.Array] | StatefulPenalty


class RegularizerState(NamedTuple):
    """State of a transform that adds the gradient of a penalty.

    Attributes:
        count: Number of steps taken.
        values: For every leaf found, by path, its penalty in the last step that took
            its gradient, without the weight, in float32.
        key: Data of the key given, an array, or None. Steps draw from it and from their
            number, so that a run that resumes draws what it would have drawn.
        penalty_state: For every leaf found, by path, the state of a
            :class:`StatefulPenalty`, with a first axis for the sets of neurons; else
            None.

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
    values: dict[str, jax.Array]
    key: jax.Array | None
    penalty_state: dict[str, Any] | None


def add_penalty_gradient(
    penalty: Penalty,
    weight: Weight,
    *,
    reduce: Literal["mean", "sum"] = "mean",
    every: jax.typing.ArrayLike = 1,
    key: jax.Array | None = None,
    at_least: int = 1,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of any penalty on the neurons to the updates.

    .. math::
        g_l \leftarrow g_l + \frac{\lambda}{L}\, \nabla P(W_l)

    for each of the :math:`L` layers, the leaves :math:`W_l` with neurons: as if
    :math:`\lambda` times the mean of their penalties were a part of the loss. Put it
    **before** the optimizer, while updates are gradients; :func:`decoupled` is for use
    beside one. Behind an optimizer, an added gradient would push uphill.

    Args:
        penalty: :math:`P`, a function to a scalar of the neurons as rows, ``[n, d]``,
            in float32 at least, and of a key, or None if none is given; such as
            :func:`sphax.energy.energy_penalty` returns. Or a :class:`StatefulPenalty`.
        weight: :math:`\lambda`, a scalar, or a schedule, a function of the step. Or a
            pytree of weights of leaves and subtrees by path, as in
            ``{"": 1.0, "head": 10.0}``: the longest matching path wins, and means are
            taken over the layers that match the same path.
        reduce: ``"mean"``, or the ``"sum"`` over layers, and over the sets of neurons
            in a leaf with batch axes.
        every: Period :math:`k` in steps, 1 or more: the gradient is computed in the
            first step and in every k-th from there, and multiplied by :math:`k`, so
            that the weight keeps its meaning (lazy regularization).
        key: PRNG key for the penalty, which gets another key in each step, leaf and
            set.
        at_least: Leaves whose sets have fewer neurons, or whose neurons have fewer
            dimensions, are left out.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform, with a :class:`RegularizerState`; ``update`` needs ``params``.
        The updates keep their dtype; the computation is in float32 at least. In
        :func:`optax.inject_hyperparams`, ``penalty``, ``key``, ``at_least`` and
        callables ``neurons`` and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``every``, given as a number, is out of range, or ``reduce`` is
            unknown; from ``init``, if there are no neurons or declared axes do not fit;
            from ``update``, without ``params``, or if ``weight`` does not fit.

    Example:
        >>> import optax
        >>> def compressive(rows, key):  # new projections in each step
        ...     projections = sx.energy.random_projections(key, rows.shape[1], 4)
        ...     return sx.energy.compressive_energy(rows, projections)
        >>> add = sx.optim.add_penalty_gradient(compressive, 1.0, key=jax.random.key(0))
        >>> tx = optax.chain(add, optax.adam(1e-3))

    References:
        Karras et al., `Analyzing and Improving the Image Quality of StyleGAN
        <https://arxiv.org/abs/1912.04958>`_, CVPR 2020 (lazy regularization).
    """
    is_stateful = isinstance(penalty, StatefulPenalty)
    if not is_stateful and not callable(penalty):
        raise TypeError(
            "penalty must be a function of the neurons as rows [n, d], and of a key,"
            f" got {type(penalty).__name__}."
        )
    check_weight(weight)
    check_choice("reduce", reduce, tuple(_REDUCTIONS))
    check_period(every)
    if key is not None:
        check_key(key)
    apply = _as_pytree(penalty.apply if is_stateful else penalty)
    is_in_every_step = isinstance(every, (int, float)) and every == 1
    find = partial(
        find_neurons, neurons=neurons, at_least=at_least, allow_empty=allow_empty
    )

    def init(params):
        found = find(params)
        values = dict.fromkeys(found, jnp.zeros([], jnp.float32))
        data = None if key is None else jax.random.key_data(key)
        penalty_state = None
        if is_stateful:
            numbers = {name: number for number, name in enumerate(found)}
            leaves = select(params, found)
            entries = {name: (leaves[name], numbers[name]) for name in found}
            shared = _as_pytree(penalty.init), key
            penalty_state = map_alike(_first_state, entries, found, *shared)
        return RegularizerState(jnp.zeros([], jnp.int32), values, data, penalty_state)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        run_key = None
        if key is not None:
            impl = jax.random.key_impl(key)
            run_key = jax.random.wrap_key_data(state.key, impl=impl)
        found = find(params, at_init=state.values)
        old_updates, leaves = select(updates, found), select(params, found)
        weights = weights_of_layers(weight, params, found, state.count, reduce)
        entries = {
            name: (
                leaves[name],
                number,
                None if is_in_every_step else state.values[name],
                state.penalty_state[name] if is_stateful else None,
            )
            for number, name in enumerate(found)
        }
        fixed = {name: (axes, reduce, is_stateful) for name, axes in found.items()}
        period = None if is_in_every_step else every
        shared = apply, period, state.count, run_key
        after = map_alike(_value_and_gradient, entries, fixed, *shared)
        new_updates = {}
        for name, (_, gradient, _) in after.items():
            scale = jnp.asarray(weights[name], gradient.dtype)
            added = scale * jnp.asarray(every, gradient.dtype) * gradient
            old = old_updates[name]
            new_updates[name] = (old.astype(added.dtype) + added).astype(old.dtype)
        penalty_state = None
        if is_stateful:
            penalty_state = {name: state for name, (_, _, state) in after.items()}
        state = RegularizerState(
            jnp.asarray(optax.safe_increment(state.count)),
            {name: value for name, (value, _, _) in after.items()},
            state.key,
            penalty_state,
        )
        return replace(updates, new_updates), state

    return transform(RegularizerState, init, update, mask=mask)


def _as_pytree(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that `jit` takes as an argument: a pytree, or else static."""
    is_function = jax.tree_util.all_leaves([function])
    return jax.tree_util.Partial(function) if is_function else function


def _first_state(axes, entry, init, key):
    """The state of the penalty of a leaf, for each of its sets of neurons."""
    leaf, number = entry
    sets = axes.rows(widen(leaf))
    return jax.vmap(init)(sets, _keys(key, _BEFORE_THE_STEPS, number, len(sets)))


def _value_and_gradient(fixed, entry, penalty, period, step, key):
    """Penalty of a leaf, its gradient, zero between periods, and its new state."""
    axes, reduce, is_stateful = fixed
    leaf, number, last_value, state = entry
    leaf = widen(leaf)

    def penalty_of_leaf(leaf):
        sets = axes.rows(leaf)
        arguments = (sets, state) if is_stateful else (sets,)
        arguments = *arguments, _keys(key, step, number, len(sets))
        if len(sets) == 1:
            # Not a batch of one: loops, which it changes, cost more to compile.
            arguments = jax.tree.map(lambda x: jnp.squeeze(x, 0), arguments)
            results = penalty(*arguments)
            results = jax.tree.map(lambda x: x[None], results)
        else:
            results = jax.vmap(penalty)(*arguments)
        values, new_state = results if is_stateful else (results, None)
        return _REDUCTIONS[reduce](values), jax.lax.stop_gradient(new_state)

    def compute():
        (value, new_state), gradient = jax.value_and_grad(
            penalty_of_leaf, has_aux=True
        )(leaf)
        return value.astype(jnp.float32), gradient, new_state

    def skip():
        # Inside `shard_map`, both results differ between devices as those above do.
        zeros = jnp.zeros_like(leaf)
        return jnp.sum(zeros).astype(jnp.float32), zeros, state

    if period is None:
        return compute()
    is_due = step % jnp.asarray(period, step.dtype) == 0
    value, gradient, state = jax.lax.cond(is_due, compute, skip)
    return jnp.where(is_due, value, last_value), gradient, state


def _keys(key, step, number, sets):
    """A key for each set of neurons of the leaf of a number, in a step."""
    if key is None:
        return None
    key = jax.random.fold_in(jax.random.fold_in(key, step), number)
    return jax.random.split(key, sets)
