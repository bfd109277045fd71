"""The pole of a set of directions: the worst point of the sphere for an objective.

It is found by a few steps of descent from its place in the last call, and is then a
constant: at the best pole, a change of the pole does not change the energy (Danskin).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, as_points, check_count, is_number
from sphax._masking import as_weights, zero_masked
from sphax._numerics import widen
from sphax.energy._uniformity._sets import weights_of
from sphax.sphere import direction, project_to_tangent

# What poles minimize, [k]: from unit poles [k, d], rows [n, d] and their weights [n].
Objective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Descent(NamedTuple):
    """Gradient descent with momentum, on the sphere."""

    steps: jax.Array
    learning_rate: jax.Array
    momentum: jax.Array


def as_descent(
    steps: jax.typing.ArrayLike,
    learning_rate: jax.typing.ArrayLike,
    momentum: jax.typing.ArrayLike,
) -> Descent:
    """The three as arrays; raises if they are out of range."""
    check_count("steps", steps, 0, may_be_traced=True)
    if is_number(learning_rate, "learning_rate") and not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    if is_number(momentum, "momentum") and not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}.")
    rate, momentum = jnp.asarray(learning_rate), jnp.asarray(momentum)
    return Descent(jnp.asarray(steps, jnp.int32), rate, momentum)


def as_sets_and_poles(
    points: jax.typing.ArrayLike,
    poles: jax.typing.ArrayLike,
    where: jax.typing.ArrayLike | None,
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """Points, their mask or weights and poles as arrays; raises unless they fit."""
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    poles = as_floating("poles", poles)
    (*batch, _, d), shape = points.shape, poles.shape
    if poles.ndim != points.ndim or shape != (*batch, shape[-2], d) or not shape[-2]:
        raise ValueError(
            "poles must be [..., k, d] with k of 1 or more, the other axes those of"
            f" points, got poles {shape} and points {points.shape}."
        )
    return points, where, poles


def at_best_pole(
    objective: Objective,
    points: jax.Array,
    where: jax.Array | None,
    poles: jax.Array,
    descent: Descent,
) -> tuple[jax.Array, jax.Array]:
    """Minus the objective of each set at its best pole, and the new poles."""
    points, weights = zero_masked(points, where), weights_of(points, where)

    def optimum_of_one_set(rows, weights, poles):
        fixed = jax.lax.stop_gradient((rows, weights))
        start = jax.lax.stop_gradient(direction(poles.astype(widen(rows).dtype)))
        found = _descend(lambda poles: objective(poles, *fixed), start, descent)
        found = jax.lax.stop_gradient(found)
        energy = -jnp.min(objective(found, rows, weights))
        return jnp.where(jnp.any(weights != 0), energy, 0.0), found.astype(poles.dtype)

    signature = "(n,d),(n),(k,d)->(),(k,d)"
    return jnp.vectorize(optimum_of_one_set, signature=signature)(
        points, weights, poles
    )


def _descend(objective, poles, descent):
    """The poles after the steps, each of them alone."""
    rate = descent.learning_rate.astype(poles.dtype)
    momentum = descent.momentum.astype(poles.dtype)
    slope = jax.grad(lambda poles: jnp.sum(objective(direction(poles))))

    def step(_, state):
        poles, velocity = state
        velocity = project_to_tangent(poles, momentum * velocity) - rate * slope(poles)
        return direction(poles + velocity), velocity

    start = poles, jnp.zeros_like(poles)
    return jax.lax.fori_loop(0, descent.steps, step, start)[0]
