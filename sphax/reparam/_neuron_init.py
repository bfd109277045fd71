"""Initial neurons, which orthogonal training freezes."""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax.energy import minimize_energy
from sphax.sphere import sample_uniform

Named = Literal["given", "gaussian", "normalized", "unit", "minimum_energy"]
NeuronInit = Named | Callable[[jax.Array, int, int], jax.Array]


# The mean squared length is 2, as in He's initialization, unless neurons are unit.
def _gaussian(key, n, d):
    return (2.0 / d) ** 0.5 * jax.random.normal(key, (n, d))


def _normalized(key, n, d):
    return 2.0**0.5 * sample_uniform(key, (n, d))


def _unit(key, n, d):
    return sample_uniform(key, (n, d))


def _minimum_energy(key, n, d):
    return 2.0**0.5 * minimize_energy(key, n, d, restarts=1).points


_DRAWS = {
    "gaussian": _gaussian,
    "normalized": _normalized,
    "unit": _unit,
    "minimum_energy": _minimum_energy,
}


def check_neuron_init(neuron_init: NeuronInit) -> None:
    """Raises unless neurons can be drawn in this way."""
    if not callable(neuron_init):
        check_choice("neuron_init", neuron_init, get_args(Named))


def draw_neurons(
    key: jax.Array, neuron_init: NeuronInit, given: jax.Array
) -> jax.Array:
    """Neurons ``[sets, n, d]`` to replace the given ones, in their dtype."""
    if neuron_init == "given":
        return given
    function = neuron_init if callable(neuron_init) else _DRAWS[neuron_init]
    sets, n, d = given.shape
    drawn = [function(subkey, n, d) for subkey in jax.random.split(key, sets)]
    return jnp.stack(drawn).astype(given.dtype)
