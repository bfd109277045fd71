"""Many classes, some at a time, each device its own."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._numerics import widen


class Blocks(NamedTuple):
    """How the classes are taken, fixed when a loss is traced."""

    size: int  # number of classes of each shard that are handled at a time
    shards: int  # number of equal parts, no part of which lies on two devices


def as_blocks(block_size: int | None, classes: jax.Array) -> Blocks | None:
    """Blocks of ``block_size`` classes in all, for an array with a row for each class.

    A block has as many classes of every shard: one that went through the shards one
    after the other would have to be gathered from the devices. How axes of a mesh that
    are automatic shard the classes is unknown while a loss is traced; there are as many
    shards as there can be.
    """
    if block_size is None:
        return None
    sharding = jax.typeof(classes).sharding
    sizes, types = sharding.mesh.shape, sharding.mesh.axis_types
    names = sharding.spec[0] or ()
    names = names if isinstance(names, tuple) else (names,)
    known = math.prod(sizes[name] for name in names)
    automatic = math.prod(
        size
        for size, kind in zip(sizes.values(), types, strict=True)
        if kind == jax.sharding.AxisType.Auto
    )
    shards = known * math.gcd(classes.shape[0] // known, automatic)
    return Blocks(max(1, block_size // shards), shards)


def fold_blocks(
    add_block: Callable[[Any, Any, Any], Any],
    carry: Any,
    classes: Any,
    blocks: Blocks,
) -> Any:
    """Folds ``add_block(carry, block, start)`` over blocks of classes, the last short.

    ``classes`` is a pytree of arrays with a row for each class, ``block`` the same of
    some of them, and ``start`` the number of the first. Every shard is folded by
    itself; to combine the results, on a new first axis, is left to the caller.
    """

    def of_shard(shard, first):
        def add(carry, block, start):
            return add_block(carry, block, first + start)

        return _fold_shard(add, carry, shard, blocks.size)

    return _over_shards(of_shard, classes, blocks.shards)


def pull_back_blocks(
    function: Callable[[Any, Any, Any], Any],
    cotangent_of: Callable[[Any], Any],
    rows: Any,
    classes: Any,
    blocks: Blocks,
) -> tuple[Any, Any]:
    """Gradients of what is made of ``function(rows, block, start)`` over the blocks.

    ``cotangent_of(value)`` says what is passed back to a block with that value. The
    value is formed again, one block's at a time: no more is kept of the forward pass
    than ``rows`` and ``classes``.
    """

    def of_shard(shard, first):
        def add_block(carry, block, start):
            of_rows, of_classes = carry
            value, pull_back = jax.vjp(
                lambda rows, block: function(rows, block, first + start), rows, block
            )
            more, of_block = pull_back(cotangent_of(value))
            of_rows = jax.tree.map(lambda g, m: g + m.astype(g.dtype), of_rows, more)
            of_classes = jax.tree.map(
                lambda g, b: jax.lax.dynamic_update_slice_in_dim(g, b, start, 0),
                of_classes,
                of_block,
            )
            return of_rows, of_classes

        # Summed over the blocks, so in float32 at least.
        of_rows = jax.tree.map(lambda x: widen(jnp.zeros_like(x)), rows)
        nothing = of_rows, jax.tree.map(jnp.zeros_like, shard)
        return _fold_shard(add_block, nothing, shard, blocks.size)

    of_rows, of_classes = _over_shards(of_shard, classes, blocks.shards)
    return (
        jax.tree.map(lambda g, x: jnp.sum(g, axis=0).astype(x.dtype), of_rows, rows),
        jax.tree.map(lambda g, x: g.reshape(x.shape), of_classes, classes),
    )


def _over_shards(of_shard: Callable[[Any, Any], Any], classes: Any, shards: int) -> Any:
    """``of_shard(shard, first)`` for all shards side by side, on a new first axis."""
    if shards == 1:  # what vmap does takes a tenth longer there
        return jax.tree.map(lambda x: x[None], of_shard(classes, jnp.int32(0)))
    per_shard = jax.tree.leaves(classes)[0].shape[0] // shards
    split = jax.tree.map(lambda x: x.reshape(shards, per_shard, *x.shape[1:]), classes)
    return jax.vmap(of_shard)(split, per_shard * jnp.arange(shards, dtype=jnp.int32))


def _fold_shard(add_block, carry, shard, size):
    """Folds over blocks of one shard; they count from its first class."""

    def add(carry, start, size):
        block = jax.tree.map(
            lambda rows: jax.lax.dynamic_slice_in_dim(rows, start, size), shard
        )
        return add_block(carry, block, start)

    whole, rest = divmod(jax.tree.leaves(shard)[0].shape[0], size)
    if whole:
        carry, _ = jax.lax.scan(
            lambda carry, i: (add(carry, i * size, size), None),
            carry,
            jnp.arange(whole, dtype=jnp.int32),
        )
    return add(carry, whole * size, rest) if rest else carry
