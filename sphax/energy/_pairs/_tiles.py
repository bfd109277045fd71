"""The mean energy of pairs and its gradients, from one sweep over tiles of pairs.

The energies of a tile are computed once, give their sum and its gradients, and are
discarded: nothing has the size of all pairs. Gradients that are not used are removed by
the compiler.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from sphax._masking import total_pair_weight, zero_masked
from sphax._numerics import divide, dot, widen
from sphax.energy._pairs._riesz import pair_energies
from sphax.sphere import direction


class EnergyOptions(NamedTuple):
    """Options of an energy that are fixed when it is compiled."""

    is_geodesic: bool
    half_space: bool
    power: float | None  # None where the power is an array
    block_size: int
    axes: tuple[str, ...] = ()  # of the mesh, along which points are split


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def mean_within(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """Mean energy of the ordered pairs of two points, ``[n, d]``; 0 without a pair.

    A pair has the product of the weights ``[n]``.
    """
    return mean_within_and_gradients(options, power, points, weights)[0]


@partial(mean_within.defjvp, symbolic_zeros=True)
def _mean_within_jvp(options, primals, tangents):
    return with_change(*mean_within_and_gradients(options, *primals), tangents)


def mean_within_and_gradients(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, tuple[Any, jax.Array, jax.Array]]:
    """The mean, and its gradients in power, points and weights."""
    blocks, block_weights, ids = blocks_of(options, points, weights)
    rows = directions(blocks, block_weights), block_weights
    total, d_power, (d_units, d_weights) = sum_within(options, power, (rows, ids))

    pair_weight, d_pair_weight = jax.value_and_grad(total_pair_weight)(weights)
    mean = divide(total, pair_weight)
    d_power, d_units = jax.tree.map(
        lambda x: divide(x, pair_weight), (d_power, d_units)
    )
    d_points = pull_back(blocks, block_weights, d_units)
    d_points, d_weights = from_blocks((d_points, d_weights), len(points))
    d_weights = divide(d_weights - mean * d_pair_weight, pair_weight)
    return mean, (d_power, d_points, d_weights)


def sum_within(
    options: EnergyOptions, power: jax.Array | None, side: Any
) -> tuple[jax.Array, Any, Any]:
    """Sum over the ordered pairs of two rows, and its gradients in power and rows.

    Rows are blocks ``((directions, weights), ids)``. A pair has the product of its
    weights.
    """
    rows, ids = side
    # Tiles on the diagonal. Energies are symmetric, and so the gradient in the second
    # points of the pairs is that in the first.
    step = jax.value_and_grad(partial(_tile_sum, options), (0, 1))
    total, (d_power, d_rows) = _map_blocks(
        lambda block: step(power, block[0], block[0], block[1], block[1]), side
    )
    total, d_power = _sum((total, d_power))
    if len(ids) > 1:
        # Each tile above the diagonal has the same sum as the one opposite, below it.
        tiles = np.triu_indices(len(ids), 1)
        start = d_rows, jax.tree.map(jnp.zeros_like, d_rows)
        above, d_above, d_rows = sum_tiles(options, power, side, side, start, tiles)
        total = total + 2.0 * above
        d_power = jax.tree.map(lambda x, y: x + 2.0 * y, d_power, d_above)
        d_rows = jax.tree.map(jnp.add, *d_rows)
    return total, d_power, jax.tree.map(lambda x: 2.0 * x, d_rows)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def mean_between(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
    others: jax.Array,
    others_weights: jax.Array,
    self_index: jax.Array,
) -> jax.Array:
    """Mean energy of the pairs of points, ``[n, d]``, and others, ``[m, d]``.

    A pair has the product of the weights ``[n]`` and ``[m]``. Point i makes no pair
    with the other of number ``self_index[i]``. The mean is 0 without a pair.
    """
    return mean_between_and_gradients(
        options, power, points, weights, others, others_weights, self_index
    )[0]


@partial(mean_between.defjvp, symbolic_zeros=True)
def _mean_between_jvp(options, primals, tangents):
    value, gradients = mean_between_and_gradients(options, *primals)
    *tangents, _ = tangents  # integers have none
    return with_change(value, gradients, tangents)


def mean_between_and_gradients(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
    others: jax.Array,
    others_weights: jax.Array,
    self_index: jax.Array,
) -> tuple[jax.Array, tuple[Any, jax.Array, jax.Array, jax.Array, jax.Array]]:
    """The mean, and its gradients in all arguments that are floating."""
    numbers = jnp.arange(len(others), dtype=jnp.int32)
    blocks, block_weights, ids = into_blocks(
        (points, weights, self_index), options.block_size
    )
    other_blocks, other_block_weights, other_ids = into_blocks(
        (others, others_weights, numbers), options.block_size
    )
    left = (directions(blocks, block_weights), block_weights), ids
    right = (
        (directions(other_blocks, other_block_weights), other_block_weights),
        other_ids,
    )
    start = jax.tree.map(jnp.zeros_like, (left[0], right[0]))
    tiles = np.indices((len(ids), len(other_ids))).reshape(2, -1)
    total, d_power, d_rows = sum_tiles(options, power, left, right, start, tiles)

    pair_weight, (d_pair_weight, d_other_pair_weight) = jax.value_and_grad(
        weight_between, (0, 1)
    )(weights, others_weights, self_index)
    mean = divide(total, pair_weight)
    d_power, ((d_units, d_weights), (d_other_units, d_other_weights)) = jax.tree.map(
        lambda x: divide(x, pair_weight), (d_power, d_rows)
    )
    d_points = pull_back(blocks, block_weights, d_units)
    d_others = pull_back(other_blocks, other_block_weights, d_other_units)
    d_points, d_weights = from_blocks((d_points, d_weights), len(points))
    d_others, d_other_weights = from_blocks((d_others, d_other_weights), len(others))
    d_weights -= divide(mean * d_pair_weight, pair_weight)
    d_other_weights -= divide(mean * d_other_pair_weight, pair_weight)
    return mean, (d_power, d_points, d_weights, d_others, d_other_weights)


def weight_between(
    weights: jax.Array, others_weights: jax.Array, self_index: jax.Array
) -> jax.Array:
    """Sum of the weights of the pairs of points and others."""
    if not len(others_weights):
        return jnp.zeros_like(jnp.sum(weights))
    is_row = (self_index >= 0) & (self_index < len(others_weights))
    rows = jnp.where(is_row, self_index, 0)
    self_weights = jnp.where(is_row, others_weights[rows], 0.0)
    return dot(weights, jnp.sum(others_weights) - self_weights)


def with_change(value, gradients, tangents):
    """The value, and its change along tangents."""
    change = jnp.zeros_like(value)
    for gradient, tangent in zip(gradients, tangents, strict=True):
        # The gradient of an argument that is not differentiated stays unused.
        if tangent is not None and not isinstance(tangent, SymbolicZero):
            change += jnp.sum(gradient.astype(value.dtype) * tangent)
    return value, change


def _tile_sum(options, power, rows, others, ids, other_ids):
    """Sum of the weighted energies of a tile; equal ids are no pair."""
    (u, weights), (v, other_weights) = rows, others
    energies = pair_energies(
        power if options.power is None else options.power,
        u,
        v,
        ids[:, None] != other_ids[None, :],
        is_geodesic=options.is_geodesic,
        half_space=options.half_space,
    )
    # Columns first: that sum is vectorized, and rounds less.
    columns = jnp.sum(weights[:, None] * energies, axis=0)
    return jnp.sum(columns * other_weights)


def sum_tiles(options, power, left, right, d_rows, tiles):
    """Sum over tiles, its gradient in the power, and ``d_rows`` with those in rows.

    Args:
        options: What energy it is.
        power: Its power.
        left: Blocks of the first points of pairs, ``((directions, weights), ids)``.
        right: Blocks of the second points.
        d_rows: Where to add the gradients in the rows of the left and the right.
        tiles: Numbers of the left and the right block of each tile.
    """
    step = jax.value_and_grad(partial(_tile_sum, options), (0, 1, 2))

    def add_tile(d_rows, tile):
        i, j = tile
        (rows, ids), (others, other_ids) = _block_at(left, i), _block_at(right, j)
        value, (d_power, d_left, d_right) = step(power, rows, others, ids, other_ids)
        # A total for each side: two updates of one array would copy it every time.
        d_rows = _add_at(d_rows[0], i, d_left), _add_at(d_rows[1], j, d_right)
        return d_rows, (value, d_power)

    tiles = tuple(jnp.asarray(i, dtype=jnp.int32) for i in tiles)
    d_rows, values = jax.lax.scan(add_tile, d_rows, tiles)
    total, d_power = _sum(values)
    return total, d_power, d_rows


def _block_at(blocks, i):
    return jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), blocks
    )


def _add_at(blocks, i, change):
    changed = jax.tree.map(jnp.add, _block_at(blocks, i), change)
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, i, 0), blocks, changed
    )


def _sum(stacked):
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), stacked)


def directions(points, weights):
    return direction(widen(zero_masked(points, weights)))


def pull_back(blocks, weights, d_units):
    """The gradient in points, block by block: nothing is kept for it."""

    def pull_back(args):
        points, weights, d_units = args
        return jax.vjp(lambda x: directions(x, weights), points)[1](d_units)[0]

    return _map_blocks(pull_back, (blocks, weights, d_units))


def blocks_of(
    options: EnergyOptions, points: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points and weights in blocks, and the numbers of the points."""
    numbers = jnp.arange(len(points), dtype=jnp.int32)
    return into_blocks((points, weights, numbers), options.block_size)


def into_blocks(tree: Any, block_size: int) -> Any:
    """Arrays ``[n, ...]`` in equal blocks, ``block_size`` at most, padded by zeros."""
    n = jax.tree.leaves(tree)[0].shape[0]
    count = max(1, -(-n // block_size))
    size = max(1, -(-n // count))

    def split(x):
        if count * size > n:
            x = jnp.pad(x, ((0, count * size - n), *((0, 0),) * (x.ndim - 1)))
        return x.reshape(count, size, *x.shape[1:])

    return jax.tree.map(split, tree)


def from_blocks(tree: Any, n: int) -> Any:
    """The inverse of :func:`into_blocks`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], tree)


def _map_blocks(function: Callable[[Any], Any], blocks: Any) -> Any:
    """``function`` of each block, one after the other.

    A single block goes without a loop, which costs more to trace than what is in it.
    """
    if jax.tree.leaves(blocks)[0].shape[0] > 1:
        return jax.lax.map(function, blocks)
    result = function(jax.tree.map(lambda x: jnp.squeeze(x, 0), blocks))
    return jax.tree.map(lambda x: jnp.expand_dims(x, 0), result)
