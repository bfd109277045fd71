"""Transforms of updates by the length and the direction of each neuron."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax import sphere
from sphax._checks import check_number
from sphax._compiled import map_alike
from sphax.neurons import Neurons, replace, select
from sphax.optim._neurons import (
    Mask,
    as_rows,
    as_update,
    check_period,
    find_neurons,
    transform,
)
from sphax.sphere import direction, length


class NeuronsState(NamedTuple):
    """State of a transform of the updates of each neuron.

    Attributes:
        count: Number of steps taken.

    Example:
        >>> params = {"conv": {"kernel": jnp.ones((3, 3, 8, 16)), "bias": jnp.ones(16)}}
        >>> sx.optim.project_gradients_to_tangent().init(params)
        NeuronsState(count=Array(0, dtype=int32))
    """

    count: jax.Array


def project_gradients_to_tangent(
    *, neurons: Neurons = None, mask: Mask | None = None, allow_empty: bool = False
) -> optax.GradientTransformationExtraArgs:
    r"""Removes the part of every update that changes the length of its neuron.

    :math:`u \leftarrow (I - \hat w \hat w^\top) u`. First in a chain, it projects the
    gradient; the gradient of a function of directions is tangent already. Last in a
    chain, it makes the step tangent, which adaptive optimizers, momentum and weight
    decay do not: lengths then grow to second order only,
    :math:`|w + u|^2 = |w|^2 + |u|^2`. AdamP does this for the neurons that it takes to
    be scale-invariant.

    Args:
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform; ``update`` needs ``params``. Updates keep their dtype; the
        computation is in float32 at least. The update of a zero neuron stays the same.

    Raises:
        TypeError: From ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: From ``init``, if there are no neurons or declared axes do not fit;
            from ``update``, without ``params``.

    Example:
        >>> params = {"kernel": jnp.array([[0.0], [2.0]])}
        >>> tx = sx.optim.project_gradients_to_tangent()
        >>> updates = {"kernel": jnp.array([[3.0], [4.0]])}
        >>> tx.update(updates, tx.init(params), params)[0]
        {'kernel': Array([[3.], [0.]], dtype=float32)}

    References:
        Heo et al., `AdamP <https://arxiv.org/abs/2006.08217>`_, ICLR 2021.
    """
    return neuronwise(_project, (), neurons, mask, allow_empty)


def scale_by_neuron_norm(
    power: jax.typing.ArrayLike = 1.0,
    *,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies every update by a power of the length of its neuron.

    :math:`u \leftarrow |w|^p\, u`. The gradient of a function of directions shrinks as
    :math:`1 / |w|` while the neuron grows: power 1 undoes this (the weighted gradients
    of decoupled networks). The angle by which a step rotates the neuron has one more
    factor :math:`1 / |w|`: with power 2 it depends on the direction only, for plain
    gradient descent. Put it before a preconditioner that keeps the scale; Adam removes
    most of it again.

    Args:
        power: :math:`p`, a scalar.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform; ``update`` needs ``params``. Updates keep their dtype; the
        computation is in float32 at least. The update of a zero neuron is zero for
        every power. In
        :func:`optax.inject_hyperparams`, callables ``neurons`` and ``mask`` belong in
        ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: From ``init``, if there are no neurons or declared axes do not fit;
            from ``update``, without ``params``.

    Example:
        >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 0.0]])}
        >>> tx = sx.optim.scale_by_neuron_norm()
        >>> tx.update({"kernel": jnp.ones((2, 2))}, tx.init(params), params)[0]
        {'kernel': Array([[5., 0.], [5., 0.]], dtype=float32)}

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """
    check_number("power", power)
    return neuronwise(_scale, (power,), neurons, mask, allow_empty)


def keep_params_on_sphere(
    radius: jax.typing.ArrayLike = 1.0,
    *,
    every: jax.typing.ArrayLike = 1,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Rewrites updates so that every new neuron has a given length.

    The retraction :math:`w \leftarrow r\, (w + u) / |w + u|`, in every step or in steps
    :math:`k, 2k, \dots` (weight projection; decoupled networks take :math:`k = 100`).
    It must be the last transform of a chain: the update that it returns is the
    difference to the new neuron. A neuron that a step moves to the origin has no
    direction there, and keeps its old value.

    Args:
        radius: Length :math:`r`, positive, a scalar.
        every: Period :math:`k` in steps, 1 or more.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform; ``update`` needs ``params``. Updates keep their dtype; the
        computation is in float32 at least, and lengths are right to the rounding of the
        params. In
        :func:`optax.inject_hyperparams`, callables ``neurons`` and ``mask`` belong in
        ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``radius`` or ``every``, given as a number, is out of range; from
            ``init``, if there are no neurons or declared axes do not fit; from
            ``update``, without ``params``.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.array([[1.0], [0.0]])}
        >>> tx = optax.chain(optax.sgd(1.0), sx.optim.keep_params_on_sphere())
        >>> grads = {"kernel": jnp.array([[0.0], [-0.75]])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> optax.apply_updates(params, updates)
        {'kernel': Array([[0.8], [0.6]], dtype=float32)}

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """
    check_number("radius", radius)
    if isinstance(radius, (int, float)) and not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}.")
    check_period(every)
    return neuronwise(_retract, (radius, every), neurons, mask, allow_empty)


def _project(update, param, step):
    del step
    return sphere.project_to_tangent(param, update)


def _scale(update, param, step, power):
    del step
    lengths = length(param)[..., None]
    is_zero = lengths == 0.0
    exponent = jnp.asarray(power, lengths.dtype)
    factor = jnp.where(is_zero, 1.0, lengths) ** exponent
    return jnp.where(is_zero, 0.0, factor * update)


def _retract(update, param, step, radius, every):
    moved = at_lengths(param, update, jnp.asarray(radius, param.dtype))
    is_due = step % jnp.asarray(every, step.dtype) == 0
    return jnp.where(is_due, moved - param, update)


def at_lengths(
    points: jax.Array, step: jax.Array, lengths: jax.typing.ArrayLike
) -> jax.Array:
    """Points after a step, at given lengths; one that it moves to the origin stays.

    NaN where a length is.
    """
    moved = lengths * direction(points + step)
    is_zero = jnp.all(moved == 0.0, axis=-1, keepdims=True)
    return jnp.where(is_zero, points, moved)


def neuronwise(
    function: Callable[..., jax.Array],
    hyperparams: tuple[jax.typing.ArrayLike, ...],
    neurons: Neurons,
    mask: Mask | None,
    allow_empty: bool,
) -> optax.GradientTransformationExtraArgs:
    """Transform by a function of updates and params, as rows, and of the step."""
    find = partial(find_neurons, neurons=neurons, allow_empty=allow_empty)

    def init(params):
        find(params)  # raises now, not in the first step
        return NeuronsState(jnp.zeros([], jnp.int32))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        count = jnp.asarray(optax.safe_increment(state.count))
        found = find(params)
        leaves, old_updates = select(params, found), select(updates, found)
        entries = {name: (old_updates[name], leaves[name]) for name in found}
        fixed = {name: (function, axes) for name, axes in found.items()}
        new_updates = map_alike(_update_of_leaf, entries, fixed, count, *hyperparams)
        return replace(updates, new_updates), NeuronsState(count)

    return transform(NeuronsState, init, update, mask=mask)


def _update_of_leaf(fixed, entry, step, *hyperparams):
    (function, axes), (update, leaf) = fixed, entry
    rows = function(*as_rows(axes, update, leaf), step, *hyperparams)
    return as_update(axes, rows, update)
