"""Orthogonal finetuning with butterfly factors."""

from sphax.neurons import Neurons
from sphax.reparam._blocks import butterfly
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Method, Parameterization


def boft(
    *,
    block_size: int = 4,
    factors: int = 2,
    is_rescaled: bool = True,
    method: Method = "cayley",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Orthogonal finetuning by a product of sparse rotations (BOFT).

    .. math:: W = R_m \cdots R_1\, W_0\, D

    where :math:`R_i` is block-diagonal once its coordinates are permuted: number the
    coordinates from 0 to base :math:`b`, then those whose numbers differ in digit
    :math:`i` only, the last digit first, make a block of size :math:`b`. One factor is
    :func:`oft`; :math:`m = \log_b d` of them, with :math:`m d (b - 1) / 2` degrees of
    freedom, connect every coordinate with every other, as a fast Fourier transform of
    that radix does. The authors' factors combine halves of blocks, and take
    :math:`1 + \log_2 (d / b)` of them for it; for :math:`b = 2` they are these.

    Args:
        block_size: :math:`b`, 2 or more.
        factors: :math:`m`, 1 or more; :math:`b^m` must divide the dimension.
        is_rescaled: As in :func:`oft`; the authors do it.
        method: As in :func:`orthogonal`, like all that follow.
        scale: See there.
        allow_large: See there.
        where: See there.
        neurons: See there.

    Returns:
        A :class:`Reparameterization`, whose ``advance`` does nothing.

    Raises:
        ValueError: As :func:`orthogonal`; from ``init``, if :math:`b^m` does not divide
            the dimension of all neurons.
        TypeError: As :func:`orthogonal`.

    Example:
        >>> tuning = sx.reparam.boft(block_size=2, factors=3)
        >>> _, frozen = tuning.init(jax.random.key(0), {"kernel": jnp.ones((8, 2))})
        >>> frozen["kernel"].left[2]
        Array([[0, 4],
               [1, 5],
               [2, 6],
               [3, 7]], dtype=int32)

    References:
        Liu et al., `Parameter-Efficient Orthogonal Finetuning via Butterfly
        Factorization <https://arxiv.org/abs/2311.06243>`_, ICLR 2024.
    """
    return Construction(
        parameterization=Parameterization(method, scale),
        left=butterfly(block_size, factors),
        start="given",
        is_rescaled=is_rescaled,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
