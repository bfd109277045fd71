"""What regularisers are made of: transforms that add the gradient of an energy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

import sphax as sx
from experiments import _layers, _remembering

# Dimensions of projections, random and learned. Layers of no more are not projected.
_RANDOM, _LEARNED = 40, 30
_SEED = 0

# Of a weight and a mask of the layers.
Add = Callable[..., optax.GradientTransformation]


def of_energy(**options: Any) -> Add:
    """Of the hyperspherical energy."""
    return partial(
        sx.optim.add_energy_gradient, reduce="sum", neurons=_layers.NEURONS, **options
    )


def of_rows(energy: Callable[..., jax.Array], **options: Any) -> Add:
    """Of an energy that is a function of the neurons alone."""

    def add(weight, *, mask):
        return sx.optim.add_penalty_gradient(
            lambda rows, _: energy(rows, **options),
            weight,
            reduce="sum",
            neurons=_layers.NEURONS,
            mask=mask,
        )

    return add


def random_projections(weight: float, *, mask: Any) -> optax.GradientTransformation:
    """Of new projections in every step."""

    def energy(rows, key):
        if rows.shape[1] <= _RANDOM:
            return _line_energy(rows)
        projections = sx.energy.random_projections(key, rows.shape[1], _RANDOM)
        return sx.energy.compressive_energy(rows, projections)

    return sx.optim.add_penalty_gradient(
        energy,
        weight,
        reduce="sum",
        key=jax.random.PRNGKey(_SEED),  # an array, as checkpoints have them
        neurons=_layers.NEURONS,
        mask=mask,
    )


def learned_projection(improve: Callable[..., jax.Array], **options: Any) -> Add:
    """Of one projection to a layer, which is improved in every step."""

    def start(key, rows):
        if rows.shape[1] <= _LEARNED:
            return None
        return sx.energy.random_projections(key, rows.shape[1], _LEARNED, count=1)

    def energy(rows, projection):
        if projection is None:
            return _line_energy(rows), None
        projection = improve(rows, projection, **options)
        return sx.energy.compressive_energy(rows, projection), projection

    return partial(_remembering.add_gradient, penalty=energy, start=start)


def at_pole(energy: Callable[..., Any], **options: Any) -> Add:
    """Of one pole to a layer, which goes where the neurons are furthest from it."""

    def start(key, rows):
        return sx.sphere.sample_uniform(key, (1, rows.shape[1]))

    return partial(
        _remembering.add_gradient, penalty=partial(energy, **options), start=start
    )


def _line_energy(rows: jax.Array) -> jax.Array:
    return sx.energy.hyperspherical_energy(rows, power=2.0, half_space=True)
