"""The mean energy of pairs of points that are split over devices, and its gradient.

Inside :func:`jax.shard_map`, each device has some of the points. Blocks of points pass
from device to device in a ring, each with the gradient that it collects, until every
two blocks have met on one of the devices: half a turn, and the way home. A device holds
its own block and a visiting one, and a tile of their pairs.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sphax._class_axis import vary_alike
from sphax._masking import total_pair_weight
from sphax._numerics import divide
from sphax.energy._pairs._tiles import (
    EnergyOptions,
    blocks_of,
    directions,
    from_blocks,
    pull_back,
    sum_tiles,
    sum_within,
    with_change,
)

# So many turns are no loop: on a CPU (jaxlib 0.10), programs with collectives in two
# loops, such as two energies have, run them at once and mix them up.
_UNROLLED = 8


def mean_over_devices(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """Mean energy of the ordered pairs of all devices' points, equal on all devices.

    Every device has as many points ``[n, d]``, with weights ``[n]``.
    """
    power, points, weights = _as_varying(options, power, points, weights)
    pair_weight = _total_pair_weight(options, weights)
    constant = jax.lax.stop_gradient(pair_weight)
    share = _share_of_mean(options, power, points, weights, constant)
    # The quotient is 1, and has the derivative of the mean's denominator.
    return jax.lax.psum(share, options.axes) * divide(constant, pair_weight)


def mean_over_devices_and_gradients(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, tuple[Any, jax.Array, jax.Array]]:
    """The mean, and its gradients as those of the shares, below, are."""
    power, points, weights = _as_varying(options, power, points, weights)
    pair_weight = _total_pair_weight(options, weights)
    share, gradients = _share_and_gradients(
        options, power, points, weights, pair_weight
    )
    return jax.lax.psum(share, options.axes), gradients


# The rule passes points around, but no derivative: of the collectives, only the sum
# over devices, outside of the rule, is differentiated. So it is right whether or not
# `shard_map` checks what varies. Its gradients are those of the mean, not of the share.
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _share_of_mean(options, power, points, weights, pair_weight):
    """This device's part of a sum over devices, which is the mean."""
    return _share_and_gradients(options, power, points, weights, pair_weight)[0]


@partial(_share_of_mean.defjvp, symbolic_zeros=True)
def _share_of_mean_jvp(options, primals, tangents):
    *tangents, _ = tangents  # the sum of weights is a constant
    return with_change(*_share_and_gradients(options, *primals), tangents)


def _share_and_gradients(options, power, points, weights, pair_weight):
    """The share, and the mean's gradients in power, points and weights.

    The first of these is a share as well, the others are of this device's points. The
    sum of the weights of all pairs is a constant.
    """
    blocks, block_weights, ids = blocks_of(options, points, weights)
    own = directions(blocks, block_weights), block_weights
    total, d_power, d_own = sum_within(options, power, (own, ids))

    devices = jax.lax.axis_size(options.axes)
    if devices > 1:
        turns = devices // 2
        # Half a turn apart, two devices hold each other's block, and count each pair
        # in one order. All other pairs are counted in both orders, once.
        counts = np.full(turns, 2.0, weights.dtype)
        if devices % 2 == 0:
            counts[-1] = 1.0
        start = vary_alike(own, ids), _shift(options, own, 1), *_zeros((own, own))
        (*_, d_away, d_here), more = jax.lax.scan(
            partial(_turn, options, power),
            start,
            jnp.asarray(counts),
            unroll=min(turns, _UNROLLED),
        )
        total, d_power = jax.tree.map(
            lambda x, y: x + jnp.sum(y, axis=0), (total, d_power), more
        )
        d_away = _shift(options, d_away, -turns - 1)
        d_own = jax.tree.map(lambda x, y, z: x + y + z, d_own, d_away, d_here)

    share, d_power, (d_units, d_weights) = jax.tree.map(
        lambda x: divide(x, pair_weight), (total, d_power, d_own)
    )
    d_points = pull_back(blocks, block_weights, d_units)
    return share, (d_power, *from_blocks((d_points, d_weights), len(points)))


def _turn(options, power, carry, count):
    """A block has arrived: its pairs with this device's own block."""
    side, visiting, d_visiting, d_own = carry
    # What depends on constants alone, JAX computes in front of a loop that is
    # differentiated, here for all tiles at once: so its own block is not constant.
    side = jax.lax.optimization_barrier(side)
    # Sent on before the work, so that it travels meanwhile.
    ahead = _shift(options, visiting, 1)
    own, ids = side
    tiles = np.indices((len(ids), len(ids))).reshape(2, -1)
    # No point of another device has the number of an own one.
    other = visiting, -1 - ids
    total, d_power, (left, right) = sum_tiles(
        options, power, side, other, _zeros((own, own)), tiles
    )
    d_own = jax.tree.map(lambda x, y: x + 2.0 * y, d_own, left)
    twice = 2.0 * (count - 1.0)
    d_visiting = jax.tree.map(lambda x, y: x + twice * y, d_visiting, right)
    d_visiting = _shift(options, d_visiting, 1)
    counted = jax.tree.map(lambda x: count * x, (total, d_power))
    return (side, ahead, d_visiting, d_own), counted


def _shift(options: EnergyOptions, tree: Any, steps: int) -> Any:
    """The arrays of the device so many steps before this one."""
    devices = jax.lax.axis_size(options.axes)
    pairs = [(i, (i + steps) % devices) for i in range(devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, options.axes, pairs), tree)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _as_varying(options: EnergyOptions, *arrays: Any) -> Any:
    """The arrays, typed as different on each device.

    Otherwise the gradients of equal ones would be summed over devices in every tile.
    """
    return vary_alike(*arrays, jax.lax.axis_index(options.axes))[:-1]


def _total_pair_weight(options: EnergyOptions, weights: jax.Array) -> jax.Array:
    """Sum of the weights of the ordered pairs of all devices' points."""
    axes = options.axes
    is_own = jnp.arange(jax.lax.axis_size(axes)) == jax.lax.axis_index(axes)
    sums = jax.lax.psum(jnp.where(is_own, jnp.sum(weights), 0.0), axes)
    return jax.lax.psum(total_pair_weight(weights), axes) + total_pair_weight(sums)
