r"""Projections that take gradient steps of their own, the last one differentiated.

A step :math:`P' = P \pm \eta \nabla_P L(P, W)` depends on the points :math:`W`, and so
the gradient of an energy of :math:`P' W` has a second-order term. It is kept for the
last step; the steps before are as constant as the start.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_count, is_number
from sphax._compiled import compiled
from sphax._masking import zero_masked
from sphax._numerics import widen
from sphax.energy._hyperspherical import (
    Distance,
    as_form,
    as_set,
    mean_energy_and_gradients,
)
from sphax.energy._projections import as_projection, project
from sphax.energy._sets import as_sets
from sphax.sphere import direction, inner_products, length


def angle_preserving_projection(
    points: jax.typing.ArrayLike,
    projection: jax.typing.ArrayLike,
    *,
    learning_rate: jax.typing.ArrayLike = 0.1,
    steps: int = 1,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""A projection after steps that keep the angles of the points (AP-CoMHE).

    .. math::
        P' = P - \eta\, \nabla_P \| \cos(P W) - \cos(W) \|_F

    with the matrices of the cosines of all pairs. Each projection takes steps of its
    own. What comes out is differentiable in the points through the last step, goes into
    :func:`compressive_energy`, and is the start of the next training step. At first
    take :func:`random_projections` with ``p=30, count=1``.

    The authors' code takes and keeps ``steps`` of them, then one more that it
    differentiates and does not keep; its learning rate is that of the network. Its
    decay of :math:`P`, 5e-7, is less than float32 resolves and left out.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        projection: Where to start, floating, ``[..., count, p, d]``, its leading axes
            those of ``points`` or none.
        learning_rate: :math:`\eta`, positive, a scalar.
        steps: 1 or more.
        where: Boolean mask of the points, ``[..., n]`` (of weights, those that are not
            zero). Those masked are zeroed before anything else: a NaN in them reaches
            nothing.

    Returns:
        The new projection, ``[..., count, p, d]``, dtype of ``projection``, computed in
        float32 at least. It has a gradient in ``points``, none in ``projection``. Where
        all angles are kept already, it stays, with zero gradient.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit, or ``steps`` or ``learning_rate``, given as
            numbers, are out of range.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (8, 32))
        >>> start = sx.energy.random_projections(jax.random.key(1), 32, 4, count=1)
        >>> kept = sx.energy.angle_preserving_projection(x, start, steps=20)
        >>> def error(p):
        ...     cosines = sx.sphere.cosine_similarity
        ...     return jnp.linalg.norm(cosines(x @ p.T, x @ p.T) - cosines(x, x))
        >>> print(error(start[0]), error(kept[0]))
        3.66 2.81

    References:
        Lin et al., `Regularizing Neural Networks via Minimizing Hyperspherical Energy
        <https://arxiv.org/abs/1906.04892>`_, CVPR 2020; constants of the authors' code.
    """
    start = _as_start(points, projection, where, learning_rate, steps)
    return _angle_preserving_projection(*start)


@compiled()
def _angle_preserving_projection(points, weights, projection, rate, steps):
    def slope(projection, points, _):
        return -jax.grad(_angular_error)(projection, points)

    return _ascend(slope, points, weights, projection, rate, steps)


