"""Orthogonal finetuning (OFT)."""

from sphax.neurons import Neurons
from sphax.reparam._blocks import Contiguous
from sphax.reparam._core import Reparameterization, Where, per_kernel
from sphax.reparam._maps import Method, OrthogonalMap


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

    starting from the identity. One rotation acts on all neurons, which keep their
    angles. With a bound, :math:`Q_i` is scaled down to
    :math:`\|Q_i\|_F \le \epsilon` where it is longer (COFT): no neuron rotates by more
    than :math:`2 \arctan(\epsilon / \sqrt 2)`. A :class:`BlockRotation` rotates the
    inputs of a kernel instead, which stays as it is.

    Args:
        block_size: Size of the blocks, or the largest divisor of the dimension below
            it; ``None`` for one block. A kernel whose dimension has no divisor in this
            range but 1, such as 197, is not reparameterized: see :func:`describe`.
        share_blocks: Whether :math:`R_1 = \dots = R_r`.
        bound: :math:`\epsilon`, positive, or ``None``; only for maps of skew-symmetric
            matrices.
        rescale: Whether to learn :math:`D`, a factor for every neuron that starts at 1.
        method: Same as in :func:`orthogonal`. The widespread implementation uses the
            series ``partial(sx.orthogonal.cayley_neumann, terms=4,
            halve_last_term=True)``.
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
        >>> tuning = sx.reparam.oft(block_size=4, rescale=True)
        >>> params = {"kernel": jnp.ones((8, 2))}
        >>> free, frozen = tuning.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, free["kernel"])
        Rotations(left=(1, 1, 2, 4, 4), right=None, scale=(1, 2))

    References:
        Qiu et al., `Controlling Text-to-Image Diffusion by Orthogonal Finetuning
        <https://arxiv.org/abs/2306.07280>`_, NeurIPS 2023.
    """
    return per_kernel(
        OrthogonalMap(method, scale, bound=bound),
        left=Contiguous(block_size, share_blocks),
        neuron_init="given",
        rescale=rescale,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )
