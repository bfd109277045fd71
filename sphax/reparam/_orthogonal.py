"""Orthogonal over-parameterized training."""

from sphax._checks import check_choice
from sphax.neurons import Neurons
from sphax.reparam._blocks import Contiguous
from sphax.reparam._frozen import NeuronInit
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotated import Construction, Side, Where
from sphax.reparam._rotations import Method, Parameterization, RotationInit


def orthogonal(
    *,
    method: Method = "cayley",
    side: Side = "left",
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

    with the neurons as columns of :math:`V`, random and never trained, and orthogonal
    matrices :math:`R`, of all neurons of a kernel together, and :math:`P` (by default
    :math:`I`). :math:`R` leaves all angles and lengths what they are: hyperspherical
    energies and separations stay those of :math:`V`, near their minimum if it is
    Gaussian, however long and by whatever optimizer one trains. Singular values stay
    with both.

    A raw array :math:`A` stands for an orthogonal matrix by a map of :math:`c A`, where
    :math:`c = b^{-1/2}` for blocks of size :math:`b`: a step of an adaptive optimizer,
    :math:`\pm \eta` in every entry, turns neurons by an angle of the order of
    :math:`\eta` whatever :math:`b` is. With plain gradient descent, the steps have one
    more :math:`c`; ``scale=1.0`` has the published form.

    Args:
        method: A map of :mod:`sphax.orthogonal`, by name: ``"cayley"``,
            ``"cayley_neumann"`` (nearly orthogonal), ``"exponential"``,
            ``"gram_schmidt"``, ``"householder"``, ``"lowdin"``; or ``"identity"`` if
            raw arrays are the orthogonal matrices, for
            :func:`sphax.optim.orthogonal_descent` to keep them so; or a function of
            ``[..., b, b]`` that has the identity at zero.
        side: ``"left"`` for :math:`R`, ``"right"`` for :math:`P`, or ``"both"``.
        block_size: Makes the matrices block-diagonal, with blocks of the largest
            divisor of their size up to this one; ``None`` for one block. A kernel whose
            size has none but 1 is left as it is: see :func:`describe`.
        share_blocks: Whether all blocks of a matrix are the same.
        tie: Whether kernels whose matrices have the same shape turn together, by
            one that is learned for all of them, instead of one for each: the first of
            them, by path, has its raw array, the others ``None``.
        neuron_init: Neurons to freeze: ``"gaussian"``, of variance 2 / fan-in;
            ``"normalized"``, such ones of one length, :math:`\sqrt 2`, or ``"unit"``,
            of length 1;
            ``"minimum_energy"``, these by :func:`sphax.energy.minimize_energy`;
            ``"given"``, those of params; or a function ``(key, n, d) -> [n, d]``.
        rotation_init: ``"identity"``, or ``"normal"`` for raw arrays of standard normal
            entries, that is random rotations (the release).
        scale: :math:`c`, positive.
        allow_large: Whether rotations may have more than four times the entries of
            their kernel, as those of a 3 x 3 convolution with as many filters as
            channels do: nine times.
        where: Says of a path, such as ``"conv/kernel"``, and its leaf whether it is
            reparameterized. By default, all kernels are: classifiers had better not.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves of one
            neuron or dimension are left as they are.

    Returns:
        A :class:`Reparameterization`, whose ``advance`` does nothing. Kernels have the
        dtypes of params; raw arrays are float32 at least, and so is what is computed.
        Values and gradients are as finite as those of the method.

    Raises:
        ValueError: If an option is unknown or out of range; from ``init``, if there is
            no leaf, no size has a fitting divisor, or rotations are large.
        TypeError: If an argument is of another kind, such as a ``where`` that is not a
            function; from ``init``, if ``neurons`` is not made of `NeuronDimensions`,
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
    plan = Contiguous(block_size)
    return Construction(
        parameterization=Parameterization(method, scale, rotation_init),
        left=None if side == "right" else plan,
        right=None if side == "left" else plan,
        neuron_init=neuron_init,
        share_blocks=share_blocks,
        tie=tie,
        allow_large=allow_large,
        where=where,
        neurons=neurons,
    ).functions()