def adversarial_projection(
    points: jax.typing.ArrayLike,
    projection: jax.typing.ArrayLike,
    *,
    learning_rate: jax.typing.ArrayLike = 0.1,
    steps: int = 10,
    power: jax.typing.ArrayLike = 2.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""A projection after steps that raise the energy of the images (Adv-CoMHE).

    .. math::
        P' = P + \eta\, \nabla_P E_s(P W)

    Points that keep a low energy under it keep one where it is hardest. Each projection
    takes steps of its own. What comes out is differentiable in the points through the
    last step, goes into :func:`compressive_energy`, and is the start of the next
    training step. At first take :func:`random_projections` with ``p=30, count=1``.

    The authors' code takes and keeps ``steps`` of them, then one more that it
    differentiates and does not keep; its learning rate is that of the network; and its
    steps raise the energy of full space, where the energy to be minimised is of the
    half space. So do the defaults here and in :func:`compressive_energy`. Its decay of
    :math:`P`, 5e-7, is less than float32 resolves and left out.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        projection: Where to start, floating, ``[..., count, p, d]``, its leading axes
            those of ``points`` or none.
        learning_rate: :math:`\eta`, positive, a scalar.
        steps: 1 or more.
        power: :math:`s`, as all below in :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a point stands for its mirror image as well.
        where: Boolean mask or weights of the points, ``[..., n]``.

    Returns:
        The new projection, ``[..., count, p, d]``, dtype of ``projection``, computed in
        float32 at least. It has a gradient in ``points``, none in ``projection``, and
        is finite where images coincide.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit, ``distance`` is unknown, or ``steps``,
            ``learning_rate`` or ``power``, given as numbers, are out of range.

    Example:
        >>> points = jax.random.normal(jax.random.key(0), (8, 32))
        >>> start = sx.energy.random_projections(jax.random.key(1), 32, 4, count=1)
        >>> worse = sx.energy.adversarial_projection(points, start)
        >>> float(sx.energy.compressive_energy(points, worse)) > float(
        ...     sx.energy.compressive_energy(points, start))
        True

    References:
        Lin et al., `Regularizing Neural Networks via Minimizing Hyperspherical Energy
        <https://arxiv.org/abs/1906.04892>`_, CVPR 2020; constants of the authors' code.
    """
    form, traced = as_form(power, distance, half_space, None)
    start = _as_start(points, projection, where, learning_rate, steps)
    return _adversarial_projection(form, traced, *start)


@compiled("form")
def _adversarial_projection(form, power, points, weights, projection, rate, steps):
    def slope(projection, points, weights):
        images, pull_back = jax.vjp(lambda p: project(points, p), projection)
        weights = jnp.broadcast_to(weights[..., None, :], images.shape[:-1])
        sets = (as_set("points", images, weights),)
        _, (of_images,) = mean_energy_and_gradients(form, power, sets)
        return pull_back(of_images)[0]

    return _ascend(slope, points, weights, projection, rate, steps)


def _as_start(points, projection, where, learning_rate, steps) -> tuple[Any, ...]:
    """Points, weights, projection, rate and steps as arrays; raises unless they fit."""
    check_count("steps", steps, 1, may_be_traced=True)
    if is_number(learning_rate, "learning_rate") and not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    points, weights = as_sets(points, where)
    projection = as_projection(as_floating("projection", projection), points)
    rate, steps = jnp.asarray(learning_rate), jnp.asarray(steps, jnp.int32)
    return points, weights, projection, rate, steps


def _ascend(
    slope: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    points: jax.Array,
    weights: jax.Array,
    projection: jax.Array,
    rate: jax.Array,
    steps: jax.Array,
) -> jax.Array:
    # Lengths do not count: none is too long or too short for second derivatives.
    points = direction(widen(zero_masked(points, weights)))
    dtype = projection.dtype
    # Sets that share a start part from each other.
    shape = points.shape[:-2] + projection.shape[-3:]
    start = jnp.broadcast_to(jax.lax.stop_gradient(projection), shape)
    start = start.astype(jnp.promote_types(points.dtype, jnp.float32))
    rate = rate.astype(start.dtype)

    fixed = jax.lax.stop_gradient((points, weights))
    start = jax.lax.fori_loop(
        0, steps - 1, lambda _, now: now + rate * slope(now, *fixed), start
    )
    start = jax.lax.stop_gradient(start)
    return (start + rate * slope(start, points, weights)).astype(dtype)


def _angular_error(projection, points):
    """Of the cosines of all pairs, the Frobenius norm, summed over projections."""
    images = project(points, projection)
    errors = _cosines(images) - _cosines(points)[..., None, :, :]
    *batch, n, _ = errors.shape
    return jnp.sum(length(errors.reshape(*batch, n * n)))


def _cosines(points):
    def of_set(rows):
        lengths = length(widen(rows))
        return inner_products(rows, rows, lengths, lengths, precision="highest")

    return jnp.vectorize(of_set, signature="(n,d)->(n,n)")(points)
