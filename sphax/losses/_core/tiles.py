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
) -> Terms:
    """Reduces ``terms(rows, columns, shared)`` over the columns, tile by tile.

    Args:
        terms: What a tile contributes. It must not close over arrays that are
            differentiated.
        tiling: How the matrix is cut.
        rows: Pytree of arrays with one entry for each row, ``[n, ...]``.
        columns: Pytree of arrays with one entry for each column, ``[m, ...]``.
        shared: Pytree of arrays that all tiles depend on.

    Returns:
        The reduced terms, ``[n]`` each.
    """
    rows, columns, shared = vary_alike(rows, columns, shared)
    if not tiling.axes:
        return _reduce(terms, tiling, rows, columns, shared)
    floats, others = _split((rows, columns, shared))
    return _reduce_in_ring(terms, tiling, floats, others)


def combined(first: Terms, second: Terms) -> Terms:
    """The reduced terms of two sets of columns together."""
    return Terms(
        jax.tree.map(jnp.add, first.sums, second.sums),
        jax.tree.map(jnp.logaddexp, first.exponents, second.exponents),
        jax.tree.map(jnp.maximum, first.largest, second.largest),
    )


def reduced(terms: Terms) -> Terms:
    """The terms of one tile, reduced over its columns."""
    return Terms(
        jax.tree.map(lambda x: jnp.sum(x, axis=-1), terms.sums),
        jax.tree.map(lambda x: jax.nn.logsumexp(x, axis=-1), terms.exponents),
        jax.tree.map(
            # With a start: there may be no column.
            lambda x: jnp.max(
                jax.lax.stop_gradient(x), axis=-1, initial=jnp.finfo(x.dtype).min
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


def _reduce(terms, tiling: Tiling, rows, columns, shared) -> Terms:
    """The reduced terms of the columns on this device."""
    row_cut, column_cut, _ = tiling
    if row_cut is None or column_cut is None:
        return reduced(terms(rows, columns, shared))
    n = len(jax.tree.leaves(rows)[0])
    # Their gradients are summed over the tiles, so in float32 at least.
    wide, narrow = _widened((rows, columns))
    row_blocks = _cut(wide[0], row_cut)
    column_blocks = _cut(wide[1], column_cut)

    @partial(jax.checkpoint, prevent_cse=False)
    def of_tile(row_block, column_block, shared):
        return reduced(terms(*narrow((row_block, column_block)), shared))

    def of_rows(row_block):
        def add_tile(running, column_block):
            return combined(running, of_tile(row_block, column_block, shared)), None

        first = jax.tree.map(lambda x: x[0], column_blocks)
        like = jax.eval_shape(of_tile, row_block, first, shared)
        start, *_ = vary_alike(_nothing(like), row_block, column_blocks)
        return jax.lax.scan(add_tile, start, column_blocks)[0]

    results = jax.lax.map(of_rows, row_blocks)
    return jax.tree.map(lambda x: _joined(x, n, row_cut), results)


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
def _reduce_in_ring(terms, tiling, floats, others) -> Terms:
    """The reduced terms of the columns of all devices."""
    rows, columns, shared = _merged(floats, others)

    def turn(carry, _):
        running, visiting = carry
        # Sent on before the work, so that it travels meanwhile.
        ahead = _passed_on(tiling, visiting)
        here = _reduce(terms, tiling, rows, visiting, shared)
        return (combined(running, here), ahead), None

    like = jax.eval_shape(partial(_reduce, terms, tiling), rows, columns, shared)
    start, *_ = vary_alike(_nothing(like), rows, columns)
    (running, _), _ = _turns(tiling, turn, (start, columns))
    return running


def _forward(terms, tiling, floats, others):
    values = jax.tree.map(lambda x: x.value, floats, is_leaf=_is_primal)
    others = jax.tree.map(lambda x: x.value, others, is_leaf=_is_primal)
    found: Any = _reduce_in_ring(terms, tiling, values, others)
    # Columns without gradient, such as those of `stop_gradient`, are known as such.
    leaves = jax.tree.leaves(floats[1], is_leaf=_is_primal)
    is_constant = not any(leaf.perturbed for leaf in leaves)
    return found, (values, others, found.exponents, () if is_constant else None)


def _backward(terms, tiling, residuals, d_reduced):
    floats, others, log_sums, constant = residuals
    d_reduced = jax.tree.map(
        lambda d: jnp.zeros(d.aval.shape, d.aval.dtype) if _is_zero(d) else d,
        d_reduced,
        is_leaf=_is_zero,
    )
    d_reduced, *_ = vary_alike(d_reduced, floats)
    rows, columns, shared = floats

    def turn(carry, _):
        d_rows, d_shared, visiting, d_visiting = carry

        def here(rows, columns, shared):
            moving = rows, columns, shared
            found = _reduce(terms, tiling, *_merged(moving, (o_rows, o_here, o_shared)))
            return found.sums, found.exponents

        (o_rows, _, o_shared), (v_here, o_here) = others, visiting
        if constant is not None:
            found, pull_back = jax.vjp(lambda r, s: here(r, v_here, s), rows, shared)
        else:
            found, pull_back = jax.vjp(here, rows, v_here, shared)
        # The share of these columns in the log-sum-exp of all.
        d_exponents = jax.tree.map(
            lambda d, x, all_of: d * jnp.exp(x - all_of),
            d_reduced.exponents,
            found[1],
            log_sums,
        )
        changes = pull_back((d_reduced.sums, d_exponents))
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
    start = zeros[0], zeros[2], (columns, others[1]), d_columns
    (d_rows, d_shared, _, d_columns), _ = _turns(tiling, turn, start)
    found = d_rows, d_columns if constant is None else zeros[1], d_shared
    return jax.tree.map(lambda d, x: d.astype(x.dtype), found, floats), None


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
