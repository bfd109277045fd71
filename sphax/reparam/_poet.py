"""Training by orthogonal equivalence transformations (POET)."""

from typing import Literal

from sphax._checks import check_choice, check_count
from sphax.neurons import Neurons
from sphax.reparam._blocks import RandomBlocks, RandomSubset
from sphax.reparam._core import Reparameterization, Where, per_kernel
from sphax.reparam._maps import Method, OrthogonalMap
from sphax.reparam._neuron_init import NeuronInit


def poet(
    *,
    block_size: int = 256,
    sampling: Literal["blocks", "subset"] = "blocks",
    method: Method = "cayley_neumann",
    neuron_init: NeuronInit = "unit",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Kernels as frozen ones between two learned rotations (POET).

    .. math:: W = R\, W_0 P^\top

    The singular values are always those of :math:`W_0`. Both matrices are sparse: on
    each side the coordinates are permuted at random and cut into blocks (POET-BS), or
    one random block is rotated (POET-FS). ``advance`` merges both into :math:`W_0`,
    starts from the identity again, and draws new permutations. The authors do so every
    200 steps and reset the moments of Adam, as :func:`reset_moments` does.

    Args:
        block_size: :math:`b`, 2 or more; a smaller side is one block. If it does not
            divide a side, fewer than :math:`b` coordinates are left out until the next
            draw.
        sampling: ``"blocks"`` (block-stochastic) or ``"subset"`` (fully stochastic).
        method: Same as in :func:`orthogonal`. The default is the published series of
            four terms, whose orthogonality error is of the order of the sixth power of
            the norm of its matrix; errors add up with every ``advance``. ``"cayley"``
            is exact.
        neuron_init: Same as in :func:`orthogonal`; by default neurons of length 1, as
            in the authors' code.
        scale: Same as in :func:`orthogonal`; ``1.0`` is the published form. With the
            default, a step of Adam rotates neurons in blocks of size :math:`b` by
            :math:`b^{-1/2}` of the published angle: multiply a published learning rate
            by :math:`b^{1/2}`, which is 16 for blocks of 256.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel.
        where: Function of the path and the leaf: whether to reparameterize it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.

    Returns:
        A :class:`Reparameterization`. Rotations are merged into neurons in the dtype of
        params, where rounding errors add up: keep params in float32.

    Raises:
        ValueError: Same as :func:`orthogonal`.
        TypeError: Same as :func:`orthogonal`.

    Example:
        >>> training = sx.reparam.poet(block_size=4)
        >>> params = {"kernel": jnp.ones((16, 8))}
        >>> free, frozen = training.init(jax.random.key(0), params)
        >>> free["kernel"].left.shape, free["kernel"].right.shape
        ((1, 1, 4, 4, 4), (1, 1, 2, 4, 4))

    References:
        Qiu et al., `Reparameterized LLM Training via Orthogonal Equivalence
        Transformation <https://arxiv.org/abs/2506.08001>`_, 2025.
    """
    check_choice("sampling", sampling, ("blocks", "subset"))
    check_count("block_size", block_size, 2)
    if sampling == "blocks":
        blocks = RandomBlocks(block_size)
    else:
        blocks = RandomSubset(at_most=block_size)
    return per_kernel(
        OrthogonalMap(method, scale),
        left=blocks,
        right=blocks,
        neuron_init=neuron_init,
        redraw=True,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )
