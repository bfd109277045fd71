"""Gradient descent on orthogonal matrices, the matrices themselves being the params."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_choice, check_number, check_number_or_schedule
from sphax._compiled import map_alike
from sphax._linalg import entries, newton_schulz_step, product
from sphax.neurons import NeuronDimensions, Neurons, select
from sphax.optim._neurons import (
    Mask,
    check_optimizer,
    find_neurons,
    others_of,
    update_all,
)
from sphax.optim._points import as_rows, as_update, zeros_like_leaves
from sphax.orthogonal import cayley, tangent_generator
from sphax.sphere import length

_COLUMNS = NeuronDimensions(index_axis=-1, vector_axis=-2)


class OrthogonalDescentState(NamedTuple):
    """State of :func:`orthogonal_descent`.

    ``count`` is the number of steps taken; ``momentum`` has the momentum of each matrix
    found, by path, in the shape of its leaf and float32 at least; ``others`` is the
    state of the optimizer of all other leaves.

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

    Its ``"released"`` form takes two iterations of
    :math:`Y \leftarrow R + \tfrac a2 W (R + Y)` from :math:`R + a M` in the place of
    the inverse, as the authors' code: without polishing, the columns then drift away
    from orthonormal as steps add up.

    It is a whole optimizer of all params: leaves that it does not find have one of
    their own, ``others``. Updates are differences to the new matrices: put nothing
    behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        momentum: :math:`\beta`, in ``[0, 1)``.
        step: ``"exact"`` or ``"released"``.
        polish: Whether :func:`sphax.orthogonal.polish` takes the rounding errors out of
            every new matrix, so that they cannot add up; the release does not.
        others: Optimizer of all other leaves; by default :func:`optax.sgd` with the
            same learning rate and momentum.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. By default every
            leaf of rank two and more, but biases and scales, is ``[..., m, n]``,
            :math:`m \ge n`, with orthonormal columns.
        mask: Leaves to move so, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`; all others go to ``others``.
        allow_empty: Whether there may be no matrices at all, as in a group of
            :func:`optax.partition` that has biases only.

    Returns:
        The transform, with an :class:`OrthogonalDescentState`; ``update`` needs
        ``params``. Dtypes are kept, and computed with in float32 at least; params in
        bfloat16 are orthogonal to its rounding only. In
        :func:`optax.inject_hyperparams`, ``step``, ``polish`` and callables ``neurons``
        and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of `NeuronDimensions`.
        ValueError: If ``step`` is unknown; from ``init``, if there are no matrices or
            declared axes do not fit; from ``update``, without ``params``.

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

    check_number_or_schedule("learning_rate", learning_rate)
    check_number("momentum", momentum)
    if others is None:
        others = optax.sgd(learning_rate, momentum)
    check_optimizer("others", others)
    find = partial(find_neurons, neurons=neurons, mask=mask, allow_empty=allow_empty)

    def init(params):
        found = find(params)
        return OrthogonalDescentState(
            jnp.zeros([], jnp.int32),
            zeros_like_leaves(params, found),
            others.init(others_of(params, found)),
        )

    def update(updates, state, params=None, **extra_args):
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        found = find(params, at_init=state.momentum)
        slopes, olds = select(updates, found), select(params, found)
        entries = {
            name: (slopes[name], olds[name], state.momentum[name]) for name in found
        }
        fixed = {name: (axes, step, polish) for name, axes in found.items()}
        after = map_alike(_descend, entries, fixed, rate, momentum)
        moves = {name: own[0] for name, own in after.items()}
        moments = {name: own[1] for name, own in after.items()}
        updates, of_others = update_all(
            updates, params, moves, others, state.others, **extra_args
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, OrthogonalDescentState(count, moments, of_others)

    return optax.GradientTransformationExtraArgs(init, update)


def _descend(fixed, entry, rate, momentum):
    """The update of a leaf, and its momentum."""
    (axes, step, polish), (slope, old, moment) = fixed, entry
    gradient, point = as_rows(axes, slope, old)
    frame, beta = point.mT, jnp.asarray(momentum, point.dtype)
    inertia = axes.rows(moment).astype(point.dtype).mT
    skew = tangent_generator(frame, beta * inertia - gradient.mT)
    velocity = product(skew, frame)
    size = _step_size(jnp.asarray(rate, point.dtype), skew)
    advance = _cayley_step if step == "exact" else _fixed_point_step
    new = advance(frame, velocity, size * skew / 2.0, size)
    new = newton_schulz_step(new) if polish else new
    return (
        as_update(axes, new.mT - point, slope),
        as_update(axes, velocity.mT, moment),
    )


def _step_size(rate, skew):
    """The rate, or less where it would turn by more than about one radian."""
    norm = length(entries(skew))[..., None, None]
    return jnp.where(rate * norm > 1.0, 1.0 / jnp.where(norm > 0.0, norm, 1.0), rate)


def _cayley_step(frame, velocity, half, size):
    del velocity, size
    return product(cayley(half), frame)


def _fixed_point_step(frame, velocity, half, size):
    new = frame + size * velocity
    for _ in range(2):
        new = frame + product(half, frame + new)
    return new
