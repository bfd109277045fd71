"""Limited-memory BFGS with a line search that evaluates once per iteration.

Not :func:`optax.lbfgs`: its line search is a loop inside an iteration, so that runs
side by side wait for the longest search among them, and it decides by differences of
values, which are rounding near a minimum in float32. The preconditioner is optax's.

The search is bisection for the weak Wolfe conditions (Lewis and Overton, Nonsmooth
Optimization via Quasi-Newton Methods, 2013), with which the approximate Hessian stays
positive.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

# Shares of the initial slope (Nocedal and Wright, Numerical Optimization, Chapter 3).
_DECREASE = 1e-4
_CURVATURE = 0.9
# A step halved so often does not move a point in float32: what is left is rounding.
_TRIALS = 24


class Place(NamedTuple):
    """A point with the value and the gradient of the objective."""

    point: jax.Array
    value: jax.Array
    gradient: jax.Array


class _Search(NamedTuple):
    """A line search: the step to try, and the bounds of a good one."""

    direction: jax.Array
    slope: jax.Array
    step: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array


class _State(NamedTuple):
    place: Place
    memory: optax.OptState
    search: _Search
    steps: jax.Array


def minimize(
    value_and_grad: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    *,
    steps: jax.typing.ArrayLike,
    tolerance: jax.typing.ArrayLike,
    noise: float,
    history: int,
) -> Place:
    """Minimizes until the gradient is short or the line search fails.

    Args:
        value_and_grad: Value and gradient of a smooth function, in the dtype of
            ``start``.
        start: Where to begin.
        steps: Largest number of evaluations.
        tolerance: Length of a gradient that counts as short.
        noise: Differences of values up to it are rounding: there, slopes decide.
        history: Steps that the Hessian is approximated from.
    """
    preconditioner = optax.scale_by_lbfgs(history)

    def goes_on(state):
        length = jnp.linalg.norm(state.place.gradient)
        is_stuck = state.search.trials >= _TRIALS
        return (state.steps < steps) & ~is_stuck & ~(length <= tolerance)

    def iterate(state):
        place, memory, search, count = state
        point = place.point + search.step * search.direction
        new = Place(point, *value_and_grad(point))
        is_lower, is_flatter = _conditions(place, new, search, noise)

        def move():
            step, after = preconditioner.update(new.gradient, memory, new.point)
            downward = -jnp.asarray(step)
            return new, after, _begin(downward, optax.tree.vdot(downward, new.gradient))

        def bisect():
            return place, memory, _narrow(search, is_lower)

        place, memory, search = jax.lax.cond(is_lower & is_flatter, move, bisect)
        return _State(place, memory, search, count + 1)

    # Not yet a value: the first iteration evaluates the start, with a step of zero.
    zero = jnp.zeros_like(start.reshape(-1)[0])
    infinity = jnp.full_like(zero, math.inf)
    # Inside `shard_map`, all that the loop changes must differ between devices as the
    # start does, from the first iteration on.
    memory = jax.tree.map(
        lambda x: x + zero.astype(x.dtype), preconditioner.init(start)
    )
    state = _State(
        Place(start, infinity, jnp.full_like(start, math.inf)),
        memory,
        _begin(jnp.zeros_like(start), jnp.zeros_like(infinity)),
        zero.astype(jnp.int32),
    )
    return jax.lax.while_loop(goes_on, iterate, state).place


def _conditions(old, new, search, noise):
    """Whether a trial has a value low enough, and a slope flat enough."""
    slope = optax.tree.vdot(new.gradient, search.direction)
    is_lower = new.value <= old.value + _DECREASE * search.step * search.slope
    # The same for a parabola, by slopes, which keep their digits near the minimum
    # (Hager and Zhang, A New Conjugate Gradient Method, 2005).
    is_level = new.value <= old.value + noise
    by_slope = slope <= (2.0 * _DECREASE - 1.0) * search.slope
    return is_lower | (is_level & by_slope), slope >= _CURVATURE * search.slope


def _begin(direction, slope):
    zero = jnp.zeros_like(slope)
    high = jnp.full_like(slope, math.inf)
    return _Search(
        direction, slope, zero + 1.0, zero, high, jnp.zeros_like(slope, jnp.int32)
    )


def _narrow(search, is_lower):
    low = jnp.where(is_lower, search.step, search.low)
    high = jnp.where(is_lower, search.high, search.step)
    step = jnp.where(jnp.isinf(high), 2.0 * low, 0.5 * (low + high))
    return search._replace(step=step, low=low, high=high, trials=search.trials + 1)
