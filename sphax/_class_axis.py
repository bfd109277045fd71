"""Classes that are split over the devices of a mesh, a row of an array for each class.

Inside :func:`jax.shard_map`, every device has some of the rows, as many as all others
and a contiguous range: class ``j`` lies on device ``j // rows``. Everything else, such
as embeddings and labels, is equal along the axis of the classes. Without an axis, the
functions below change nothing.
"""

import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_count

ClassAxis = str | tuple[str, ...] | None
Tree = TypeVar("Tree")


class Classes(NamedTuple):
    """How many classes there are and where they lie, fixed when a loss is traced."""

    number: int  # of classes that exist, on all devices together
    rows: int  # of this device
    axes: tuple[str, ...]  # of the mesh, major to minor; () if this device has all
    is_padded: bool  # whether rows at the end stand for no class

    def start(self) -> jax.typing.ArrayLike:
        """The class of this device's first row."""
        return self.rows * jax.lax.axis_index(self.axes) if self.axes else np.int32(0)

    def max(self, tree: Tree) -> Tree:
        """The largest of all devices, elementwise and without gradient."""
        tree = jax.lax.stop_gradient(tree)
        return jax.lax.pmax(tree, self.axes) if self.axes else tree

    def sum(self, tree: Tree) -> Tree:
        """The sum over all devices, elementwise."""
        return jax.lax.psum(tree, self.axes) if self.axes else tree

    def take(self, array: jax.Array, labels: jax.Array) -> jax.Array:
        """Rows ``array[labels]``; zeros on a device that does not hold the class."""
        if not self.axes:
            return array[labels]
        places = jnp.clip(labels - self.start(), 0, self.rows - 1)
        is_here = self._is_here(labels).reshape(labels.shape + (1,) * (array.ndim - 1))
        return jnp.where(is_here, array[places], 0)

    def from_owners(self, tree: Tree, labels: jax.Array) -> Tree:
        """Values ``[...]`` of the devices that hold the classes ``labels``, on all."""
        if not self.axes:
            return tree
        is_here = self._is_here(labels)
        return self.sum(jax.tree.map(lambda x: jnp.where(is_here, x, 0), tree))

    def _is_here(self, labels: jax.Array) -> jax.Array:
        places = labels - self.start()
        return (places >= 0) & (places < self.rows)


def as_class_axis(
    class_axis: ClassAxis, num_classes: int | None, rows: int, of: str = "prototypes"
) -> Classes:
    """Checked; raises unless the axes are manual, and so many classes have rows.

    Args:
        class_axis: An axis of the mesh or several, inside ``shard_map``; or None.
        num_classes: How many classes exist; None for one in each row.
        rows: Number of rows of this device.
        of: Name of the array that has the rows.
    """
    axes = (class_axis,) if isinstance(class_axis, str) else class_axis
    if axes is None:
        axes, devices = (), 1
    else:
        devices = devices_along(axes)
    total = rows * devices
    if num_classes is None:
        return Classes(total, rows, axes, is_padded=False)
    check_count("num_classes", num_classes)
    if num_classes > total:
        where = f", {rows} on each of {devices} devices" if axes else ""
        raise ValueError(
            f"num_classes must be at most the number of rows of {of}, which is"
            f" {total}{where}; got {num_classes}."
        )
    return Classes(int(num_classes), rows, axes, is_padded=num_classes < total)


def devices_along(axes: Any, name: str = "class_axis") -> int:
    """Number of devices along manual axes of the mesh; raises unless they are."""
    if not isinstance(axes, tuple) or not all(isinstance(axis, str) for axis in axes):
        raise TypeError(
            f"{name} must be the name of a mesh axis or a tuple of names, got {axes!r}."
        )
    mesh = jax.sharding.get_abstract_mesh()
    for axis in axes:
        if axis not in mesh.manual_axes:
            have = f"its axes are {mesh.manual_axes}" if mesh.manual_axes else "none"
            raise ValueError(
                f"{name}={axis!r} must be an axis of the jax.shard_map that the"
                f" function is called in, got {have}. sphax.sharding has functions for"
                " arrays outside of shard_map."
            )
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"{name} must name one axis or more, once, got {axes}.")
    return math.prod(mesh.shape[axis] for axis in axes)


def vary_alike(*trees: Any) -> Any:
    """The trees, all of whose leaves vary over the mesh axes over which any varies.

    Inside ``shard_map``, the gradient of an array that is equal on several devices is
    the sum over the devices. It is formed where the array meets others that differ: for
    each use, for each block of a loop. Here it is formed once, in float32 at least.
    """
    leaves, structure = jax.tree.flatten(trees)
    kinds = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    union = frozenset().union(*kinds)

    def cast(leaf, varying):
        missing = tuple(union - varying)
        if not missing:
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jax.lax.pcast(leaf, missing, to="varying")
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        return jax.lax.pcast(wide, missing, to="varying").astype(leaf.dtype)

    return jax.tree.unflatten(structure, map(cast, leaves, kinds))
