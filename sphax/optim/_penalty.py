"""Any penalty on the neurons, as a part of the gradient."""

from functools import partial

import jax
import optax

from sphax._penalties import Penalty, Reduce
from sphax.neurons import Neurons
from sphax.optim._neurons import Mask, find_neurons
from sphax.optim._regularizer import add_gradient
from sphax.optim._weights import Weight


def add_penalty_gradient(
    weight: Weight,
    penalty: Penalty,
    *,
    reduce: Reduce = "mean",
    every: jax.typing.ArrayLike = 1,
    key: jax.Array | None = None,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of any penalty on the neurons to the updates.

    .. math::
        g_l \leftarrow g_l + \frac{\lambda}{L}\, \nabla P(W_l)

    for each of the :math:`L` layers, the leaves :math:`W_l` with neurons: as if
    :math:`\lambda` times the mean of their penalties were a part of the loss. Put it
    **before** the optimizer, while updates are gradients; :func:`decoupled` is for use
    beside one. Behind one, a gradient added pushes uphill.

    Args:
        weight: :math:`\lambda`, a scalar, or a schedule, a function of the step. Or a
            pytree of such, the weights of leaves and subtrees by path, as in
            ``{"": 1.0, "head": 10.0}``: of the paths to a layer the longest holds, and
            means are over layers with the same one.
        penalty: :math:`P`, a function to a scalar of the neurons as rows, ``[n, d]``,
            in float32 at least, and of a key, or None if none is given.
        reduce: ``"mean"``, or the ``"sum"`` over layers, and over the sets of neurons
            in a leaf with batch axes.
        every: Period :math:`k` in steps, 1 or more: the gradient is taken in the first
            step and in every k-th from there, times :math:`k`, so that the weight keeps
            its meaning (lazy regularization).
        key: For the penalty, which has another one in each step, leaf and set.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform, with a :class:`RegularizerState`; ``update`` needs ``params``.
        The updates keep their dtype, all else is computed in float32 at least. In
        :func:`optax.inject_hyperparams`, ``penalty``, ``key`` and callables ``neurons``
        and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of `NeuronDimensions`.
        ValueError: If ``every``, given as a number, is out of range; from ``init``, if
            there are no neurons or declared axes do not fit; from ``update``, without
            ``params``, or if ``weight`` or ``reduce`` does not fit.

    Example:
        >>> import optax
        >>> def compressive(rows, key):  # new projections in each step
        ...     projections = sx.energy.random_projections(key, rows.shape[1], 4)
        ...     return sx.energy.compressive_energy(rows, projections)
        >>> add = sx.optim.add_penalty_gradient(1.0, compressive, key=jax.random.key(0))
        >>> tx = optax.chain(add, optax.adam(1e-3))

    References:
        Karras et al., `Analyzing and Improving the Image Quality of StyleGAN
        <https://arxiv.org/abs/1912.04958>`_, CVPR 2020 (lazy regularization).
    """
    find = partial(find_neurons, neurons=neurons, allow_empty=allow_empty)
    return add_gradient(
        penalty, weight, find, reduce=reduce, every=every, key=key, mask=mask
    )
