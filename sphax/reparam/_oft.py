"""Orthogonal finetuning."""

from sphax.neurons import Neurons
from sphax.reparam._blocks import Contiguous
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Where
from sphax.reparam._rotations import Method, Parameterization


def oft(
    *,
    block_size: int | None = 32,
    share_blocks: bool = False,
    bound: float | None = None,
    rescale: bool = False,
    method: Method = "cayley",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Orthogonal finetuning of the kernels given (OFT, COFT).

    .. math::
        W = \operatorname{diag}(R_1, \dots, R_r)\, W_0\, D, \qquad
        R_i = (I + Q_i) (I - Q_i)^{-1}

    from the identity on: one rotation for all neurons, which keep their angles. With a
    bound, :math:`Q_i` is scaled back to :math:`\|Q_i\|_F \le \epsilon` wherever it is
    longer (COFT): no neuron turns by more than :math:`2 \arctan(\epsilon / \sqrt 2)`.

    Args:
        block_size: Size of the blocks, or the largest divisor of the dimension below
            it; ``None`` for one block. A kernel whose dimension has no divisor up to it
            but 1, as 197, is left as it is: see :func:`describe`.
        share_blocks: Whether :math:`R_1 = \dots = R_r`.
        bound: :math:`\epsilon`, positive, or ``None``. For the maps of skew-symmetric
            matrices only.
        rescale: Whether to learn :math:`D`, a factor for every neuron, from 1 on.
        method: As in :func:`orthogonal`, like all that follow. The widespread
            implementation takes the series ``partial(sx.orthogonal.cayley_neumann,
            terms=4, is_last_halved=True)``.
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
        >>> tuning = sx.reparam.oft(block_size=4, rescale=True)
        >>> params = {"kernel": jnp.ones((8, 2))}
        >>> free, frozen = tuning.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, free["kernel"])
        Rotations(left=(1, 1, 2, 4, 4), right=None, scale=(1, 2))

    References:
        Qiu et al., `Controlling Text-to-Image Diffusion by Orthogonal Finetuning
        <https://arxiv.org/abs/2306.07280>`_, NeurIPS 2023.
    """
    return Construction(
        parameterization=Parameterization(method, scale, bound=bound),
        left=Contiguous(block_size),
        neuron_init="given",
        share_blocks=share_blocks,
        rescale=rescale,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
