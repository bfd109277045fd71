"""Descent on a regularizer beside an optimizer, which does not see it."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._numerics import widen
from sphax.neurons import Neurons
from sphax.optim._energy import add_energy_gradient
from sphax.optim._layer_weights import Weight
from sphax.optim._neurons import Mask, check_optimizer
from sphax.optim._whole import check_learning_rate


class DecoupledState(NamedTuple):
    """State of an optimizer with descent on a regularizer beside it.

    Attributes:
        optimizer: State of the optimizer.
        descent: State of the regularizer and of its learning rate.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.eye(3)}
        >>> tx = sx.optim.decoupled_energy(optax.adam(1e-3), 1e-3, 1.0, power=2.0)
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> optax.tree.get(state, "values")
        {'kernel': Array(0.5, dtype=float32)}
    """

    optimizer: optax.OptState
    descent: optax.OptState


def decoupled(
    optimizer: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    regularizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    r"""Descends on a regularizer beside an optimizer, which does not see it.

    .. math::
        u \leftarrow u - \eta\, \lambda\, \nabla P(W)

    with the updates :math:`u` of the whole optimizer, as AdamW decouples its decay: no
    preconditioner rescales the gradient, and it enters no momentum. Wrapping the
    optimizer makes it impossible to add the gradient with the wrong sign.

    Args:
        optimizer: The whole optimizer, learning rate included.
        learning_rate: :math:`\eta`, not negative, a scalar or a schedule; as a rule,
            that of the optimizer.
        regularizer: Transform that adds :math:`\lambda \nabla P(W)` to its updates,
            such as :func:`add_energy_gradient` or :func:`add_orthogonality_gradient`.

    Returns:
        The optimizer, with a :class:`DecoupledState`; ``update`` needs ``params``. The
        updates keep their dtype, and are added in float32 at least. In
        :func:`optax.inject_hyperparams`, no argument needs to be in ``static_args``.

    Raises:
        TypeError: If an argument is not an optimizer, or the rate of another kind.
        ValueError: If ``learning_rate``, given as a number, is negative.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.diag(jnp.array([1.0, 2.0]))}
        >>> tx = sx.optim.decoupled(
        ...     optax.adam(1.0), 1.0, sx.optim.add_orthogonality_gradient(0.01)
        ... )
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> tx.update(grads, tx.init(params), params)[0]["kernel"]
        Array([[-0.  , -0.  ],
               [-0.  , -0.24]], dtype=float32)

    References:
        Loshchilov, Hutter, `Decoupled Weight Decay Regularization
        <https://arxiv.org/abs/1711.05101>`_, ICLR 2019.
    """
    check_optimizer("optimizer", optimizer)
    check_optimizer("regularizer", regularizer)
    check_learning_rate(learning_rate)
    optimizer = optax.with_extra_args_support(optimizer)
    descent = optax.with_extra_args_support(
        optax.chain(regularizer, optax.scale_by_learning_rate(learning_rate))
    )

    def init(params):
        return DecoupledState(optimizer.init(params), descent.init(params))

    def update(updates, state, params=None, **extra_args):
        zeros = jax.tree.map(lambda update: jnp.zeros_like(widen(update)), updates)
        updates, optimizer_state = optimizer.update(
            updates, state.optimizer, params, **extra_args
        )
        steps, descent_state = descent.update(
            zeros, state.descent, params, **extra_args
        )
        both = jax.tree.map(
            lambda update, step: (update.astype(step.dtype) + step).astype(
                update.dtype
            ),
            updates,
            steps,
        )
        return both, DecoupledState(optimizer_state, descent_state)

    return optax.GradientTransformationExtraArgs(init, update)


def decoupled_energy(
    optimizer: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    weight: Weight,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Literal["euclidean", "geodesic"] = "euclidean",
    half_space: bool = False,
    block_size: int | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    every: jax.typing.ArrayLike = 1,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Descends on the energy of the neurons beside an optimizer (decoupled MHE).

    .. math::
        u_l \leftarrow u_l - \eta\, \frac{\lambda}{L}\, \nabla E_s(W_l)

    The same as :func:`decoupled` with :func:`add_energy_gradient` as the regularizer.
    The gradient shrinks as :math:`1 / |w|`, so that long neurons rotate slowly, unless
    the regularizer of :func:`decoupled` is a chain with :func:`scale_by_neuron_norm`.

    Args:
        optimizer: The whole optimizer, learning rate included.
        learning_rate: :math:`\eta`, not negative, a scalar or a schedule; as a rule,
            that of the optimizer.
        weight: :math:`\lambda`, like the options below the same as in
            :func:`add_energy_gradient`.
        power: :math:`s`, 0 or more, a scalar.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a neuron stands for its mirror image as well.
        block_size: Side of a tile of pairs.
        reduce: ``"mean"`` or ``"sum"`` over layers.
        every: Period in steps.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat.
        allow_empty: Whether there may be no neurons.

    Returns:
        The optimizer, with a :class:`DecoupledState`; ``update`` needs ``params``. In
        :func:`optax.inject_hyperparams`, ``block_size`` and callables ``neurons`` and
        ``mask`` belong in ``static_args``.

    Raises:
        TypeError: In the same cases as :func:`add_energy_gradient`.
        ValueError: In the same cases as :func:`add_energy_gradient`, or if
            ``learning_rate``, given as a number, is negative.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.eye(3, 2)}
        >>> tx = sx.optim.decoupled_energy(optax.adam(0.1), 0.1, 1.0, power=0.0)
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> tx.update(grads, tx.init(params), params)[0]["kernel"]
        Array([[-0.  , -0.05],
               [-0.05, -0.  ],
               [-0.  , -0.  ]], dtype=float32)
    """
    regularizer = add_energy_gradient(
        weight,
        power=power,
        distance=distance,
        half_space=half_space,
        block_size=block_size,
        reduce=reduce,
        every=every,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )
    return decoupled(optimizer, learning_rate, regularizer)
