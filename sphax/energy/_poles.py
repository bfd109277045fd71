"""The pole of a set of directions: the place of the sphere that they serve worst.

It is found by a few steps of descent from where it was last time, and is then a
constant: at the best pole its own change does not change the energy (Danskin).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_count, is_number
from sphax._masking import zero_masked
from sphax._numerics import widen
from sphax.energy._sets import as_sets
from sphax.sphere import direction, project_to_tangent

# What poles minimise, [k]: from unit poles [k, d], rows [n, d] and their weights [n].
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
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points, their weights and poles as arrays; raises unless they fit."""
    points, weights = as_sets(points, where)
    poles = as_floating("poles", poles)
    (*batch, _, d), shape = points.shape, poles.shape
    if poles.ndim != points.ndim or shape != (*batch, shape[-2], d) or not shape[-2]:
        raise ValueError(
            "poles must be [..., k, d] with k of 1 or more, the other axes those of"
            f" points, got poles {shape} and points {points.shape}."
        )
    return points, weights, poles


def at_best_pole(
    objective: Objective,
    points: jax.Array,
    weights: jax.Array,
    poles: jax.Array,
    descent: Descent,
) -> tuple[jax.Array, jax.Array]:
    """Negative objective of each set at its best pole, ``[...]``, and the new poles."""
    points = zero_masked(points, weights)

    def of_set(rows, weights, poles):
        fixed = jax.lax.stop_gradient((rows, weights))
        start = jax.lax.stop_gradient(direction(poles.astype(widen(rows).dtype)))
        found = _descend(lambda poles: objective(poles, *fixed), start, descent)
        found = jax.lax.stop_gradient(found)
        energy = -jnp.min(objective(found, rows, weights))
        return jnp.where(jnp.any(weights != 0), energy, 0.0), found.astype(poles.dtype)

    signature = "(n,d),(n),(k,d)->(),(k,d)"
    return jnp.vectorize(of_set, signature=signature)(points, weights, poles)


def _descend(objective, poles, descent):
    """Every pole on its own."""
    rate = descent.learning_rate.astype(poles.dtype)
    momentum = descent.momentum.astype(poles.dtype)
    slope = jax.grad(lambda poles: jnp.sum(objective(direction(poles))))

    def step(_, state):
        poles, velocity = state
        velocity = project_to_tangent(poles, momentum * velocity) - rate * slope(poles)
        return direction(poles + velocity), velocity

    start = poles, jnp.zeros_like(poles)
    return jax.lax.fori_loop(0, descent.steps, step, start)[0]
