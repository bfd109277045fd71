"""Points with which clusters start."""

from functools import partial

import jax
import jax.numpy as jnp

from sphax._class_axis import vary_alike
from sphax._masking import zero_masked
from sphax._numerics import divide, dot
from sphax.distributions._blocks import sum_over_blocks
from sphax.sphere import direction, length


def spread_points(key, points, weights, clusters, block_size):
    """Directions of points far from each other, ``[clusters, d]`` (k-means++)."""

    def measure(rows, is_new):
        del is_new
        lengths = length(zero_masked(*rows)).astype(weights.dtype)
        largest = jnp.finfo(weights.dtype).max
        return (), jnp.minimum(divide(jnp.ones_like(lengths), lengths), largest)

    # Each center then costs one pass through the points that does little more than
    # read them.
    _, inverse = sum_over_blocks(measure, (points, weights), block_size)

    def unit(x, weight, inverse):
        return zero_masked(x, weight).astype(weights.dtype) * inverse[:, None]

    def of_block(center, rows, is_new):
        del is_new
        *rows, distance = rows
        # By difference: 0 for a copy of the center.
        gap = unit(*rows) - center
        return (), jnp.minimum(distance, 0.5 * dot(gap, gap))

    def add_center(number, state):
        centers, distance = state
        place = jax.random.categorical(
            jax.random.fold_in(key, number), jnp.log(weights * distance)
        )
        center = unit(points[place][None], weights[place][None], inverse[place][None])
        _, distance = sum_over_blocks(
            partial(of_block, center), (points, weights, inverse, distance), block_size
        )
        return centers.at[number].set(center[0]), distance

    # Zero vectors are never drawn.
    distance = (inverse > 0.0).astype(weights.dtype)
    centers = jnp.zeros((clusters, points.shape[1]), weights.dtype)
    start, *_ = vary_alike((centers, distance), key, points, weights)
    return jax.lax.fori_loop(0, clusters, add_center, start)[0]


def random_points(key, points, weights, clusters, block_size):
    """Directions of points drawn without replacement, ``[clusters, d]``."""
    del block_size
    order = jnp.log(weights) + jax.random.gumbel(key, weights.shape, weights.dtype)
    places = jax.lax.top_k(order, clusters)[1]
    drawn = zero_masked(points[places], weights[places])
    return direction(drawn).astype(weights.dtype)


def move_empty(centers, is_empty, rows, badness):
    """Centers, of which the empty ones are moved to the worst points, one to each.

    Args:
        centers: Unit vectors, ``[clusters, d]``.
        is_empty: Which are moved, ``[clusters]``.
        rows: Points and weights, ``[n, d]`` and ``[n]``.
        badness: The larger, the worse a point, ``[n]``; minus infinity for one that is
            never taken.
    """
    points, weights = rows
    places = jax.lax.top_k(badness, len(centers))[1]
    places = places[jnp.cumsum(is_empty) - 1]
    others = direction(zero_masked(points[places], weights[places]))
    is_moved = is_empty & (badness[places] > -jnp.inf)
    return jnp.where(is_moved[:, None], others.astype(centers.dtype), centers)
