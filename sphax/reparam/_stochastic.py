"""Orthogonal training of a few random coordinates at a time."""

from sphax._checks import check_number
from sphax.neurons import Neurons
from sphax.reparam._blocks import RandomSubset
from sphax.reparam._frozen import NeuronInit
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Method, Parameterization


def stochastic_orthogonal(
    *,
    fraction: float = 0.25,
    method: Method = "cayley",
    neuron_init: NeuronInit = "gaussian",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Orthogonal training that rotates a random subset of coordinates (S-OPT).

    As :func:`orthogonal`, with an orthogonal matrix that acts on :math:`p` of the
    :math:`d` coordinates of the neurons of a kernel. ``advance`` folds it into the
    neurons, starts from the identity again, and draws another subset, without
    replacement: the product of many such matrices reaches every rotation, with
    :math:`p^2` entries at a time to train instead of :math:`d^2`. The authors advance
    every 750 steps.

    Args:
        fraction: :math:`p / d`, in ``(0, 1]``; at least two coordinates are taken.
        method: As in :func:`orthogonal`, like all that follow.
        neuron_init: See there.
        scale: See there.
        allow_large: See there.
        where: See there.
        neurons: See there.

    Returns:
        A :class:`Reparameterization`. Neurons are folded in the dtype of params, where
        rounding adds up: keep these in float32.

    Raises:
        ValueError: As :func:`orthogonal`; if ``fraction`` is out of range.
        TypeError: As :func:`orthogonal`.

    Example:
        >>> training = sx.reparam.stochastic_orthogonal()
        >>> params, key = {"kernel": jnp.ones((16, 4))}, jax.random.key(0)
        >>> free, frozen = training.init(key, params)
        >>> free["kernel"].left.shape, frozen["kernel"].left.shape
        ((1, 1, 1, 4, 4), (1, 1, 4))
        >>> step_key = jax.random.fold_in(key, 750)
        >>> free, frozen, moved = training.advance(step_key, free, frozen)

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """
    check_number("fraction", fraction)
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}.")
    return Construction(
        parameterization=Parameterization(method, scale),
        left=RandomSubset(fraction),
        neuron_init=neuron_init,
        is_redrawn=True,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
