"""Orthogonal training with a penalty in the place of the constraint."""

from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import check_number
from sphax._compiled import map_alike
from sphax.neurons import Neurons
from sphax.orthogonal import orthogonality_error
from sphax.reparam._blocks import Contiguous
from sphax.reparam._frozen import NeuronInit
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Parameterization, rotations_by_path


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

    :math:`W = R V` as in :func:`orthogonal`, but with any matrix :math:`R`, from the
    identity on, and the penalty

    .. math:: \lambda \sum \|R^\top R - I\|_F

    over all kernels and blocks: the distance, not its square, so that its pull does not
    fade near the orthogonal matrices. No map is to be computed; energies are close to
    those of :math:`V`, not equal to them. With a weight of 0, nothing holds :math:`R`.

    Args:
        weight: :math:`\lambda`, a scalar; 0.1 in the release.
        block_size: As in :func:`orthogonal`, like all that follow.
        share_blocks: See there.
        neuron_init: See there.
        allow_large: See there.
        where: See there.
        neurons: See there.

    Returns:
        A :class:`Reparameterization` with a penalty, in float32 at least; its gradient
        is zero where it is zero.

    Raises:
        ValueError: As :func:`orthogonal`.
        TypeError: As :func:`orthogonal`.

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
        raw = {name: own.left for name, own in rotations_by_path(free).items()}
        errors = map_alike(_error, raw, dict.fromkeys(raw))
        return jnp.asarray(weight * sum(errors.values()))

    return Construction(
        parameterization=Parameterization("identity"),
        left=Contiguous(block_size),
        neuron_init=neuron_init,
        share_blocks=share_blocks,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions(penalty)


def _error(fixed, matrices):
    del fixed
    return jnp.sum(orthogonality_error(matrices))
