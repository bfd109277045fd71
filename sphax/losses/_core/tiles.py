"""Reductions over the columns of a matrix that is never held as a whole.

The matrix has a row for each entry of one side and a column for each of another. An
objective says by one function what a tile contributes to each of its rows, see
:class:`Terms`. Tiles are visited one after the other and computed again in the backward
pass. The sides may be split over the devices of a mesh: the columns then pass from
device to device in a ring, and their gradients pass with them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._class_axis import vary_alike
from sphax._numerics import widen_narrow
from sphax.losses._core.blocked import Blocks

# A ring of so many devices is no loop: on a CPU (jaxlib 0.10), programs with
# collectives in two loops, such as two losses have, run them at once and mix them up.
_UNROLLED = 16


class Terms(NamedTuple):
    """What a tile contributes to its rows: pytrees of arrays ``[rows, columns]``.

    Once they are reduced over the columns, the arrays are ``[rows]``.
    """

    sums: Any = ()  # added up
    exponents: Any = ()  # reduced by log-sum-exp; the lowest number where left out
    largest: Any = ()  # the largest of each row, without gradient


class Tiling(NamedTuple):
    """How a matrix is cut and where it lies, fixed when an objective is traced."""

    rows: Blocks | None = None  # how many are handled at a time; None for all
    columns: Blocks | None = None
    axes: tuple[str, ...] = ()  # of the mesh, over which both sides are split


def reduce_tiles(
    terms: Callable[[Any, Any, Any], Terms],
    tiling: Tiling,
    rows: Any,
    columns: Any,
    shared: Any,
    *,
    has_both: bool = False,
) -> tuple[Terms, Terms]:
    """Reduces ``terms(rows, columns, shared)`` over the columns, tile by tile.

    Args:
        terms: What a tile contributes. It must not close over arrays that are
            differentiated.
        tiling: How the matrix is cut.
        rows: Pytree of arrays with one entry for each row, ``[n, ...]``.
        columns: Pytree of arrays with one entry for each column, ``[m, ...]``.
        shared: Pytree of arrays that all tiles depend on.
        has_both: Whether they are reduced over the rows as well.

    Returns:
        The terms reduced over the columns, ``[n]`` each, and those reduced over the
        rows, ``[m]`` each; without ``has_both`` the latter are empty.
    """

    def of_tile(rows, columns, shared):
        found = terms(rows, columns, shared)
        return reduced(found), reduced(found, axis=-2) if has_both else Terms()

    rows, columns, shared = vary_alike(rows, columns, shared)
    if not tiling.axes:
        return _reduce(of_tile, tiling, rows, columns, shared)
    floats, others = _split((rows, columns, shared))
    return _reduce_in_ring(of_tile, tiling, floats, others)


def combined(first: Terms, second: Terms) -> Terms:
    """The reduced terms of two sets of columns together."""
    return Terms(
        jax.tree.map(jnp.add, first.sums, second.sums),
        jax.tree.map(jnp.logaddexp, first.exponents, second.exponents),
        jax.tree.map(jnp.maximum, first.largest, second.largest),
    )


def reduced(terms: Terms, axis: int = -1) -> Terms:
    """The terms of one tile, reduced over its columns, or over its rows."""
    return Terms(
        jax.tree.map(lambda x: jnp.sum(x, axis=axis), terms.sums),
        jax.tree.map(lambda x: jax.nn.logsumexp(x, axis=axis), terms.exponents),
        jax.tree.map(
            # With a start: there may be no column.
            lambda x: jnp.max(
                jax.lax.stop_gradient(x), axis=axis, initial=jnp.finfo(x.dtype).min
            ),
            terms.largest,
        ),
    )


def map_rows(
    function: Callable[[Any, Any], Any],
    blocks: Blocks | None,
    rows: Any,
    others: Any,
) -> Any:
    """Applies ``function(rows, others)``, whose results have a row each, to row blocks.

    Only what the blocks return is kept for the backward pass.
    """
    if blocks is None:
        return function(rows, others)
    n = len(jax.tree.leaves(rows)[0])
    rows, others = vary_alike(rows, others)
    # Their gradients are summed over the blocks, so in float32 at least.
    wide, narrow = _widened(others)

    @partial(jax.checkpoint, prevent_cse=False)
    def of_block(block, wide):
        return function(block, narrow(wide))

    results = jax.lax.map(lambda block: of_block(block, wide), _cut(rows, blocks))
    return jax.tree.map(lambda x: _joined(x, n, blocks), results)


def _reduce(of_tile, tiling: Tiling, rows, columns, shared) -> tuple[Terms, Terms]:
    """The reduced terms of the rows and columns on this device."""
    row_cut, column_cut, _ = tiling
    if row_cut is None or column_cut is None:
        return of_tile(rows, columns, shared)
    n, m = (len(jax.tree.leaves(side)[0]) for side in (rows, columns))
    # Their gradients are summed over the tiles, so in float32 at least.
    wide, narrow = _widened((rows, columns))
    row_blocks = _cut(wide[0], row_cut)
    column_blocks = _cut(wide[1], column_cut)

    @partial(jax.checkpoint, prevent_cse=False)
    def of_blocks(row_block, column_block, shared):
        return of_tile(*narrow((row_block, column_block)), shared)

    def add_rows(by_column, row_block):
        def add_tile(by_row, column):
            column_block, so_far = column
            new = of_blocks(row_block, column_block, shared)
            return combined(by_row, new[0]), combined(so_far, new[1])

        start, *_ = vary_alike(nothing[0], row_block, column_blocks)
        by_row, by_column = jax.lax.scan(add_tile, start, (column_blocks, by_column))
        return by_column, by_row

    first = jax.tree.map(lambda x: x[0], (row_blocks, column_blocks))
    like = jax.eval_shape(of_blocks, *first, shared)
    nothing = _nothing(like[0]), _nothing(like[1])
    number = len(jax.tree.leaves(column_blocks)[0])
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), nothing[1])
    start, *_ = vary_alike(start, row_blocks, column_blocks)
    by_column, by_row = jax.lax.scan(add_rows, start, row_blocks)
    return (
        jax.tree.map(lambda x: _joined(x, n, row_cut), by_row),
        jax.tree.map(lambda x: _joined(x, m, column_cut), by_column),
    )


def _nothing(like: Terms) -> Terms:
    """Reduced terms of no columns."""

    def lowest(x):
        return jnp.full(x.shape, jnp.finfo(x.dtype).min, x.dtype)

    return Terms(
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.sums),
        jax.tree.map(lowest, like.exponents),
        jax.tree.map(lowest, like.largest),
    )


def _cut(tree: Any, blocks: Blocks) -> Any:
    """Arrays ``[n, ...]`` in blocks ``[number, size, ...]``, padded with zeros.

    A block has as many entries of every shard, see :class:`Blocks`.
    """

    def cut(x):
        x = x.reshape(blocks.shards, -1, *x.shape[1:])
        rest = -x.shape[1] % blocks.size if x.shape[1] else blocks.size
        x = jnp.pad(x, [(0, 0), (0, rest)] + [(0, 0)] * (x.ndim - 2))
        x = x.reshape(blocks.shards, -1, blocks.size, *x.shape[2:])
        return x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:])

    return jax.tree.map(cut, tree)


def _joined(x: jax.Array, n: int, blocks: Blocks) -> jax.Array:
    """The ``n`` entries of an array in blocks, see :func:`_cut`."""
    x = x.reshape(len(x), blocks.shards, blocks.size, *x.shape[2:]).swapaxes(0, 1)
    x = x.reshape(blocks.shards, x.shape[1] * blocks.size, *x.shape[3:])
    return x[:, : n // blocks.shards].reshape(n, *x.shape[2:])


def _widened(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The tree with floating arrays in float32 at least, and what narrows it again."""
    dtypes = jax.tree.map(lambda x: x.dtype, tree)

    def widen(x):
        return widen_narrow(x) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def narrow(wide):
        return jax.tree.map(lambda x, dtype: x.astype(dtype), wide, dtypes)

    return jax.tree.map(widen, tree), narrow


