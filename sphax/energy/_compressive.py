"""Compressive energy: the energy of points projected to few dimensions."""

from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import as_points, check_choice
from sphax._compiled import compiled
from sphax._masking import as_weights, zero_masked
from sphax._numerics import widen
from sphax.energy._hyperspherical import Distance, as_options, energy_within
from sphax.energy._projections import as_projection, project
from sphax.sphere import direction

Reduce = Literal["mean", "max"]


def compressive_energy(
    points: jax.typing.ArrayLike,
    projection: jax.typing.ArrayLike,
    *,
    reduce: Reduce = "mean",
    power: jax.typing.ArrayLike = 2.0,
    distance: Distance = "euclidean",
    half_space: bool = True,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> jax.Array:
    r"""Hyperspherical energy of projected points (CoMHE).

    .. math::
        \frac1C \sum_c E_s(P_c W) \qquad\text{or}\qquad \max_c E_s(P_c W)

    of the points :math:`W` and :math:`C` projections :math:`P_c` to few dimensions,
    where energies differ more and their sums cost less. The projections define the
    variant: :func:`random_projections`, :func:`angle_preserving_projection`,
    :func:`adversarial_projection` or :func:`group_projections`. Coordinates that all
    projections drop have no gradient. The authors' code has the mean over random
    projections and one learned projection; there are no published constants for the
    maximum and the groups.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        projection: Floating, ``[..., count, p, d]``, its leading axes those of
            ``points`` or none, and differentiable; or the numbers of the selected
            coordinates, integer, ``[count, p]``, in ``[0, d)``: any other number makes
            the energy NaN.
        reduce: ``"mean"`` over the projections, or ``"max"``.
        power: :math:`s`, like the options below the same as in
            :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a point stands for its mirror image as well, as it does in
            the authors' code but for the last layer.
        where: Boolean mask or weights of the points, ``[..., n]``.
        block_size: Side of a tile of pairs.

    Returns:
        The energy, ``[...]``, in float32 at least, finite as is
        :func:`hyperspherical_energy`; 0, with zero gradient, when no pair is left. A
        point whose image is zero is at a right angle to all there, with zero gradient.
        ``"max"`` has a kink where projections have equal energies, which share its
        gradient.

    Raises:
        TypeError: If ``points`` is not floating, or ``projection`` neither floating nor
            integer.
        ValueError: If shapes do not fit, ``reduce`` or ``distance`` is unknown, or by
            :func:`hyperspherical_energy`.

    Example:
        >>> points = jax.random.normal(jax.random.key(0), (64, 576))
        >>> projection = sx.energy.random_projections(jax.random.key(1), 576)
        >>> sx.energy.compressive_energy(points, projection)  # in 40 dimensions
        Array(0.514, dtype=float32)

    References:
        Lin et al., `Regularizing Neural Networks via Minimizing Hyperspherical Energy
        <https://arxiv.org/abs/1906.04892>`_, CVPR 2020.
    """
    check_choice("reduce", reduce, ("mean", "max"))
    options, array_power = as_options(power, distance, half_space, block_size)
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    projection = as_projection(projection, points)
    return _compressive_energy(
        options, array_power, points, where, projection, reduce=reduce
    )


@compiled("options", "reduce")
def _compressive_energy(options, power, points, where, projection, *, reduce):
    # Lengths do not count: no image is too long or too short for its square.
    points = direction(widen(zero_masked(points, where)))
    images = project(points, projection)
    if where is not None:
        where = jnp.broadcast_to(where[..., None, :], images.shape[:-1])
    energies = energy_within(options, power, images, where)
    return jnp.mean(energies, -1) if reduce == "mean" else jnp.max(energies, -1)
