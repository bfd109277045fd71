"""What optimizers of all params share: those that move the matrices that they find."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_number_or_schedule
from sphax._compiled import map_alike
from sphax.neurons import Axes, Neurons, select
from sphax.optim._neurons import (
    Mask,
    check_optimizer,
    check_values,
    find_neurons,
    leave_out,
    transform,
    update_others,
)


def whole_optimizer(
    state_type: Any,
    start: Callable[..., tuple],
    step: Callable[..., tuple],
    *,
    learning_rate: optax.ScalarOrSchedule,
    options: tuple[Hashable, ...] = (),
    hyperparams: tuple[jax.typing.ArrayLike, ...] = (),
    check: Callable[[str, Axes, jax.Array], None] | None = None,
    others: optax.GradientTransformation | None,
    neurons: Neurons,
    mask: Mask | None,
    allow_empty: bool,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer that moves each leaf found by ``step``, and the rest by ``others``.

    Args:
        state_type: A NamedTuple with the fields ``count``, ``others`` and, between
            them, one for each part of the state of a leaf, a dict by path.
        start: Module-level function ``((axes, *options), leaf)`` that returns the parts
            of the state of a leaf before the first step.
        step: Module-level function ``((axes, *options), (gradient, leaf, *parts), rate,
            count, hyperparams)`` that returns the update of the leaf and the new parts.
            The count is 1 in the first step.
        learning_rate: A scalar, or a schedule, a function of the steps taken before.
        options: What is known when the step is compiled.
        hyperparams: Scalars, which may be traced.
        check: As of `check_values`; raises from ``init``.
        others: Optimizer of all other leaves; None for Adam at the same learning rate,
            with the decays that language models are trained with.
        neurons: Axes of the leaves.
        mask: Leaves to move.
        allow_empty: Whether there may be none.
    """
    check_learning_rate(learning_rate)
    if others is None:
        others = optax.adam(learning_rate, b1=0.9, b2=0.95)
    check_optimizer("others", others)
    find = partial(find_neurons, neurons=neurons, mask=mask, allow_empty=allow_empty)
    parts = [part for part in state_type._fields if part not in ("count", "others")]

    def init(params):
        found = find(params)
        leaves = select(params, found)
        if check is not None:
            check_values(check, found, leaves)
        fixed = {name: (axes, *options) for name, axes in found.items()}
        starts = map_alike(start, leaves, fixed)
        columns = (_column(starts, i) for i in range(len(parts)))
        rest = others.init(leave_out(params, found))
        return state_type(jnp.zeros([], jnp.int32), *columns, rest)

    def update(updates, state, params=None, **extra_args):
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        count = jnp.asarray(optax.safe_increment(state.count))
        columns = [getattr(state, part) for part in parts]
        found = find(params, at_init=columns[0])
        columns = [select(updates, found), select(params, found), *columns]
        entries = {name: tuple(column[name] for column in columns) for name in found}
        fixed = {name: (axes, *options) for name, axes in found.items()}
        after = map_alike(step, entries, fixed, rate, count, hyperparams)
        updates, rest = update_others(
            updates, params, _column(after, 0), others, state.others, **extra_args
        )
        columns = (_column(after, i) for i in range(1, len(parts) + 1))
        return updates, state_type(count, *columns, rest)

    return transform(state_type, init, update, others=others)


def check_learning_rate(learning_rate: optax.ScalarOrSchedule) -> None:
    """Raises unless it is a schedule or a number, not negative if that is known."""
    check_number_or_schedule("learning_rate", learning_rate)
    if isinstance(learning_rate, (int, float)) and not learning_rate >= 0:
        raise ValueError(f"learning_rate must not be negative, got {learning_rate}.")


def _column(rows: dict[str, tuple], i: int) -> dict[str, Any]:
    """The values number ``i`` of a dict of tuples, by path."""
    return {name: row[i] for name, row in rows.items()}
