"""Orthogonal finetuning with butterfly factors (BOFT)."""

from typing import Literal

from sphax._checks import check_choice
from sphax.neurons import Neurons
from sphax.reparam._blocks import Butterfly, Digits
from sphax.reparam._core import Reparameterization, Where, per_kernel
from sphax.reparam._maps import Method, OrthogonalMap


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

    where :math:`R_i` is block-diagonal after a permutation of coordinates. Coordinates
    are cut into chunks of :math:`b / 2` neighbors, numbered from 0. In the authors'
    ``"butterfly"``, the chunks :math:`c` and :math:`c + 2^{i-1}`, whose numbers differ
    in bit :math:`i - 1` only, form a block of :math:`R_i`. One factor is :func:`oft`;
    :math:`m = 1 + \log_2 (d / b)` factors connect every coordinate with every other, as
    a fast Fourier transform does, with :math:`m d (b - 1) / 2` degrees of freedom. A
    :class:`ButterflyRotation` rotates the inputs of a kernel instead.

    With ``"digits"``, a block of :math:`R_i` has the coordinates whose numbers to base
    :math:`b` differ in digit :math:`i` only, counted from the last: a transform of
    radix :math:`b`, in which :math:`m = \log_b d` factors connect all coordinates. For
    :math:`b = 2` the two patterns are the same.

    Args:
        block_size: :math:`b`, 2 or more, and even for several factors of a butterfly.
            If :math:`2^{m - 1} b` (with ``"digits"``, :math:`b^m`) does not divide the
            dimension of the neurons, the next smaller size that fits is used. If no
            size fits, as for 27 or 197 dimensions and two factors, the kernel is not
            reparameterized: see :func:`describe`.
        factors: :math:`m`, 1 or more.
        pattern: ``"butterfly"`` or ``"digits"``.
        rescale: Whether to learn a factor for every neuron, as the authors do.
        method: Map to orthogonal matrices, as in :func:`orthogonal`.
        scale: Factor of raw arrays, as in :func:`orthogonal`.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel.
        where: Function of the path and the leaf: whether to reparameterize it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.

    Returns:
        A :class:`Reparameterization`, whose ``advance`` does nothing.

    Raises:
        ValueError: Same as :func:`orthogonal`.
        TypeError: Same as :func:`orthogonal`.

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
    return per_kernel(
        OrthogonalMap(method, scale),
        left=blocks(block_size, factors),
        neuron_init="given",
        rescale=rescale,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )
