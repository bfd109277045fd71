"""Energy of the neurons in a pytree of parameters."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax.energy._hyperspherical import Distance, as_options, energy_within
from sphax.energy._pairs._tiles import EnergyOptions
from sphax.neurons import Axes, Neurons, find, select

# One neuron makes no pair, and in one dimension there are two directions only.
AT_LEAST = 2
_REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


def energy_of_params(
    params: Any,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    block_size: int | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    neurons: Neurons = None,
) -> jax.Array:
    r"""Energy of the neurons of all layers, as a term of a loss (MHE).

    .. math::
        \frac1L \sum_l E_s(W_l)

    over the :math:`L` leaves :math:`W_l` with neurons, with :math:`E_s` the
    :func:`hyperspherical_energy`. To give the last layer another weight, leave it out
    of ``params`` and add a second term for it. The same as an optax transform, which
    also keeps the energies for logging: :func:`sphax.optim.add_energy_gradient`.

    Params may be sharded over a mesh. The neurons of one leaf at a time are gathered on
    every device; for more classes than fit,
    :func:`sphax.sharding.hyperspherical_energy` gathers nothing.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        power: :math:`s`, like the options below the same as in
            :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a neuron stands for its mirror image as well.
        block_size: Side of a tile of pairs.
        reduce: ``"mean"``, or the authors' ``"sum"`` over layers, and over the sets of
            neurons in a leaf with batch axes.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves
            with a single neuron, or neurons of one dimension, have no energy and are
            left out.

    Returns:
        The energy, a scalar in float32 at least, finite as the energies are.

    Raises:
        TypeError: If ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If there are no neurons, declared axes do not fit, ``reduce`` is
            unknown, or by the energy.

    Example:
        >>> params = {"a": {"kernel": jnp.eye(3)}, "b": {"kernel": jnp.eye(5, 4)}}
        >>> sx.energy.energy_of_params(params, power=2.0, reduce="sum")
        Array(1., dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018, Eq. 4.
    """
    options, array_power = as_options(power, distance, half_space, block_size)
    check_choice("reduce", reduce, tuple(_REDUCTIONS))
    found = find(params, neurons, at_least=AT_LEAST)
    fixed = {name: (options, axes, reduce) for name, axes in found.items()}
    energies = map_alike(energy_of_leaf, select(params, found), fixed, array_power)
    return _REDUCTIONS[reduce](jnp.stack(list(energies.values())))


def energy_of_leaf(
    fixed: tuple[EnergyOptions, Axes, str], leaf: jax.Array, power: jax.Array | None
) -> jax.Array:
    """Energy of the sets of neurons in a leaf, their mean or sum."""
    options, axes, reduce = fixed
    energies = energy_within(options, power, axes.rows(widen(leaf)))
    return _REDUCTIONS[reduce](energies)