# A rule of its own: derived by JAX, it would keep the columns of every turn. It passes
# no value that is equal on several devices, and so is right whether or not `shard_map`
# checks what varies.
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _reduce_in_ring(of_tile, tiling, floats, others) -> tuple[Terms, Terms]:
    """The reduced terms of the rows and columns of all devices."""
    rows, columns, shared = _merged(floats, others)

    def turn(carry, _):
        by_row, visiting, by_column = carry
        # Sent on before the work, so that it travels meanwhile.
        ahead = _passed_on(tiling, visiting)
        new = _reduce(of_tile, tiling, rows, visiting, shared)
        by_column = _passed_on(tiling, combined(by_column, new[1]))
        return (combined(by_row, new[0]), ahead, by_column), None

    like = jax.eval_shape(partial(_reduce, of_tile, tiling), rows, columns, shared)
    start, *_ = vary_alike((_nothing(like[0]), _nothing(like[1])), rows, columns)
    (by_row, _, by_column), _ = _turns(tiling, turn, (start[0], columns, start[1]))
    return by_row, by_column


def _forward(of_tile, tiling, floats, others):
    values = jax.tree.map(lambda x: x.value, floats, is_leaf=_is_primal)
    others = jax.tree.map(lambda x: x.value, others, is_leaf=_is_primal)
    found: Any = _reduce_in_ring(of_tile, tiling, values, others)
    # Columns without gradient, such as those of `stop_gradient`, are known as such.
    leaves = jax.tree.leaves(floats[1], is_leaf=_is_primal)
    is_constant = not any(leaf.perturbed for leaf in leaves)
    log_sums = found[0].exponents, found[1].exponents
    return found, (values, others, log_sums, () if is_constant else None)


