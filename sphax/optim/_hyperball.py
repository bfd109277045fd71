"""Steps of any optimizer at a fixed angle, on matrices of constant norm (Hyperball)."""

from functools import partial
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_choice, check_range
from sphax._numerics import widen
from sphax.neurons import Neurons
from sphax.optim._neurons import (
    Mask,
    Per,
    as_rows,
    as_update,
    as_vectors,
    check_not_zero,
)
from sphax.optim._sphere import at_lengths
from sphax.optim._whole import whole_optimizer
from sphax.sphere import direction, length


class NormState(NamedTuple):
    """State of :func:`project_to_norm`.

    Attributes:
        count: Number of steps taken.
        norms: Norms at ``init`` of each leaf found, by path, in float32 at least:
            ``[sets, 1, 1]`` of matrices, ``[sets, n, 1]`` of neurons.
        others: Empty: all other updates stay as they are.

    Example:
        >>> params = {"kernel": jnp.ones((3, 3))}
        >>> sx.optim.project_to_norm(0.01).init(params).norms
        {'kernel': Array([[[3.]]], dtype=float32)}
    """

    count: jax.Array
    norms: dict[str, jax.Array]
    others: optax.OptState


def project_to_norm(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    norm: jax.typing.ArrayLike | None = None,
    per: Per = "matrix",
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps every matrix at its initial norm, and makes all steps equally long.

    .. math::
        W \leftarrow R\, N\big(W + \eta R\, N(u)\big), \qquad
        N(x) = \frac{x}{\|x\|_F}, \qquad R = \|W_0\|_F

    for the update :math:`u` of an optimizer before it in a chain (Hyperball; AdamH
    after Adam, MuonH after Muon):
    ``chain(adam(1.0), project_to_norm(0.01))``. Only the direction of :math:`u` counts:
    the learning rate of that optimizer has no effect, :math:`\eta` takes its place, and
    is the tangent of the angle of the step if :math:`u` is orthogonal to :math:`W`;
    values of 1e-3 to 2e-2 are typical. It must be the last transform of the chain: the
    update that it returns is the difference to the new matrix. Weight decay before it
    acts along :math:`W`, and only makes the angle smaller.

    Args:
        learning_rate: :math:`\eta`, not negative, a scalar or a schedule: a function of
            the step. None to take :math:`u` as it comes,
            :math:`W \leftarrow R\, N(W + u)`.
        norm: :math:`R`, positive, a scalar; None for the norm of each matrix at
            ``init``.
        per: ``"matrix"``, or ``"neuron"`` to treat each neuron, a row of :math:`W`,
            with its own norm and its own step: all neurons of a leaf then turn by the
            same angle if steps are tangent.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Each index of their
            batch axes is a matrix of its own, such as a head of attention. Embeddings
            are not found unless declared.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`; give one to leave out the head of a
            network.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform, with a :class:`NormState`; ``update`` needs ``params``. Updates
        keep their dtype; the computation is in float32 at least, and norms are right to
        the rounding of the params after any number of steps: keep these in float32,
        since in bfloat16 that is 4e-3. A zero update only projects; a matrix that a
        step moves to the origin keeps its old value. With ``norm=None``, the update of
        a matrix that was zero in an ``init`` under ``jit`` is NaN. In
        :func:`optax.inject_hyperparams`, ``per`` and callables ``neurons`` and ``mask``
        belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``learning_rate`` or ``norm``, given as a number, is out of
            range, or ``per`` is unknown; from ``init``, if there are no neurons or
            declared axes do not fit, or if a norm to keep is zero, as those of the
            second factors of LoRA are; from ``update``, without ``params``.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.array([[2.0], [0.0]])}
        >>> tx = optax.chain(optax.sgd(1.0), sx.optim.project_to_norm(0.75))
        >>> grads = {"kernel": jnp.array([[0.0], [-100.0]])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> optax.apply_updates(params, updates)
        {'kernel': Array([[1.6], [1.2]], dtype=float32)}

    References:
        Wen et al., `Fantastic Pretraining Optimizers and Where to Find Them II:
        Hyperball Optimization <https://arxiv.org/abs/2606.16899>`_, 2026.
    """
    check_choice("per", per, get_args(Per))
    if norm is not None:
        check_range("norm", norm, 0.0, exclude_low=True)
    return whole_optimizer(
        NormState,
        _start,
        _step,
        learning_rate=1.0 if learning_rate is None else learning_rate,
        options=(per, learning_rate is None, norm is None),
        hyperparams=(() if norm is None else (norm,)),
        check=partial(check_not_zero, per=per) if norm is None else None,
        others=optax.identity(),
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def _start(fixed, leaf):
    """The norms of a leaf; NaN for a zero that would have to be kept."""
    axes, per, _, is_initial = fixed
    norms = length(as_vectors(axes.rows(widen(leaf)), per))[..., None]
    return (jnp.where(is_initial & (norms == 0.0), jnp.nan, norms),)


def _step(fixed, entry, rate, count, hyperparams):
    """The update of a leaf, and its norms."""
    del count
    (axes, per, is_plain, is_initial), (update, leaf, norms) = fixed, entry
    steps, points = (as_vectors(rows, per) for rows in as_rows(axes, update, leaf))
    kept = jnp.asarray(norms if is_initial else hyperparams[0], points.dtype)
    if not is_plain:
        steps = jnp.asarray(rate, points.dtype) * kept * direction(steps)
    change = at_lengths(points, steps, kept) - points
    return as_update(axes, change, update), norms
