"""The energy of points that are split over the devices of a mesh."""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from sphax import energy
from sphax._checks import as_points
from sphax._masking import as_weights
from sphax.sharding._meshes import (
    Axes,
    Mesh,
    as_axes,
    as_mesh,
    devices_along,
    divisible,
    moved,
)


def hyperspherical_energy(
    points: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    row_axis: Axes,
    power: jax.typing.ArrayLike = 1.0,
    distance: Literal["euclidean", "geodesic"] = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> jax.Array:
    r"""Mean Riesz energy of points that are split over the devices of a mesh (MHE).

    The value is that of :func:`sphax.energy.hyperspherical_energy`, such as of all
    prototypes of a head with more classes than one device holds. No device has all
    points, nor an array of all pairs: blocks of points pass from device to device in a
    ring, as described there for ``row_axis``, and each computes the pairs of its own
    block with the one that visits.

    With :math:`n` points of :math:`d` entries on :math:`p` devices, a device computes
    :math:`n^2 / 2p` energies and sends :math:`2 n (d + 1)` bytes, and for the gradient
    :math:`2 n (d + 1) (1 + 2 / p)` more.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count. If the devices do
            not divide the points, zeros are appended in each call; keep padded points
            and mask them by ``where`` to avoid the copy.
        mesh: The mesh; by default that of the context (:func:`jax.set_mesh`), or else
            that of the points. Its other axes are left alone.
        row_axis: Axis of the mesh along which the points are split, or a tuple.
        power: :math:`s`, like the options below the same as in
            :func:`sphax.energy.hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a point stands for its mirror image as well.
        where: Boolean mask or weights of the points, ``[..., n]``.
        block_size: Side of a tile of pairs.

    Returns:
        The energy, ``[...]``, float32 at least, equal on all devices. Its gradient is
        sharded as ``points`` are.

    Raises:
        TypeError: In the same cases as :func:`sphax.energy.hyperspherical_energy`.
        ValueError: In the same cases, inside of ``shard_map``, if there is no mesh, or
            an axis is not one of it.

    Example:
        >>> mesh = jax.make_mesh((1,), ("rows",))
        >>> sx.sharding.hyperspherical_energy(
        ...     jnp.eye(3), mesh=mesh, row_axis="rows", power=2.0)
        Array(0.5, dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018.
    """
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    mesh = as_mesh(
        mesh, points, "points", "sphax.energy.hyperspherical_energy with row_axis"
    )
    axes = as_axes("row_axis", row_axis, mesh)
    fixed: dict[str, Any] = dict(
        distance=distance, half_space=half_space, block_size=block_size, row_axis=axes
    )
    if isinstance(power, (int, float)):
        # Some numbers have cheaper forms, and all have a range.
        fixed["power"] = power
    array_power = None if "power" in fixed else power
    return _on_mesh(points, where, array_power, mesh=mesh, fixed=tuple(fixed.items()))


@partial(jax.jit, static_argnames=("mesh", "fixed"))
def _on_mesh(points, where, power, *, mesh, fixed):
    options = dict(fixed)
    axes = options["row_axis"]
    if points.shape[-2] % devices_along(mesh, axes):
        if where is None:
            where = jnp.ones(points.shape[:-1], bool)
        points = divisible(points, -2, mesh, axes)
        where = divisible(where, -1, mesh, axes)
    rows = P(*(None,) * (points.ndim - 2), axes)
    arrays = {"points": points, "where": where, "power": power}
    arrays = {name: x for name, x in arrays.items() if x is not None}
    specs = {name: P() if name == "power" else rows for name in arrays}
    arrays = {name: moved(x, specs[name], mesh) for name, x in arrays.items()}
    return jax.shard_map(
        lambda arrays: energy.hyperspherical_energy(**arrays, **options),
        mesh=mesh,
        in_specs=(specs,),
        out_specs=P(),
    )(arrays)
