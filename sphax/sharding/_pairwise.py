"""Pairwise losses of arrays that lie on the devices of a mesh."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from sphax.losses import MemoryBank
from sphax.sharding._meshes import (
    Axes,
    Mesh,
    as_axes,
    as_mesh,
    devices_along,
    moved,
)

# Options that are split, with an entry for each anchor or reference on the first axis;
# masks of pairs by their columns.
_SPLIT = (
    *("references", "reference_labels", "reference_where", "self_index", "where"),
    *("queue", "negatives"),
)


def pairwise(
    loss: Callable[..., jax.Array],
    *arrays: jax.typing.ArrayLike | None,
    mesh: Mesh | None = None,
    batch_axis: Axes,
    **options: Any,
) -> jax.Array:
    """A pairwise loss of a batch that is split over the devices of a mesh.

    The value is that of ``loss(*arrays, **options)`` on one device, and so are the
    gradients. Every device compares its anchors with the references of all, which pass
    from device to device in a ring: a device holds its own rows, those that visit it,
    and the pairs of both. Arrays may lie anywhere; they are moved to where they are
    needed. It may be called within ``jit`` or by itself, not within
    :func:`jax.shard_map`, where the losses take ``batch_axis``. A gradient that is
    taken outside of ``jit`` needs :func:`jax.set_mesh` if axes of the mesh are
    explicit, as that of any function does.

    Args:
        loss: A pairwise loss or one of two towers, such as
            :func:`sphax.losses.nt_xent`. For each function it is compiled anew: bind
            options here, not by a new ``functools.partial`` in every call.
        *arrays: Its positional arguments, with an entry for each row of the batch on
            their first axis, ``[n, ...]``.
        mesh: The mesh; by default that of the context (:func:`jax.set_mesh`), or else
            that of the first array. Its other axes are left alone.
        batch_axis: Axis of the mesh along which rows are split, or a tuple.
        **options: Keyword arguments of the loss. References and what belongs to them
            are split as well, masks of pairs by their columns. The rows of a memory are
            given as references.

    Returns:
        The loss, ``[]``; with ``reduction="none"`` a value for each anchor, ``[n]``,
        split as the batch is. Derivatives are in reverse mode alone.

    Raises:
        TypeError: In the same cases as the loss.
        ValueError: In the same cases, if there is no mesh, an axis is not one of it,
            the devices do not divide the rows, or a memory is given.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> x, labels = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [0, 0, 1]
        >>> loss = sx.losses.nt_xent
        >>> sx.sharding.pairwise(
        ...     loss, x, jnp.array(labels), mesh=mesh, batch_axis="data", scale=1.0
        ... )
        Array(0.31326, dtype=float32)
    """
    if options.get("memory") is not None:
        raise ValueError(
            "memory must be split by hand: give its rows as references=, with"
            " reference_labels= and reference_where=jnp.arange(size) < memory.filled,"
            " and add that loss to the loss of the batch."
        )
    if isinstance(options.get("queue"), MemoryBank):
        raise ValueError(
            "queue must be an array, which is split: give the embeddings of the memory,"
            " once all its rows are filled."
        )
    # The errors that the loss has for its arguments, with shapes of the whole arrays.
    jax.eval_shape(lambda: loss(*arrays, **options))
    # A list is one array, not a tree of numbers.
    arrays = tuple(None if x is None else _as_array(x) for x in arrays)
    mesh = as_mesh(mesh, jnp.asarray(arrays[0]), "the batch", "batch_axis of the loss")
    axes = as_axes("batch_axis", batch_axis, mesh)
    split: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    for name, value in options.items():
        is_of_anchors = name == "boundary" and options.get("boundary_of") == "anchor"
        if value is None:
            fixed[name] = value
        elif name == "pairs":
            split[name] = tuple(map(_as_array, value))
        elif name in _SPLIT or is_of_anchors:
            split[name] = _as_array(value)
        elif isinstance(value, (jax.Array, np.ndarray)):
            whole[name] = value
        else:
            fixed[name] = value
    _check_sizes(arrays, split, devices_along(mesh, axes))
    return _compiled(
        arrays,
        split,
        whole,
        loss=loss,
        fixed=tuple(sorted(fixed.items())),
        mesh=mesh,
        axes=axes,
    )


def _as_array(x: Any) -> jax.Array | np.ndarray:
    return x if isinstance(x, jax.Array) else np.asarray(x)


def _check_sizes(arrays: Any, split: dict[str, Any], devices: int) -> None:
    """Raises unless the devices divide the rows of each array that is split."""
    named = {f"array {i}": np.shape(x) for i, x in enumerate(arrays) if x is not None}
    for name, value in split.items():
        named[name] = np.shape(value[0])[1:] if name == "pairs" else np.shape(value)
    for name, shape in named.items():
        if shape[0] % devices:
            raise ValueError(
                f"the {devices} devices along batch_axis must divide the rows of"
                f" {name}, got {shape[0]}; pad them, and leave the padding out by where"
                " and reference_where."
            )


@partial(jax.jit, static_argnames=("loss", "fixed", "mesh", "axes"))
def _compiled(
    arrays: Any,
    split: dict[str, Any],
    whole: dict[str, Any],
    *,
    loss: Callable[..., jax.Array],
    fixed: tuple[tuple[str, Any], ...],
    mesh: Mesh,
    axes: tuple[str, ...],
) -> jax.Array:
    specs = (
        jax.tree.map(lambda _: P(axes), arrays),
        {name: (P(None, axes),) * 2 if name == "pairs" else P(axes) for name in split},
        jax.tree.map(lambda _: P(), whole),
    )
    given = jax.tree.map(partial(moved, mesh=mesh), (arrays, split, whole), specs)
    options = dict(fixed)
    is_mean = options.get("reduction", "mean") == "mean"

    def on_device(arrays, split, whole):
        return loss(*arrays, **split, **whole, **options, batch_axis=axes)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=specs,
        out_specs=P() if is_mean else P(axes),
    )(*given)
