"""SGD and Adam on spheres and on orthonormal frames."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from sphax import orthogonal, sphere
from sphax._checks import check_choice, check_number
from sphax._numerics import widen
from sphax.neurons import Neurons
from sphax.optim._neurons import Mask, as_rows, as_update
from sphax.optim._sphere import at_lengths
from sphax.optim._whole import whole_optimizer
from sphax.sphere import length

Manifold = Literal["sphere", "orthogonal"]


class RiemannianState(NamedTuple):
    """State of :func:`riemannian_sgd` and :func:`riemannian_adam`.

    Attributes:
        count: Number of steps taken.
        mu: First moment of each leaf found, by path, tangent at the params, in the
            shape of the leaf and float32 at least.
        nu: Second moments of each leaf, ``[batch, n, 1]`` on the sphere and
            ``[batch, 1, 1]`` on frames, which SGD does not use.
        lengths: The length that each neuron keeps, ``[batch, n, 1]``.
        others: State of the optimizer of all other leaves.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2))}
        >>> state = sx.optim.riemannian_adam(0.1).init(params)
        >>> state.mu["kernel"].shape, state.nu["kernel"].shape
        ((3, 2), (1, 2, 1))
    """

    count: jax.Array
    mu: dict[str, jax.Array]
    nu: dict[str, jax.Array]
    lengths: dict[str, jax.Array]
    others: optax.OptState


def riemannian_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: jax.typing.ArrayLike = 0.0,
    manifold: Manifold = "sphere",
    others: optax.GradientTransformation | None = None,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum that moves neurons over a manifold.

    .. math::
        m \leftarrow \mu\, m + \operatorname{grad}, \qquad
        w' = \operatorname{retract}_w(-\eta\, m), \qquad
        m \leftarrow \operatorname{transport}_{w \to w'}(m)

    with the tangent part of the gradient. On the ``"sphere"`` every neuron keeps its
    length: retraction by normalization, parallel transport. On ``"orthogonal"``, the
    neurons of a leaf, no more than their dimensions, stay orthonormal to each other:
    polar retraction, transport by projection.

    It is a whole optimizer of all params: leaves without neurons, such as biases, are
    updated by another optimizer, ``others``. Updates are differences to the new params:
    put nothing behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        momentum: :math:`\mu`, in ``[0, 1)``.
        manifold: ``"sphere"`` or ``"orthogonal"``.
        others: Optimizer of all other leaves; by default :func:`optax.sgd` with the
            same learning rate and momentum.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to move over the manifold, a pytree of booleans or a callable that
            makes it of params, as in :func:`optax.masked`; the rest go to ``others``.
        allow_empty: Whether there may be no neurons at all, as in a group of
            :func:`optax.partition` that has biases only.

    Returns:
        The transform, with a :class:`RiemannianState`; ``update`` needs ``params``.
        Updates keep their dtype; the computation is in float32 at least. Lengths are
        those at ``init``, to the rounding of the params, after any number of steps; a
        neuron that is given another length between steps keeps the new one. A zero
        neuron has no direction, and stays zero. In :func:`optax.inject_hyperparams`,
        ``manifold`` and callables ``neurons`` and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``manifold`` is unknown or ``learning_rate``, given as a number,
            negative; from ``init``, if there are no neurons or declared axes do not
            fit; from ``update``, without ``params``, or for more neurons than
            dimensions on ``"orthogonal"``.

    Example:
        >>> import optax
        >>> params, tx = {"kernel": jnp.eye(2, 1)}, sx.optim.riemannian_sgd(0.75)
        >>> grads = {"kernel": jnp.array([[5.0], [1.0]])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> float(optax.apply_updates(params, updates)["kernel"][1, 0])
        -0.6

    References:
        Bonnabel, `Stochastic Gradient Descent on Riemannian Manifolds
        <https://arxiv.org/abs/1111.5280>`_, 2013.
    """
    check_number("momentum", momentum)
    if others is None:
        has_momentum = not isinstance(momentum, (int, float)) or momentum != 0
        others = optax.sgd(learning_rate, momentum if has_momentum else None)
    check_choice("manifold", manifold, get_args(Manifold))
    return whole_optimizer(
        RiemannianState,
        _start,
        _step,
        learning_rate=learning_rate,
        options=(_sgd, manifold),
        hyperparams=(momentum,),
        others=others,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def riemannian_adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    manifold: Manifold = "sphere",
    others: optax.GradientTransformation | None = None,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam that moves neurons over a manifold.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) \operatorname{grad}, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2) |\operatorname{grad}|^2, \qquad
        w' = \operatorname{retract}_w\Big(-\eta\, \frac{m / (1 - \beta_1^t)}
        {\sqrt{v / (1 - \beta_2^t)} + \epsilon}\Big)

    and :math:`m` is transported to :math:`w'`. The second moment is one number for each
    factor of the manifold, since coordinates have no meaning on it: for each neuron on
    the ``"sphere"``, for each set of neurons on ``"orthogonal"``. The length of a step
    is about :math:`\eta`: radians, for unit neurons. Manifolds, retraction and
    transport are the same as in :func:`riemannian_sgd`.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        b1: :math:`\beta_1`, decay of the first moment.
        b2: :math:`\beta_2`, decay of the second moment.
        eps: :math:`\epsilon`, added to the square root.
        manifold: ``"sphere"`` or ``"orthogonal"``.
        others: Optimizer of all other leaves; by default :func:`optax.adam` with the
            same learning rate, ``b1``, ``b2`` and ``eps``.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to move over the manifold, a pytree of booleans or a callable that
            makes it of params, as in :func:`optax.masked`; the rest go to ``others``.
        allow_empty: Whether there may be no neurons at all.

    Returns:
        The transform, with a :class:`RiemannianState`; see :func:`riemannian_sgd`. With
        params in bfloat16, give :func:`optax.inject_hyperparams` a ``hyperparam_dtype``
        of float32: ``b2`` would be rounded to 1.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: In the same cases as :func:`riemannian_sgd`.

    Example:
        >>> import optax
        >>> params, tx = {"kernel": jnp.eye(2, 1)}, sx.optim.riemannian_adam(0.75)
        >>> grads = {"kernel": jnp.array([[5.0], [100.0]])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> float(optax.apply_updates(params, updates)["kernel"][1, 0])
        -0.6

    References:
        Bécigneul, Ganea, `Riemannian Adaptive Optimization Methods
        <https://arxiv.org/abs/1810.00760>`_, ICLR 2019.
    """
    for name, value in {"b1": b1, "b2": b2, "eps": eps}.items():
        check_number(name, value)
    if others is None:
        others = optax.adam(learning_rate, b1, b2, eps)
    check_choice("manifold", manifold, get_args(Manifold))
    return whole_optimizer(
        RiemannianState,
        _start,
        _step,
        learning_rate=learning_rate,
        options=(_adam, manifold),
        hyperparams=(b1, b2, eps),
        others=others,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def _sgd(hyperparams, gradient, mu, nu, count, manifold):
    """The direction of the step before its sign, and the new moments."""
    (momentum,) = hyperparams
    del count, manifold
    mu = jnp.asarray(momentum, mu.dtype) * mu + gradient
    return mu, mu, nu


def _adam(hyperparams, gradient, mu, nu, count, manifold):
    b1, b2, eps = (jnp.asarray(x, mu.dtype) for x in hyperparams)
    mu = b1 * mu + (1.0 - b1) * gradient
    nu = b2 * nu + (1.0 - b2) * _squared_lengths(gradient, manifold)
    steps = count.astype(mu.dtype)
    root = jnp.sqrt(nu / (1.0 - b2**steps)) + eps
    return mu / (1.0 - b1**steps) / root, mu, nu


def _squared_lengths(rows, manifold):
    """For each factor of the manifold: for a neuron, or for a set of neurons."""
    axes = (-1,) if manifold == "sphere" else (-2, -1)
    return jnp.sum(jnp.square(rows), axis=axes, keepdims=True)


def _start(fixed, leaf):
    """The moments of a leaf, zero, and the lengths of its neurons."""
    (axes, _, manifold), wide = fixed, widen(leaf)
    rows = axes.rows(wide)
    nu = jnp.zeros_like(_squared_lengths(rows, manifold))
    return jnp.zeros_like(wide), nu, length(rows)[..., None]


def _step(fixed, entry, rate, count, hyperparams):
    """The update of a leaf, its moments, and the lengths of its neurons."""
    (axes, rule, manifold), (gradient, leaf, mu, nu, lengths) = fixed, entry
    slopes, points = as_rows(axes, gradient, leaf)
    slopes = _project(manifold, points, slopes)
    momentum = axes.rows(mu).astype(slopes.dtype)
    ahead, momentum, nu = rule(hyperparams, slopes, momentum, nu, count, manifold)
    step = -jnp.asarray(rate, ahead.dtype) * ahead
    if manifold == "sphere":
        lengths = _lengths_to_keep(lengths, points, leaf.dtype)
        new_points = at_lengths(points, step, lengths)
        momentum = sphere.parallel_transport(points, new_points, momentum)
    else:
        new_points = orthogonal.polar_retraction(points.mT, step.mT).mT
        momentum = _project(manifold, new_points, momentum)
    return (
        as_update(axes, new_points - points, gradient),
        as_update(axes, momentum, mu),
        nu.astype(lengths.dtype),
        lengths,
    )


def _project(manifold, points, vectors):
    if manifold == "sphere":
        return sphere.project_to_tangent(points, vectors)
    return orthogonal.project_to_tangent(points.mT, vectors.mT).mT


def _lengths_to_keep(at_init, points, dtype):
    """The lengths that neurons had at first, unless they were given others since.

    A difference within the rounding of params counts as none: lengths measured in every
    step would drift.
    """
    now = length(points)[..., None].astype(at_init.dtype)
    rounding = 2.0 * float(jnp.finfo(dtype).eps) * at_init
    return jnp.where(jnp.abs(now - at_init) <= rounding, at_init, now)
