"""Hyperspherical energy of neurons, as a part of the gradient."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_number
from sphax.energy import energy_penalty
from sphax.neurons import Neurons
from sphax.optim._layer_weights import Weight
from sphax.optim._neurons import Mask
from sphax.optim._penalty import add_penalty_gradient


def add_energy_gradient(
    weight: Weight,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Literal["euclidean", "geodesic"] = "euclidean",
    half_space: bool = False,
    block_size: int | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    every: jax.typing.ArrayLike = 1,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of the energy of the neurons to the updates (MHE).

    .. math::
        g_l \leftarrow g_l + \frac{\lambda}{L}\, \nabla E_s(W_l)

    for each of the :math:`L` layers, the leaves :math:`W_l` with neurons, and with
    :math:`E_s` the :func:`sphax.energy.hyperspherical_energy`, a mean over pairs: as if
    ``weight * energy_of_params(params)`` were a part of the loss. Put it **before** the
    optimizer, while updates are gradients: ``chain(add_energy_gradient(1.0),
    adam(1e-3))``. Behind one, updates are steps downhill, and a gradient added to them
    pushes uphill; beside one, use :func:`decoupled_energy`. For other energies, such as
    compressive ones, use :func:`add_penalty_gradient`, of which this is the case of
    :func:`sphax.energy.energy_penalty`.

    The authors take the ``"sum"`` over layers, with weights ``{"": 1.0, "head": 10.0}``
    where the last layer is named head. They keep the last layer in full space when the
    others are in half space: chain two transforms with complementary masks.

    Args:
        weight: :math:`\lambda`, a scalar, or a schedule, a function of the step. Or a
            pytree of weights of leaves and subtrees by path, as in
            ``{"": 1.0, "head": 10.0}``: the longest matching path wins, and means are
            taken over the layers that match the same path.
        power: :math:`s`, 0 or more, a scalar.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a neuron stands for its mirror image as well.
        block_size: Side of a tile of pairs.
        reduce: ``"mean"``, or the ``"sum"`` over layers, and over the sets of neurons
            in a leaf with batch axes.
        every: Period :math:`k` in steps, 1 or more: the gradient is computed in the
            first step and in every k-th from there, and multiplied by :math:`k`, so
            that the weight keeps its meaning (lazy regularization).
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves with a
            single neuron, or neurons of one dimension, have no energy and are left out.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform, with a :class:`RegularizerState`; ``update`` needs ``params``.
        The updates keep their dtype; the computation is in float32 at least. The added
        gradient is at a right angle to each neuron, zero for zero neurons. In
        :func:`optax.inject_hyperparams`, ``block_size`` and callables ``neurons`` and
        ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``every`` or ``power``, given as a number, is out of range, or
            another option unknown; from ``init``, if there are no neurons or declared
            axes do not fit; from ``update``, without ``params``, or if ``weight`` does
            not fit.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.eye(3, 2), "bias": jnp.zeros(2)}
        >>> add = sx.optim.add_energy_gradient(1.0, power=0.0)
        >>> tx = optax.chain(add, optax.sgd(0.1))
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> updates["kernel"]  # away from one another
        Array([[-0.  , -0.05],
               [-0.05, -0.  ],
               [-0.  , -0.  ]], dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018, Eq. 4.
    """
    check_number("power", power)
    if not isinstance(power, (int, float)):
        power = jnp.asarray(power, dtype=float)  # an injected one may be an integer
    penalty = energy_penalty(
        power=power, distance=distance, half_space=half_space, block_size=block_size
    )
    return add_penalty_gradient(
        penalty,
        weight,
        reduce=reduce,
        every=every,
        at_least=2,  # a single neuron, or a single dimension, has no energy
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )
