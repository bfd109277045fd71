"""Stochastic OPT: orthogonal training of a random subset of coordinates."""

from sphax._checks import check_number
from sphax.neurons import Neurons
from sphax.reparam._blocks import RandomSubset
from sphax.reparam._core import Reparameterization, Where, per_kernel
from sphax.reparam._maps import Method, OrthogonalMap
from sphax.reparam._neuron_init import NeuronInit


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

    Like :func:`orthogonal`, but the orthogonal matrix acts on :math:`p` of the
    :math:`d` coordinates of the neurons of a kernel. ``advance`` merges it into the
    neurons, starts from the identity again, and draws another subset, without
    replacement. The product of many such matrices reaches every rotation, while
    :math:`p^2` entries are trained at a time instead of :math:`d^2`. The authors
    advance every 750 steps.

    Args:
        fraction: :math:`p / d`, in ``(0, 1]``; at least two coordinates are used.
        method: Map to orthogonal matrices, as in :func:`orthogonal`.
        neuron_init: The neurons to freeze, as in :func:`orthogonal`.
        scale: Factor of raw arrays, as in :func:`orthogonal`.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel.
        where: Function of the path and the leaf: whether to reparameterize it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.

    Returns:
        A :class:`Reparameterization`. Rotations are merged into neurons in the dtype of
        params, where rounding errors add up: keep params in float32.

    Raises:
        ValueError: If ``fraction`` is out of range; otherwise as :func:`orthogonal`.
        TypeError: Same as :func:`orthogonal`.

    Example:
        >>> training = sx.reparam.stochastic_orthogonal()
        >>> params, key = {"kernel": jnp.ones((16, 4))}, jax.random.key(0)
        >>> free, frozen = training.init(key, params)
        >>> free["kernel"].left.shape, frozen["kernel"].left.shape
        ((1, 1, 1, 4, 4), (1, 1, 4))
        >>> step_key = jax.random.fold_in(key, 750)
        >>> free, frozen, was_reset = training.advance(step_key, free, frozen)

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """
    check_number("fraction", fraction)
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}.")
    return per_kernel(
        OrthogonalMap(method, scale),
        left=RandomSubset(fraction),
        neuron_init=neuron_init,
        redraw=True,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )
