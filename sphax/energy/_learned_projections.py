r"""Projections that take gradient steps, of which the last one is differentiated.

A step :math:`P' = P \pm \eta \nabla_P L(P, W)` depends on the points :math:`W`, and so
the gradient of an energy of :math:`P' W` has a second-order term. It is included for
the last step; the steps before are as constant as the start.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, as_points, check_count, is_number
from sphax._compiled import compiled
from sphax._masking import as_weights, zero_masked
from sphax._numerics import widen
from sphax.energy._hyperspherical import (
    Distance,
    as_options,
    energy_within_and_gradient,
)
from sphax.energy._projections import as_projection, project
from sphax.sphere import cosine_similarity, direction, length


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

    with the matrices of the cosines of all pairs. Each of several projections takes its
    steps alone. The result is differentiable in the points through the last step; give
    it to :func:`compressive_energy`, and as the start of the next training step. Start
    with :func:`random_projections` of ``p=30, count=1``.

    The authors' code returns the projection after ``steps`` of them, and differentiates
    one step more, which it discards; its learning rate is that of the network. Its
    decay of :math:`P`, 5e-7, is less than float32 resolves and left out.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        projection: Where to start, floating, ``[..., count, p, d]``, its leading axes
            those of ``points`` or none.
        learning_rate: :math:`\eta`, positive, a scalar.
        steps: 1 or more.
        where: Boolean mask of the points, ``[..., n]``; a weight that is not zero
            counts as true. Masked points are zeroed before anything else: a NaN in them
            reaches nothing.

    Returns:
        The new projection, ``[..., count, p, d]``, dtype of ``projection``, computed in
        float32 at least. It has a gradient in ``points``, none in ``projection``. Where
        all angles are kept already, it stays the same, with zero gradient.

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
def _angle_preserving_projection(points, where, projection, rate, steps):
    def ascent(projection, points, _):
        return -jax.grad(_angular_error)(projection, points)

    return _ascend(ascent, points, where, projection, rate, steps)


def _angular_error(projection, points):
    """Frobenius norm of the change of all cosines, summed over projections."""
    images = project(points, projection)
    if not images.size:
        return jnp.sum(images)
    pairs = jnp.vectorize(
        partial(cosine_similarity, precision="highest"), signature="(n,d),(m,d)->(n,m)"
    )
    errors = pairs(images, images) - pairs(points, points)[..., None, :, :]
    *batch, n, _ = errors.shape
    return jnp.sum(length(errors.reshape(*batch, n * n)))


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

    Points whose energy is low under this projection are well spread in the worst case.
    Each of several projections takes its steps alone. The result is differentiable in
    the points through the last step; give it to :func:`compressive_energy`, and as the
    start of the next training step. Start with :func:`random_projections` of
    ``p=30, count=1``.

    The authors' code returns the projection after ``steps`` of them, and differentiates
    one step more, which it discards; its learning rate is that of the network. Its
    steps raise the energy of full space while the energy of half space is minimized, as
    the defaults here and in :func:`compressive_energy` do. Its decay of :math:`P`,
    5e-7, is less than float32 resolves and left out.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        projection: Where to start, floating, ``[..., count, p, d]``, its leading axes
            those of ``points`` or none.
        learning_rate: :math:`\eta`, positive, a scalar.
        steps: 1 or more.
        power: :math:`s`, like the options below the same as in
            :func:`hyperspherical_energy`.
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
    options, array_power = as_options(power, distance, half_space, None)
    start = _as_start(points, projection, where, learning_rate, steps)
    return _adversarial_projection(options, array_power, *start)


@compiled("options")
def _adversarial_projection(options, power, points, where, projection, rate, steps):
    def ascent(projection, points, where):
        images, pull_back = jax.vjp(lambda p: project(points, p), projection)
        if where is not None:
            where = jnp.broadcast_to(where[..., None, :], images.shape[:-1])
        _, d_images = energy_within_and_gradient(options, power, images, where)
        return pull_back(d_images)[0]

    return _ascend(ascent, points, where, projection, rate, steps)


def _as_start(points, projection, where, learning_rate, steps) -> tuple[Any, ...]:
    """Points, mask, projection, rate and steps as arrays; raises unless they fit."""
    check_count("steps", steps, 1, may_be_traced=True)
    if is_number(learning_rate, "learning_rate") and not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    projection = as_projection(as_floating("projection", projection), points)
    rate, steps = jnp.asarray(learning_rate), jnp.asarray(steps, jnp.int32)
    return points, where, projection, rate, steps


def _ascend(
    ascent: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array],
    points: jax.Array,
    where: jax.Array | None,
    projection: jax.Array,
    rate: jax.Array,
    steps: jax.Array,
) -> jax.Array:
    """The projection after steps along ``ascent(projection, points, where)``."""
    # Lengths do not count: none is too long or too short for second derivatives.
    points = direction(widen(zero_masked(points, where)))
    dtype = projection.dtype
    # Each set of a batch has its own projections, even if they start from the same.
    shape = points.shape[:-2] + projection.shape[-3:]
    start = jnp.broadcast_to(jax.lax.stop_gradient(projection), shape)
    start = start.astype(jnp.promote_types(points.dtype, jnp.float32))
    rate = rate.astype(start.dtype)

    fixed = jax.lax.stop_gradient((points, where))
    start = jax.lax.fori_loop(
        0, steps - 1, lambda _, now: now + rate * ascent(now, *fixed), start
    )
    start = jax.lax.stop_gradient(start)
    return (start + rate * ascent(start, points, where)).astype(dtype)