def _backward(of_tile, tiling, residuals, d_reduced):
    floats, others, log_sums, constant = residuals
    d_reduced = jax.tree.map(
        lambda d: jnp.zeros(d.aval.shape, d.aval.dtype) if _is_zero(d) else d,
        d_reduced,
        is_leaf=_is_zero,
    )
    d_reduced, *_ = vary_alike(d_reduced, floats)
    # What the pull-back of a tile needs of each side; that of the columns travels.
    of_rows, of_columns = (
        (d.sums, d.exponents, logs) for d, logs in zip(d_reduced, log_sums, strict=True)
    )
    rows, columns, shared = floats

    def turn(carry, _):
        d_rows, d_shared, visiting, d_visiting = carry

        def here(rows, columns, shared):
            moving = rows, columns, shared
            found = _reduce(
                of_tile, tiling, *_merged(moving, (o_rows, o_here, o_shared))
            )
            return tuple((side.sums, side.exponents) for side in found)

        (o_rows, _, o_shared), (v_here, o_here, of_visiting) = others, visiting
        if constant is not None:
            found, pull_back = jax.vjp(lambda r, s: here(r, v_here, s), rows, shared)
        else:
            found, pull_back = jax.vjp(here, rows, v_here, shared)
        changes = pull_back(
            tuple(
                # The share of this tile in the log-sum-exp of all.
                (d_sums, jax.tree.map(_shared_out, d_logs, logs, all_logs))
                for (d_sums, d_logs, all_logs), (_, logs) in zip(
                    (of_rows, of_visiting), found, strict=True
                )
            )
        )
        if constant is None:
            d_visiting = _added(d_visiting, changes[1])
        d_rows, d_shared = _added(d_rows, changes[0]), _added(d_shared, changes[-1])
        visiting, d_visiting = _passed_on(tiling, (visiting, d_visiting))
        return (d_rows, d_shared, visiting, d_visiting), None

    zeros = jax.tree.map(
        lambda x: jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, jnp.float32)),
        floats,
    )
    d_columns = zeros[1] if constant is None else ()
    start = zeros[0], zeros[2], (columns, others[1], of_columns), d_columns
    (d_rows, d_shared, _, d_columns), _ = _turns(tiling, turn, start)
    found = d_rows, d_columns if constant is None else zeros[1], d_shared
    return jax.tree.map(lambda d, x: d.astype(x.dtype), found, floats), None


def _shared_out(d, here, log_sum):
    return d * jnp.exp(here - log_sum)


_reduce_in_ring.defvjp(_forward, _backward, symbolic_zeros=True)


def _turns(tiling: Tiling, turn, start):
    devices = jax.lax.axis_size(tiling.axes)
    unroll = devices if devices <= _UNROLLED else 1
    return jax.lax.scan(turn, start, length=devices, unroll=unroll)


def _passed_on(tiling: Tiling, tree: Any) -> Any:
    """The arrays of the device before this one; after all turns they are home."""
    devices = jax.lax.axis_size(tiling.axes)
    pairs = [(i, (i + 1) % devices) for i in range(devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, tiling.axes, pairs), tree)


def _added(totals: Any, changes: Any) -> Any:
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), totals, changes)


def _split(tree: Any) -> tuple[Any, Any]:
    """The floating arrays of a tree, and the others; None stands for the rest."""

    def select(is_wanted):
        return jax.tree.map(
            lambda x: x if jnp.issubdtype(x.dtype, jnp.floating) == is_wanted else None,
            tree,
        )

    return select(True), select(False)


def _merged(floats: Any, others: Any) -> Any:
    """The tree that :func:`_split` has taken apart."""
    return jax.tree.map(
        lambda x, y: y if x is None else x, floats, others, is_leaf=lambda x: x is None
    )


def _is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)
