"""Training by orthogonal equivalence transformations."""

from typing import Literal

from sphax._checks import check_choice, check_count
from sphax.neurons import Neurons
from sphax.reparam._blocks import RandomBlocks, RandomSubset
from sphax.reparam._frozen import NeuronInit
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Method, Parameterization


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

    whose singular values are those of :math:`W_0` always. Both matrices are sparse: on
    each side the coordinates are permuted at random and cut into blocks (POET-BS), or
    one random block is rotated (POET-FS). ``advance`` absorbs both into
    :math:`W_0`, starts from the identity again, and draws new permutations; the authors
    do it every 200 steps, and set the moments of Adam back, as
    :func:`reset_moments` does.

    Args:
        block_size: :math:`b`, 2 or more; a smaller side is one block. Where it does not
            divide a side, fewer than :math:`b` coordinates are left out until the next
            draw.
        sampling: ``"blocks"`` (block-stochastic) or ``"subset"`` (fully stochastic).
        method: As in :func:`orthogonal`; by default the published series with four
            terms, orthogonal but for the sixth power of the norm of its matrix: such
            errors add up with every ``advance``. ``"cayley"`` is exact.
        neuron_init: See there; by default neurons of length 1, as the authors'.
        scale: See there; ``1.0`` is the published form. By default, for blocks of size
            :math:`b` a step of Adam turns neurons by :math:`b^{-1/2}` of what it does
            there: a published learning rate is to be multiplied by :math:`b^{1/2}`, 16
            for blocks of 256.
        allow_large: See there.
        where: See there.
        neurons: See there.

    Returns:
        A :class:`Reparameterization`. Neurons are folded in the dtype of params, where
        rounding adds up: keep these in float32.

    Raises:
        ValueError: As :func:`orthogonal`.
        TypeError: As :func:`orthogonal`.

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
        plan = RandomBlocks(block_size)
    else:
        plan = RandomSubset(at_most=block_size)
    return Construction(
        parameterization=Parameterization(method, scale),
        left=plan,
        right=plan,
        neuron_init=neuron_init,
        is_redrawn=True,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
