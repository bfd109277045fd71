"""Sums over pairs with their gradients, a tile of pairs at a time.

The energies of a tile are formed once, give their sum and its gradients, and are
forgotten: nothing has the size of all pairs. Of a set with itself, the tiles above the
diagonal count twice. What is not used of the results, the compiler leaves out.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rows(NamedTuple):
    """What a sum is a function of, in blocks, ``[count, size, ...]``."""

    directions: jax.Array  # unit vectors
    weights: jax.Array


class Side(NamedTuple):
    """One side of the pairs."""

    rows: Rows
    ids: jax.Array  # rows of the same number are no pair


# From a parameter, directions [n, d] and [m, d] and what is a pair, energies [n, m].
Energies = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


def into_blocks(tree: Any, block_size: int) -> Any:
    """Arrays ``[n, ...]`` in equal blocks, ``block_size`` at most, padded by zeros."""
    n = jax.tree.leaves(tree)[0].shape[0]
    count = max(1, -(-n // block_size))
    size = max(1, -(-n // count))

    def split(x):
        padding = ((0, count * size - n), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, padding).reshape(count, size, *x.shape[1:])

    return jax.tree.map(split, tree)


def from_blocks(tree: Any, n: int) -> Any:
    """The inverse of :func:`into_blocks`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], tree)


def map_blocks(function: Callable[[Any], Any], blocks: Any) -> Any:
    """``function`` of each block, one after the other.

    A single block goes without a loop, which costs more to trace than what is in it.
    """
    if jax.tree.leaves(blocks)[0].shape[0] > 1:
        return jax.lax.map(function, blocks)
    result = function(jax.tree.map(lambda x: jnp.squeeze(x, 0), blocks))
    return jax.tree.map(lambda x: jnp.expand_dims(x, 0), result)


def sum_within(
    energies: Energies, parameter: Any, side: Side
) -> tuple[jax.Array, tuple[Any, Rows]]:
    """Over the ordered pairs of a set: the sum, its gradients in parameter and rows."""
    # Energies are symmetric: the gradient in the other side is the same.
    step = jax.value_and_grad(partial(_tile_sum, energies), (0, 1))
    values, (of_parameter, of_left) = map_blocks(
        lambda block: step(parameter, block.rows, block.rows, block.ids, block.ids),
        side,
    )
    value, of_parameter = _sum((values, of_parameter))
    of_right = jax.tree.map(jnp.zeros_like, of_left)
    if (count := len(side.ids)) > 1:
        above, (of_above, of_left, of_right) = _sum_tiles(
            energies,
            parameter,
            (side, side),
            (of_left, of_right),
            np.triu_indices(count, 1),
        )
        twice = jax.tree.map(lambda x: 2.0 * x, (above, of_above))
        value, of_parameter = _add((value, of_parameter), twice)
    of_rows = jax.tree.map(lambda x, y: 2.0 * (x + y), of_left, of_right)
    return value, (of_parameter, of_rows)


def sum_between(
    energies: Energies, parameter: Any, left: Side, right: Side
) -> tuple[jax.Array, tuple[Any, Rows, Rows]]:
    """Over the pairs of two sets: the sum, its gradients in parameter and rows."""
    sides = left, right
    zeros = jax.tree.map(jnp.zeros_like, tuple(side.rows for side in sides))
    tiles = np.indices([len(side.ids) for side in sides]).reshape(2, -1)
    return _sum_tiles(energies, parameter, sides, zeros, tiles)


def _sum_tiles(energies, parameter, sides, of_sides, tiles):
    """Sum over tiles and its gradients, those of the sides added to ``of_sides``."""
    step = jax.value_and_grad(partial(_tile_sum, energies), (0, 1, 2))

    def add_tile(totals, tile):
        left, right = map(_at, sides, tile)
        value, (of_parameter, *of_rows) = step(
            parameter, left.rows, right.rows, left.ids, right.ids
        )
        # A total for each side: two updates of one array would copy it every time.
        of_sides = tuple(map(_add_at, totals, tile, of_rows))
        return of_sides, (value, of_parameter)

    tiles = tuple(jnp.asarray(i, dtype=jnp.int32) for i in tiles)
    of_sides, values = jax.lax.scan(add_tile, of_sides, tiles)
    value, of_parameter = _sum(values)
    return value, (of_parameter, *of_sides)


def _tile_sum(energies, parameter, left, right, left_ids, right_ids):
    """Sum of the weighted energies of two blocks of rows."""
    is_pair = left_ids[:, None] != right_ids[None, :]
    values = energies(parameter, left.directions, right.directions, is_pair)
    # Columns first: that sum is vectorised, and rounds less.
    columns = jnp.sum(left.weights[:, None] * values, axis=0)
    return jnp.sum(columns * right.weights)


def _sum(stacked):
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), stacked)


def _at(blocks, i):
    return jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), blocks
    )


def _add(x, y):
    return jax.tree.map(jnp.add, x, y)


def _add_at(blocks, i, change):
    changed = _add(_at(blocks, i), change)
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, i, 0), blocks, changed
    )
