"""Reductions over the classes, all at once or block by block.

An objective says by one function what a block of classes contributes, see
:class:`Terms`. The plain form applies it to all classes, and the compiler
differentiates it. The blocked form applies it to a block at a time, keeps the running
results alone, and applies it to every block again in its backward pass.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import check_count
from sphax._class_axis import Classes, vary_alike
from sphax._numerics import widen


class Blocks(NamedTuple):
    """How the classes are cut into blocks, fixed when an objective is traced."""

    size: int  # number of classes of each shard that are handled at a time
    shards: int  # number of equal parts, none of which lies on two devices


def as_blocks(block_size: int | None, classes: jax.Array) -> Blocks | None:
    """Blocks of ``block_size`` classes in all, for an array with one row per class.

    A block has as many classes of every shard: a block that went through the shards one
    after the other would have to be gathered from the devices. How automatic axes of a
    mesh shard the classes is unknown while a loss is traced; there are as many shards
    as there can be.
    """
    if block_size is None:
        return None
    check_count("block_size", block_size)
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


class Terms(NamedTuple):
    """What some classes contribute to every example; what is not needed is None."""

    exponents: jax.Array | None = None  # for the log-sum-exp, [..., classes]
    candidates: jax.Array | None = None  # for the largest, no gradient, [..., classes]
    total: jax.Array | None = None  # already summed over these classes, [...]


class Reduced(NamedTuple):
    """The terms of all classes together, ``[...]`` each."""

    log_sum: Any
    largest: Any
    total: Any


def reduce_classes(
    terms: Callable[[Any, Any, jax.Array, jax.typing.ArrayLike], Terms],
    rows: Any,
    arrays: Any,
    labels: jax.Array,
    classes: Classes,
    blocks: Blocks | None,
    *,
    is_sum: bool = False,
) -> Reduced:
    """Reduces ``terms(rows, arrays, labels, 0)`` over the classes.

    Args:
        terms: What a block of classes contributes, of which the first is the class of
            its last argument. It must not close over arrays that are differentiated.
        rows: Pytree of what the terms depend on, example by example or for all; first
            the embeddings, ``[..., features]``.
        arrays: Pytree of arrays with one row for each class of this device.
        labels: Target classes, ``[...]``.
        classes: How many there are, and where they lie.
        blocks: How the classes are cut; None for all at once.
        is_sum: Whether the terms have a total alone.

    Returns:
        The reductions; a total means nothing where the terms have none.
    """
    # No collective is left for the rule of the blocked form: a rule with one would be
    # right only where `shard_map` checks which arrays vary.
    start = jnp.asarray(classes.start(), jnp.int32)
    given = vary_alike(rows, arrays, labels, start)
    if blocks is not None:
        reduced = _blocked(terms, blocks, is_sum, *given)
    else:
        log_sum, largest, total = terms(*given)
        if log_sum is not None:
            log_sum = jax.nn.logsumexp(log_sum, axis=-1)
        if largest is not None:
            largest = jnp.max(jax.lax.stop_gradient(largest), axis=-1)
        reduced = Reduced(log_sum, largest, total)
    if not classes.axes:
        return reduced
    log_sum, largest, total = reduced
    if is_sum:
        return Reduced(None, None, classes.sum(total))
    # Finite, with any class beside the target on any device.
    top, largest = classes.max((log_sum, largest))
    parts = classes.sum((jnp.exp(log_sum - top), total))
    return Reduced(top + jnp.log(parts[0]), largest, parts[1])


def _reduce_blocks(terms, blocks, is_sum, rows, arrays, labels, start) -> Reduced:
    """A block of classes at a time; no array of all the terms at any time."""

    def add_block(carry, block, first, _):
        running_max, running_sum, largest, total = carry
        new = terms(rows, block, labels, start + first)
        if not is_sum:
            new_max = jnp.maximum(running_max, jnp.max(new.exponents, axis=-1))
            block_sum = jnp.sum(jnp.exp(new.exponents - new_max[..., None]), axis=-1)
            running_sum = running_sum * jnp.exp(running_max - new_max) + block_sum
            running_max = new_max
            largest = jnp.maximum(largest, jnp.max(new.candidates, axis=-1))
        if new.total is not None:
            total = total + new.total
        return running_max, running_sum, largest, total

    x = jax.tree.leaves(rows)[0]
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    zero = jnp.zeros_like(x[..., 0], dtype=dtype)
    lowest = jnp.full_like(zero, jnp.finfo(dtype).min)
    carry = (None, None, None, zero) if is_sum else (lowest, zero, lowest, zero)
    running_max, running_sum, largest, total = _fold(add_block, carry, arrays, blocks)
    if is_sum:
        return Reduced(None, None, jnp.sum(total, axis=0))
    return Reduced(
        jax.nn.logsumexp(running_max + jnp.log(running_sum), axis=0),
        jnp.max(largest, axis=0),
        jnp.sum(total, axis=0),
    )


_blocked = jax.custom_vjp(_reduce_blocks, nondiff_argnums=(0, 1, 2))


def _forward(terms, blocks, is_sum, rows, arrays, labels, start):
    reduced = _reduce_blocks(terms, blocks, is_sum, rows, arrays, labels, start)
    return reduced, (rows, arrays, labels, start, reduced.log_sum)


def _backward(terms, blocks, is_sum, residuals, d_reduced: Reduced):
    """No more is kept of the forward pass than its arguments and the log-sum-exp."""
    rows, arrays, labels, start, log_sum = residuals

    def add_block(carry, block, first, offset):
        d_rows, d_arrays = carry
        new, pull_back = jax.vjp(
            # The largest has no gradient.
            lambda rows, block: terms(rows, block, labels, start + first)._replace(
                candidates=None
            ),
            rows,
            block,
        )
        d_exponents = None
        if not is_sum:
            weights = jnp.exp(new.exponents - log_sum[..., None])
            d_exponents = weights * d_reduced.log_sum[..., None]
        d_total = None if new.total is None else d_reduced.total
        more, d_block = pull_back(Terms(d_exponents, None, d_total))
        d_rows = jax.tree.map(lambda d, m: d + m.astype(d.dtype), d_rows, more)
        d_arrays = jax.tree.map(
            lambda d, b: jax.lax.dynamic_update_slice_in_dim(d, b, offset, 0),
            d_arrays,
            d_block,
        )
        return d_rows, d_arrays

    # Summed over the blocks, so in float32 at least.
    d_rows = jax.tree.map(lambda x: widen(jnp.zeros_like(x)), rows)
    d_arrays = jax.tree.map(
        lambda x: jnp.zeros_like(x[: x.shape[0] // blocks.shards]), arrays
    )
    d_rows, d_arrays = _fold(add_block, (d_rows, d_arrays), arrays, blocks)
    return (
        jax.tree.map(lambda d, x: jnp.sum(d, axis=0).astype(x.dtype), d_rows, rows),
        jax.tree.map(lambda d, x: d.reshape(x.shape), d_arrays, arrays),
        None,
        None,
    )


_blocked.defvjp(_forward, _backward)


def _fold(
    add_block: Callable[[Any, Any, Any, Any], Any],
    carry: Any,
    arrays: Any,
    blocks: Blocks,
) -> Any:
    """Folds ``add_block(carry, block, first, offset)`` over the blocks of every shard.

    ``block`` has some rows of ``arrays``, the first of which is row ``first`` of all
    and row ``offset`` of its shard; the last block of a shard may be short. Every shard
    is folded by itself, and the results lie along a new first axis.
    """
    shards = blocks.shards
    per_shard = jax.tree.leaves(arrays)[0].shape[0] // shards
    whole, rest = divmod(per_shard, blocks.size)

    def fold_shard(shard, first):
        def add(carry, offset, size):
            block = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, offset, size), shard
            )
            return add_block(carry, block, first + offset, offset)

        folded = carry
        if whole:
            folded, _ = jax.lax.scan(
                lambda carry, i: (add(carry, i * blocks.size, blocks.size), None),
                carry,
                jnp.arange(whole, dtype=jnp.int32),
            )
        return add(folded, whole * blocks.size, rest) if rest else folded

    if shards == 1:  # what vmap does takes a tenth longer there
        return jax.tree.map(lambda x: x[None], fold_shard(arrays, jnp.int32(0)))
    split = jax.tree.map(lambda x: x.reshape(shards, per_shard, *x.shape[1:]), arrays)
    return jax.vmap(fold_shard)(split, per_shard * jnp.arange(shards, dtype=jnp.int32))
