"""SGD and Adam on spheres and on orthonormal frames."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax import orthogonal, sphere
from sphax._checks import check_choice
from sphax._norms import direction, length
from sphax.neurons import Neurons
from sphax.optim._neurons import Mask, find_neurons, transform
from sphax.optim._points import move, zeros_like_points

Manifold = Literal["sphere", "orthogonal"]


class RiemannianState(NamedTuple):
    """State of :func:`riemannian_sgd` and :func:`riemannian_adam`.

    ``count`` is the number of steps taken; ``mu`` has the first moment of each leaf
    found, by path, tangent at the params, ``[batch, n, d]``; ``nu`` the second moments,
    which SGD does not use.

    Example:
        >>> params = {"kernel": jnp.ones((3, 2))}
        >>> sx.optim.riemannian_adam(0.1).init(params).mu["kernel"].shape
        (1, 2, 3)
    """

    count: jax.Array
    mu: dict[str, jax.Array]
    nu: dict[str, jax.Array]


def riemannian_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: jax.typing.ArrayLike = 0.0,
    manifold: Manifold = "sphere",
    neurons: Neurons = None,
    mask: Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum that moves neurons over a manifold.

    .. math::
        m \leftarrow \mu\, m + \operatorname{grad}, \qquad
        w' = \operatorname{retract}_w(-\eta\, m), \qquad
        m \leftarrow \operatorname{transport}_{w \to w'}(m)

    with the gradient's tangent part. On the ``"sphere"`` every neuron keeps the length
    that it has: retraction by normalisation, parallel transport. ``"orthogonal"``: the
    neurons of a leaf, no more than their dimensions, stay orthonormal, together: polar
    retraction, transport by projection. It is a whole optimiser, and updates are
    differences to the new params: put nothing behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        momentum: :math:`\mu`, in ``[0, 1)``.
        manifold: ``"sphere"`` or ``"orthogonal"``.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.

    Returns:
        The transform, with a :class:`RiemannianState`; ``update`` needs ``params``.
        Dtypes are kept, and computed with in float32 at least. A zero neuron has no
        direction, and stays. In :func:`optax.inject_hyperparams`, ``manifold`` and
        callables ``neurons`` and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: From ``init``, if ``neurons`` is not made of `NeuronDimensions`.
        ValueError: If ``manifold`` is unknown; from ``init``, if there are no neurons
            or declared axes do not fit; from ``update``, without ``params``, or for
            more neurons than dimensions on ``"orthogonal"``.

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

    def moments(gradient, mu, nu, count, square):
        del count, square
        mu = jnp.asarray(momentum, dtype=mu.dtype) * mu + gradient
        return mu, mu, nu

    return _riemannian(moments, learning_rate, manifold, neurons, mask)


def riemannian_adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    manifold: Manifold = "sphere",
    neurons: Neurons = None,
    mask: Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam that moves neurons over a manifold.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) \operatorname{grad}, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2) |\operatorname{grad}|^2, \qquad
        w' = \operatorname{retract}_w\Big(-\eta\, \frac{m / (1 - \beta_1^t)}
        {\sqrt{v / (1 - \beta_2^t)} + \epsilon}\Big)

    and :math:`m` is transported to :math:`w'`. The second moment is one number for each
    factor of the manifold, since coordinates have no meaning on it: for each neuron on
    the ``"sphere"``, for each set of neurons on ``"orthogonal"``. A step is about
    :math:`\eta` long: radians, for unit neurons. All else as in :func:`riemannian_sgd`.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step.
        b1: :math:`\beta_1`, decay of the first moment.
        b2: :math:`\beta_2`, decay of the second moment.
        eps: :math:`\epsilon`, beside the root.
        manifold: ``"sphere"`` or ``"orthogonal"``.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.

    Returns:
        The transform, with a :class:`RiemannianState`; see :func:`riemannian_sgd`. With
        params in bfloat16, give :func:`optax.inject_hyperparams` a ``hyperparam_dtype``
        of float32: ``b2`` would be rounded to 1.

    Raises:
        TypeError: From ``init``, if ``neurons`` is not made of `NeuronDimensions`.
        ValueError: As :func:`riemannian_sgd`.

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

    def moments(gradient, mu, nu, count, square):
        dtype = mu.dtype
        one, two = jnp.asarray(b1, dtype=dtype), jnp.asarray(b2, dtype=dtype)
        mu = one * mu + (1.0 - one) * gradient
        nu = two * nu + (1.0 - two) * square(gradient)
        steps = count.astype(dtype)
        root = jnp.sqrt(nu / (1.0 - two**steps)) + jnp.asarray(eps, dtype=dtype)
        return mu / (1.0 - one**steps) / root, mu, nu

    return _riemannian(moments, learning_rate, manifold, neurons, mask)


class _Geometry(NamedTuple):
    """What a manifold of rows ``[batch, n, d]`` is to an optimiser."""

    project: Callable[[jax.Array, jax.Array], jax.Array]  # point, vector
    retract: Callable[[jax.Array, jax.Array], jax.Array]  # point, step
    transport: Callable[
        [jax.Array, jax.Array, jax.Array], jax.Array
    ]  # from, to, vector
    factor: tuple[int, ...]  # axes of one factor of a product of manifolds

    def square(self, vector: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(vector), axis=self.factor, keepdims=True)


def _retract_on_sphere(point, step):
    unit = direction(point + step)
    is_zero = jnp.all(unit == 0.0, axis=-1, keepdims=True)
    return jnp.where(is_zero, point, length(point)[..., None] * unit)


def _project_to_frame(point, vector):
    return orthogonal.project_to_tangent(point.mT, vector.mT).mT


_GEOMETRIES = {
    "sphere": _Geometry(
        sphere.project_to_tangent,
        _retract_on_sphere,
        sphere.parallel_transport,
        (-1,),
    ),
    "orthogonal": _Geometry(
        _project_to_frame,
        lambda point, step: orthogonal.polar_retraction(point.mT, step.mT).mT,
        lambda start, end, vector: _project_to_frame(end, vector),
        (-2, -1),
    ),
}


def _riemannian(moments, learning_rate, manifold, neurons, mask):
    check_choice("manifold", manifold, tuple(_GEOMETRIES))
    geometry = _GEOMETRIES[manifold]

    def init(params):
        found = find_neurons(params, neurons)
        mu = zeros_like_points(params, found)
        nu = jax.tree.map(geometry.square, mu) if isinstance(found, dict) else found
        return RiemannianState(jnp.zeros([], jnp.int32), mu, nu)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        count = jnp.asarray(optax.safe_increment(state.count))

        def advance(gradient, point, mu, nu):
            gradient = geometry.project(point, gradient)
            ahead, mu, nu = moments(gradient, mu, nu, count, geometry.square)
            new = geometry.retract(point, -jnp.asarray(rate, dtype=ahead.dtype) * ahead)
            return new, (geometry.transport(point, new, mu), nu)

        found = find_neurons(params, neurons, at_init=state.mu)
        updates, after = move(advance, updates, params, found, state.mu, state.nu)
        mu, nu = ({name: pair[i] for name, pair in after.items()} for i in (0, 1))
        return updates, RiemannianState(count, mu, nu)

    return transform(init, update, mask)
