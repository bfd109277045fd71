"""Orthogonal finetuning with butterfly factors."""

from typing import Literal

from sphax._checks import check_choice
from sphax.neurons import Neurons
from sphax.reparam._blocks import Butterfly, Digits
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Method, Parameterization


def boft(
    *,
    block_size: int = 4,
    factors: int = 2,
    pattern: Literal["butterfly", "digits"] = "butterfly",
    rescale: bool = True,
    method: Method = "cayley",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Orthogonal finetuning by a product of sparse rotations (BOFT).

    .. math:: W = R_m \cdots R_1\, W_0\, D

    where :math:`R_i` is block-diagonal once its coordinates are permuted. Cut the
    coordinates into chunks of :math:`b / 2` neighbors, and number these from 0: in the
    ``"butterfly"`` of the authors, the chunks :math:`c` and :math:`c + 2^{i-1}`, whose
    numbers differ in bit :math:`i - 1` only, make a block of :math:`R_i`. One factor is
    :func:`oft`; :math:`m = 1 + \log_2 (d / b)` of them connect every coordinate with
    every other, as a fast Fourier transform does, with :math:`m d (b - 1) / 2` degrees
    of freedom.

    With ``"digits"``, a block of :math:`R_i` has the coordinates whose numbers to base
    :math:`b` differ in digit :math:`i` only, the last digit first: a transform of radix
    :math:`b`, where :math:`m = \log_b d` connect all. For :math:`b = 2`, both are one.

    Args:
        block_size: :math:`b`, 2 or more, even if there are several factors. Where
            :math:`2^{m - 1} b` (with ``"digits"``, :math:`b^m`) does not divide the
            dimension of the neurons, the kernel has the next smaller blocks with which
            it does; if there are none, as for 27 or 197 dimensions and two factors, it
            is left as it is: see :func:`describe`.
        factors: :math:`m`, 1 or more.
        pattern: ``"butterfly"`` or ``"digits"``.
        rescale: As in :func:`oft`; the authors do it.
        method: As in :func:`orthogonal`, like all that follow.
        scale: See there.
        allow_large: See there.
        where: See there.
        neurons: See there.

    Returns:
        A :class:`Reparameterization`, whose ``advance`` does nothing.

    Raises:
        ValueError: As :func:`orthogonal`.
        TypeError: As :func:`orthogonal`.

    Example:
        >>> tuning = sx.reparam.boft(block_size=4, factors=2)
        >>> _, frozen = tuning.init(jax.random.key(0), {"kernel": jnp.ones((8, 2))})
        >>> frozen["kernel"].left[1]
        Array([[0, 1, 4, 5],
               [2, 3, 6, 7]], dtype=int32)

    References:
        Liu et al., `Parameter-Efficient Orthogonal Finetuning via Butterfly
        Factorization <https://arxiv.org/abs/2311.06243>`_, ICLR 2024.
    """
    check_choice("pattern", pattern, ("butterfly", "digits"))
    blocks = Butterfly if pattern == "butterfly" else Digits
    return Construction(
        parameterization=Parameterization(method, scale),
        left=blocks(block_size, factors),
        neuron_init="given",
        rescale=rescale,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
