"""Orthogonal over-parameterized training (OPT)."""

from typing import Literal

from sphax._checks import check_choice
from sphax.neurons import Neurons
from sphax.reparam._blocks import Contiguous
from sphax.reparam._core import Reparameterization, Where, per_kernel
from sphax.reparam._maps import Method, OrthogonalMap, RotationInit
from sphax.reparam._neuron_init import NeuronInit


def orthogonal(
    *,
    method: Method = "cayley",
    side: Literal["left", "right", "both"] = "left",
    block_size: int | None = None,
    share_blocks: bool = False,
    tie: bool = False,
    neuron_init: NeuronInit = "gaussian",
    rotation_init: RotationInit = "identity",
    scale: float | None = None,
    allow_large: bool = False,
    where: Where | None = None,
    neurons: Neurons = None,
) -> Reparameterization:
    r"""Kernels as frozen neurons in a learned orientation (OPT).

    .. math:: W = R\, V P^\top

    The columns of :math:`V` are the neurons, which are random and never trained. The
    orthogonal matrix :math:`R` rotates all neurons of a kernel together, and :math:`P`
    (by default :math:`I`) mixes them. :math:`R` preserves all angles and lengths:
    hyperspherical energies and separations stay those of :math:`V`, which are nearly
    minimal if it is Gaussian, for any number of steps of any optimizer. Both matrices
    preserve singular values.

    A raw array :math:`A` is trained, and a map of :math:`c A` is the orthogonal matrix,
    with :math:`c = b^{-1/2}` for blocks of size :math:`b`. A step of an adaptive
    optimizer, :math:`\pm \eta` in every entry, then rotates neurons by an angle of the
    order of :math:`\eta` for any :math:`b`. Steps of plain gradient descent have one
    more factor of :math:`c`. ``scale=1.0`` is the published form.

    Args:
        method: A map of :mod:`sphax.orthogonal`, by name: ``"cayley"``,
            ``"cayley_neumann"`` (nearly orthogonal), ``"exponential"``,
            ``"gram_schmidt"``, ``"householder"`` or ``"lowdin"``; ``"identity"`` if raw
            arrays are the orthogonal matrices themselves, which
            :func:`sphax.optim.orthogonal_descent` keeps orthogonal; or a function of
            ``[..., b, b]`` that maps zero to the identity.
        side: ``"left"`` for :math:`R`, ``"right"`` for :math:`P`, or ``"both"``.
        block_size: Size of the blocks of block-diagonal matrices, or the largest
            divisor of the dimension below it; ``None`` for one block. A kernel whose
            dimension has no divisor in this range but 1 is not reparameterized: see
            :func:`describe`.
        share_blocks: Whether all blocks of a matrix are the same.
        tie: Whether kernels whose matrices have the same shape share one that is
            learned for all of them. The first of these kernels, by path, has the raw
            array, and all others have ``None``.
        neuron_init: The neurons to freeze: ``"gaussian"``, with variance 2 / fan-in;
            ``"normalized"``, uniform directions of length :math:`\sqrt 2`; ``"unit"``,
            uniform directions of length 1; ``"minimum_energy"``, of length
            :math:`\sqrt 2`, by :func:`sphax.energy.minimize_energy`; ``"given"``, the
            neurons in params; or a function ``(key, n, d) -> [n, d]``.
        rotation_init: ``"identity"``, or ``"normal"`` for raw arrays of standard normal
            entries, which are random rotations (the authors' code).
        scale: :math:`c`, positive.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel. A 3 x 3 convolution with as many filters as channels has nine
            times.
        where: Whether to reparameterize a leaf, a function of its path, such as
            ``"conv/kernel"``, and the leaf. Defaults to all kernels; exclude the
            classifier.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves with one
            neuron or one dimension are not reparameterized.

    Returns:
        A :class:`Reparameterization`, whose ``advance`` does nothing. Kernels have the
        dtypes of params; raw arrays are float32 at least, as are all computations.
        Values and gradients are finite wherever those of ``method`` are.

    Raises:
        ValueError: If an option is unknown or out of range; from ``init``, if there is
            no kernel, no size has a fitting divisor, or rotations are too large.
        TypeError: If an argument has the wrong type, such as a ``where`` that is not a
            function; from ``init``, if ``neurons`` is not made of ``NeuronDimensions``,
            or the first argument is not a key.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4))}
        >>> training = sx.reparam.orthogonal(method="householder", neuron_init="given")
        >>> free, frozen = training.init(jax.random.key(0), params)
        >>> bool(jnp.allclose(training.apply(free, frozen)["kernel"], 1.0, atol=1e-5))
        True

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """
    check_choice("side", side, ("left", "right", "both"))
    blocks = Contiguous(block_size, share_blocks)
    return per_kernel(
        OrthogonalMap(method, scale, rotation_init),
        left=None if side == "right" else blocks,
        right=None if side == "left" else blocks,
        neuron_init=neuron_init,
        tie=tie,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    )
