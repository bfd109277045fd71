"""Meshes of devices: which one is meant, and how arrays lie on it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

Mesh = jax.sharding.Mesh | jax.sharding.AbstractMesh
Axes = str | tuple[str, ...]


def as_mesh(mesh: Mesh | None, array: jax.Array, name: str, inside: str) -> Mesh:
    """The mesh given, or that of the context, or else that of the array.

    Args:
        mesh: A mesh or None.
        array: The array that is split over the devices of the mesh.
        name: Its name, for the message.
        inside: What to use inside of ``shard_map``, for the message.
    """
    context = jax.sharding.get_abstract_mesh()
    if context.manual_axes:
        raise ValueError(
            "functions of sphax.sharding are for arrays outside of shard_map; inside of"
            f" it, use {inside}."
        )
    if mesh is not None:
        return mesh
    if not context.empty:
        return context
    # The type has the mesh of explicit axes, a concrete array that of others as well.
    found = jax.typeof(array).sharding.mesh
    if found.empty and not isinstance(array, Tracer):
        found = getattr(array.sharding, "mesh", found)
    if found.empty:
        raise ValueError(
            "there is no mesh: give mesh=jax.make_mesh(...), call within"
            f" jax.set_mesh(mesh), or place {name} on one."
        )
    return found


def as_axes(name: str, axes: Any, mesh: Mesh) -> tuple[str, ...]:
    """Axes of the mesh as a tuple; raises unless there is one or more."""
    axes = (axes,) if isinstance(axes, str) else axes
    if not isinstance(axes, tuple) or not all(isinstance(axis, str) for axis in axes):
        raise TypeError(
            f"{name} must be the name of a mesh axis or a tuple of names, got {axes!r}."
        )
    unknown = [axis for axis in axes if axis not in mesh.axis_names]
    if unknown or not axes or len(set(axes)) < len(axes):
        raise ValueError(
            f"{name} must name axes of the mesh, {mesh.axis_names}, each once, got"
            f" {axes}."
        )
    return axes


def devices_along(mesh: Mesh, axes: tuple[str, ...]) -> int:
    """The number of devices along axes of the mesh."""
    return math.prod(mesh.shape[axis] for axis in axes)


def moved(x: jax.typing.ArrayLike, spec: P, mesh: Mesh) -> jax.Array:
    """``x`` sharded by ``spec`` along explicit axes; `shard_map` moves the others."""
    x = jnp.asarray(x)
    if AxisType.Explicit not in mesh.axis_types:
        return x
    return jax.sharding.reshard(x, NamedSharding(mesh, explicit_part(spec, mesh)))


def divisible(x: jax.Array, axis: int, mesh: Mesh, axes: tuple[str, ...]) -> jax.Array:
    """``x`` with zeros at the end of an axis if the devices do not divide it."""
    missing = -x.shape[axis] % devices_along(mesh, axes)
    if not missing:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, missing)
    return jnp.pad(moved(x, P(), mesh), widths)


def explicit_part(spec: P, mesh: Mesh) -> P:
    """A sharding without the axes of the mesh that are not explicit."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))

    def explicit(axes):
        axes = (axes,) if isinstance(axes, str) else axes or ()
        return tuple(axis for axis in axes if kinds[axis] == AxisType.Explicit)

    return P(*(explicit(axes) or None for axes in spec))
