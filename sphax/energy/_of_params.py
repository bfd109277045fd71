"""Energy of the neurons in a pytree of parameters."""

from typing import Any, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax._penalties import Penalty, Reduce, as_pytree, reduced
from sphax.energy._hyperspherical import (
    Distance,
    as_form,
    as_set,
    hyperspherical_energy,
    mean_energy,
)
from sphax.neurons import Neurons, find, select

# One neuron makes no pair, and in one dimension there are two directions only.
AT_LEAST = 2


def energy_of_params(
    params: Any,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    block_size: int | None = None,
    reduce: Reduce = "mean",
    neurons: Neurons = None,
) -> jax.Array:
    r"""Energy of the neurons of all layers, as a term of a loss (MHE).

    .. math::
        \frac1L \sum_l E_s(W_l)

    over the :math:`L` leaves :math:`W_l` with neurons, with :math:`E_s` the
    :func:`hyperspherical_energy`. The last layer has a weight apart when it is not
    among these ``params`` and has a term of its own. As a transform, which also keeps
    the energies for logging: :func:`sphax.optim.add_energy_gradient`.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        power: :math:`s`, as all below in :func:`hyperspherical_energy`.
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
        TypeError: If ``neurons`` is not made of `NeuronDimensions`.
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
    form, traced = as_form(power, distance, half_space, block_size)
    check_choice("reduce", reduce, get_args(Reduce))
    found = find(params, neurons, at_least=AT_LEAST)
    fixed = {name: (form, axes, reduce) for name, axes in found.items()}
    energies = map_alike(_energy_of_leaf, select(params, found), fixed, traced)
    return reduced(jnp.stack(list(energies.values())), reduce)


def _energy_of_leaf(fixed, leaf, power):
    form, axes, reduce = fixed
    points = as_set("params", axes.rows(widen(leaf)), None)
    return reduced(mean_energy(form, power, (points,)), reduce)


def energy_penalty(**options: Any) -> Penalty:
    """The energy, with these options, as a penalty; it draws nothing."""
    return as_pytree(_energy, **options)


def _energy(rows, key, **options):
    del key
    return hyperspherical_energy(rows, **options)
