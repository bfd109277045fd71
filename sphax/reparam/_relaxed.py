"""Relaxed OPT: a penalty replaces the orthogonality constraint."""

from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import check_number
from sphax._compiled import map_alike
from sphax.neurons import Neurons
from sphax.orthogonal import orthogonality_error
from sphax.reparam._blocks import Contiguous
from sphax.reparam._core import (
    Reparameterization,
    Where,
    per_kernel,
    rotations_by_path,
)
from sphax.reparam._maps import OrthogonalMap
from sphax.reparam._neuron_init import NeuronInit


def relaxed_orthogonal(
    weight: jax.typing.ArrayLike = 0.1,
    *,
    block_size: int | None = None,
    share_blocks: bool = False,
    neuron_init: NeuronInit = "gaussian",
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Kernels as frozen neurons under a nearly orthogonal matrix (relaxed OPT).

    :math:`W = R V` as in :func:`orthogonal`, but :math:`R` may be any matrix. It starts
    at the identity and has the penalty

    .. math:: \lambda \sum \|R^\top R - I\|_F

    summed over all kernels and blocks. It is the distance and not its square, so that
    its gradient does not vanish near the orthogonal matrices. No map is computed.
    Energies are close to those of :math:`V` instead of equal. With a weight of 0,
    :math:`R` is unconstrained.

    Args:
        weight: :math:`\lambda`, a scalar; 0.1 in the authors' code.
        block_size: Largest size of a block, or ``None``, as in :func:`orthogonal`.
        share_blocks: Whether all blocks of a matrix are the same.
        neuron_init: The neurons to freeze, as in :func:`orthogonal`.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel.
        where: Function of the path and the leaf: whether to reparameterize it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.

    Returns:
        A :class:`Reparameterization` with a penalty, in float32 at least, whose
        gradient is zero where the penalty is zero.

    Raises:
        ValueError: Same as :func:`orthogonal`.
        TypeError: Same as :func:`orthogonal`.

    Example:
        >>> training = sx.reparam.relaxed_orthogonal()
        >>> params = {"kernel": jnp.ones((2, 3))}
        >>> free, frozen = training.init(jax.random.key(0), params)
        >>> doubled = jax.tree.map(lambda x: 2.0 * x, free)
        >>> print(training.penalty(doubled))  # 0.1 times the length of diag(3, 3)
        0.4243

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021, and the authors' code.
    """
    check_number("weight", weight, others=", the first argument")

    def penalty(free: Any) -> jax.Array:
        raw = {name: leaf.left for name, leaf in rotations_by_path(free).items()}
        errors = map_alike(_error, raw, dict.fromkeys(raw))
        return jnp.asarray(weight * sum(errors.values()))

    return per_kernel(
        OrthogonalMap("identity"),
        left=Contiguous(block_size, share_blocks),
        neuron_init=neuron_init,
        penalty=penalty,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )


def _error(fixed, matrices):
    del fixed
    return jnp.sum(orthogonality_error(matrices))
