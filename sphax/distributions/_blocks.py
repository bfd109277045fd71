"""Sums over many points, of which only some are worked on at a time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._class_axis import vary_alike
from sphax._masking import as_weights

# Numbers in the largest array of a block, unless the block size is given.
_NUMBERS = 2**21


def as_block_size(block_size: int | None, n: int, columns: int) -> int:
    """How many of ``n`` points are worked on at a time, by default for so many columns.

    Args:
        block_size: Number of points, checked before; None for the default.
        n: Number of all points.
        columns: How many numbers a block has for each of its points.
    """
    return min(n, block_size or max(1, _NUMBERS // columns))


def check_row_weights(
    weights: jax.typing.ArrayLike | None,
    where: jax.typing.ArrayLike | None,
    points: jax.Array,
) -> list[jax.Array | None]:
    """Both as arrays; raises unless masks or weights ``[n]`` of points ``[n, d]``."""
    of = "points without the last axis"
    return [
        as_weights(given, points.shape[:1], of, name=name)
        for name, given in (("weights", weights), ("where", where))
    ]


def row_weights(points: jax.Array, given: list[jax.Array | None]) -> jax.Array:
    """Product of all weights that are given, ``[n]``, in float32 at least."""
    dtype = jnp.promote_types(points.dtype, jnp.float32)
    factors = (each.astype(dtype) for each in given if each is not None)
    return math.prod(factors, start=jnp.ones(points.shape[0], dtype))


def sum_over_blocks(
    function: Callable[[Any, jax.Array], tuple[Any, Any]], rows: Any, block_size: int
) -> tuple[Any, Any]:
    """Adds up what blocks of rows contribute, and collects what they have for each row.

    No copy of the rows is made, nor are they padded: the last block overlaps the one
    before. Rows that are sharded stay on their devices, since a block has as many rows
    of each shard.

    Args:
        function: Function of a block, ``(rows, is_new)``, with which rows are not in
            the block before. Of the two pytrees that it returns, the arrays of the
            first are summed over the blocks, and those of the second have an entry for
            each row.
        rows: Pytree of arrays with an entry for each row, ``[n, ...]``.
        block_size: Largest number of rows in a block.
    """
    n = len(jax.tree.leaves(rows)[0])
    # The axes of a mesh are automatic here, and may shard the rows in so many parts.
    sizes = jax.typeof(jax.tree.leaves(rows)[0]).sharding.mesh
    automatic = (
        size
        for size, kind in zip(sizes.axis_sizes, sizes.axis_types, strict=True)
        if kind == jax.sharding.AxisType.Auto
    )
    shards = math.gcd(n, math.prod(automatic))
    size = max(1, min(block_size, n) // shards)
    if size * shards == n:
        return function(rows, jnp.ones(n, bool))
    split = jax.tree.map(lambda x: x.reshape(shards, -1, *x.shape[1:]), rows)

    def block_from(start):
        def cut(x):
            block = jax.lax.dynamic_slice_in_dim(x, start, size, axis=1)
            return block.reshape(-1, *x.shape[2:])

        return jax.tree.map(cut, split)

    def add_block(carry, number):
        totals, collected = carry
        start = jnp.minimum(number * size, n // shards - size)
        is_new = start + jnp.arange(size) >= number * size
        sums, each = function(block_from(start), jnp.tile(is_new, shards))

        def put(x, block):
            block = block.reshape(shards, size, *block.shape[1:])
            return jax.lax.dynamic_update_slice_in_dim(x, block, start, axis=1)

        totals = jax.tree.map(jnp.add, totals, sums)
        return (totals, jax.tree.map(put, collected, each)), None

    sums, each = jax.eval_shape(
        lambda: function(block_from(0), jnp.ones(shards * size, bool))
    )
    nothing = (
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums),
        jax.tree.map(
            lambda x: jnp.zeros((shards, n // shards, *x.shape[1:]), x.dtype), each
        ),
    )
    start, _ = vary_alike(nothing, rows)
    numbers = jnp.arange(-(-n // (shards * size)))
    (totals, collected), _ = jax.lax.scan(add_block, start, numbers)
    return totals, jax.tree.map(lambda x: x.reshape(n, *x.shape[2:]), collected)
