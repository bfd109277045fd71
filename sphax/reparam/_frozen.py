"""The neurons that stay where they are drawn."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax.energy import minimize_energy
from sphax.sphere import sample_uniform

Drawn = Literal["given", "gaussian", "normalized", "unit", "minimum_energy"]
Draw = Callable[[jax.Array, int, int], jax.Array]
NeuronInit = Drawn | Draw


class FrozenNeurons(NamedTuple):
    """The neurons of one kernel, and which of their coordinates are rotated.

    Attributes:
        kernel: The neurons, in the layout of the kernel that they stand for.
        left: Coordinates of a neuron that go into each block, integer,
            ``[factors, blocks, b]``; ``None`` if they are taken in their order.
        right: Numbers of the neurons that go into each block, likewise.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4))}
        >>> _, frozen = sx.reparam.orthogonal().init(jax.random.key(0), params)
        >>> frozen["kernel"].kernel.shape
        (8, 4)
    """

    kernel: jax.Array
    left: jax.Array | None
    right: jax.Array | None


def check_neuron_init(neuron_init: NeuronInit) -> None:
    """Raises unless neurons can be drawn in this way."""
    if not callable(neuron_init):
        check_choice("neuron_init", neuron_init, get_args(Drawn))


def draw(key: jax.Array, neuron_init: NeuronInit, rows: jax.Array) -> jax.Array:
    """Neurons ``[sets, n, d]`` in the place of those given, in the dtype of these."""
    if neuron_init == "given":
        return rows
    function = neuron_init if callable(neuron_init) else _DRAWS[neuron_init]
    sets, n, d = rows.shape
    drawn = [function(own, n, d) for own in jax.random.split(key, sets)]
    return jnp.stack(drawn).astype(rows.dtype)


# He's initialization, and its mean squared length of 2 in the others as well.
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
