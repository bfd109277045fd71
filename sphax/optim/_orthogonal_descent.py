"""Gradient descent on params that are orthogonal matrices."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_choice, check_number
from sphax._linalg import entries, newton_schulz_step, product
from sphax._numerics import widen
from sphax.neurons import NeuronDimensions, Neurons
from sphax.optim._neurons import Mask, as_rows, as_update
from sphax.optim._whole import whole_optimizer
from sphax.orthogonal import cayley, tangent_generator
from sphax.sphere import length

_COLUMNS = NeuronDimensions(index_axis=-1, vector_axis=-2)


class OrthogonalDescentState(NamedTuple):
    """State of :func:`orthogonal_descent`.

    Attributes:
        count: Number of steps taken.
        momentum: Momentum of each matrix found, by path, in the shape of its leaf and
            float32 at least.
        others: State of the optimizer of all other leaves.

    Example:
        >>> state = sx.optim.orthogonal_descent(0.02).init({"rotation": jnp.eye(3)})
        >>> list(state.momentum)
        ['rotation']
    """

    count: jax.Array
    momentum: dict[str, jax.Array]
    others: optax.OptState


def orthogonal_descent(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: jax.typing.ArrayLike = 0.9,
    step: Literal["exact", "released"] = "exact",
    polish: bool = True,
    others: optax.GradientTransformation | None = None,
    neurons: Neurons = _COLUMNS,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Descends on orthogonal matrices by Cayley steps, with momentum (OGD).

    For a matrix :math:`R` with gradient :math:`G` and momentum :math:`M`,

    .. math::
        M \leftarrow \beta M - G, \quad
        \hat W = (I - \tfrac12 R R^\top)\, M R^\top, \quad
        W = \hat W - \hat W^\top, \quad
        M \leftarrow W R, \quad a = \min(\eta, 1 / \|W\|_F)

    .. math::
        R \leftarrow (I - \tfrac a2 W)^{-1} (I + \tfrac a2 W)\, R

    The ``"released"`` form of the authors' code replaces the inverse by two iterations
    of :math:`Y \leftarrow R + \tfrac a2 W (R + Y)`, starting from :math:`R + a M`:
    without polishing, the columns then drift away from orthonormal as steps add up.

    It is a whole optimizer of all params: leaves that it does not find are updated by
    another optimizer, ``others``. Updates are differences to the new matrices: put
    nothing behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        momentum: :math:`\beta`, in ``[0, 1)``.
        step: ``"exact"`` or ``"released"``.
        polish: Whether :func:`sphax.orthogonal.polish` removes the rounding errors of
            every new matrix, so that they cannot add up; the release does not.
        others: Optimizer of all other leaves; by default :func:`optax.sgd` with the
            same learning rate and momentum.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. By default every
            leaf of rank two and more, but biases and scales, is ``[..., m, n]``,
            :math:`m \ge n`, with orthonormal columns.
        mask: Leaves to treat as matrices, a pytree of booleans or a callable that makes
            it of params, as in :func:`optax.masked`; all others go to ``others``.
        allow_empty: Whether there may be no matrices at all, as in a group of
            :func:`optax.partition` that has biases only.

    Returns:
        The transform, with an :class:`OrthogonalDescentState`; ``update`` needs
        ``params``. Updates keep their dtype; the computation is in float32 at least.
        Params in bfloat16 are orthogonal to its rounding only. In
        :func:`optax.inject_hyperparams`, ``step``, ``polish`` and callables ``neurons``
        and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``step`` is unknown or ``learning_rate``, given as a number,
            negative; from ``init``, if there are no matrices or declared axes do not
            fit; from ``update``, without ``params``.

    Example:
        >>> import optax
        >>> params, tx = jnp.eye(2), sx.optim.orthogonal_descent(0.5)
        >>> grad = jnp.array([[0.0, 0.0], [2.0, 0.0]])
        >>> updates, _ = tx.update(grad, tx.init(params), params)
        >>> optax.apply_updates(params, updates)
        Array([[ 0.8824,  0.4706],
               [-0.4706,  0.8824]], dtype=float32)

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021, and the authors' code;
        Li, Fuxin, Todorovic, `Efficient Riemannian Optimization on the Stiefel Manifold
        via the Cayley Transform <https://arxiv.org/abs/2002.01113>`_, ICLR 2020.
    """
    check_choice("step", step, ("exact", "released"))
    check_number("momentum", momentum)
    if others is None:
        others = optax.sgd(learning_rate, momentum)
    return whole_optimizer(
        OrthogonalDescentState,
        _start,
        _descend,
        learning_rate=learning_rate,
        options=(step, polish),
        hyperparams=(momentum,),
        others=others,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def _start(fixed, leaf):
    """The momentum of a leaf before the first step."""
    del fixed
    return (jnp.zeros_like(widen(leaf)),)


def _descend(fixed, entry, rate, count, hyperparams):
    """The update of a leaf, and its new momentum."""
    del count
    (momentum,) = hyperparams
    (axes, step, polish), (gradient, leaf, old_momentum) = fixed, entry
    slopes, frames = (rows.mT for rows in as_rows(axes, gradient, leaf))
    beta = jnp.asarray(momentum, frames.dtype)
    velocity = beta * axes.rows(old_momentum).astype(frames.dtype).mT - slopes
    skew = tangent_generator(frames, velocity)
    velocity = product(skew, frames)
    # The rate, or less where it would rotate by more than about one radian.
    norm = length(entries(skew))[..., None, None]
    size = jnp.asarray(rate, frames.dtype)
    size = jnp.where(size * norm > 1.0, 1.0 / jnp.where(norm > 0.0, norm, 1.0), size)
    half = size * skew / 2.0
    if step == "exact":
        new = product(cayley(half), frames)
    else:
        new = frames + size * velocity
        for _ in range(2):
            new = frames + product(half, frames + new)
    if polish:
        new = newton_schulz_step(new)
    return (
        as_update(axes, (new - frames).mT, gradient),
        as_update(axes, velocity.mT, old_momentum),
    )
