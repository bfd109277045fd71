"""Energies of the layers of a classifier, and how far they are from random ones."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments import _layers

POWER = 2.0
SPACES = ("full", "half")


@jax.jit
def of_params(params: Any) -> dict[str, jax.Array]:
    """Energies in full and in half space, ``[2]``, of every layer, by path."""
    layers = _layers.neurons(params)
    # Of one shape, so that one compiled energy serves all layers.
    n, d = (max(rows.shape[axis] for rows in layers.values()) for axis in (0, 1))
    padded = jnp.stack(
        [
            jnp.pad(rows, ((0, n - len(rows)), (0, d - rows.shape[1])))
            for rows in layers.values()
        ]
    )
    where = jnp.stack([jnp.arange(n) < len(rows) for rows in layers.values()])
    energies = [
        sx.energy.hyperspherical_energy(
            padded, power=POWER, half_space=space == "half", where=where
        )
        for space in SPACES
    ]
    return dict(zip(layers, jnp.stack(energies, axis=-1), strict=True))


def excess(energies: Mapping[str, np.ndarray], params: Any) -> dict[str, Any]:
    """Energies above those of random neurons, in percent of them.

    Args:
        energies: As of :func:`of_params`, ``[..., 2]``.
        params: Of the same layers.

    Returns:
        For either space the mean over hidden layers, ``[...]``, and the output layer's
        own, for which only full space is meant.
    """
    above = {}
    for name, rows in _layers.neurons(params).items():
        random = sx.energy.expected_energy(rows.shape[1], power=POWER)
        above[name] = 100.0 * (np.asarray(energies[name], np.float64) / random - 1.0)
    output = above.pop(_layers.OUTPUT)
    hidden = np.mean(list(above.values()), axis=0)
    found = {space: hidden[..., i].tolist() for i, space in enumerate(SPACES)}
    return found | {"output": output[..., 0].tolist()}


def least(params: Any) -> dict[str, Any]:
    """What no neurons can fall below, as :func:`excess` has it."""
    bounds = {
        name: np.array(
            [
                sx.energy.energy_lower_bound(
                    *rows.shape, power=POWER, half_space=space == "half"
                )
                for space in SPACES
            ]
        )
        for name, rows in _layers.neurons(params).items()
    }
    return excess(bounds, params)
