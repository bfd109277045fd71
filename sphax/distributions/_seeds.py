"""Points with which clusters start."""

from functools import partial

import jax
import jax.numpy as jnp

from sphax._class_axis import vary_alike
from sphax._masking import zero_masked
from sphax._numerics import dot
from sphax.distributions._blocks import sum_over_blocks
from sphax.sphere import direction


def spread_points(key, points, weights, clusters, block_size):
    """Directions of points far from each other, ``[clusters, d]`` (k-means++)."""

    def of_block(center, rows, is_new):
        del is_new
        x, weight, distance = rows
        unit = direction(zero_masked(x, weight)).astype(weight.dtype)
        # By difference: 0 for a copy of the center. Zero vectors are never drawn.
        gap = unit - center[None]
        has_direction = jnp.any(unit != 0.0, axis=-1)
        own = jnp.where(has_direction, 0.5 * dot(gap, gap), 0.0)
        return (), jnp.minimum(distance, own)

    def add_center(number, state):
        centers, distance = state
        place = jax.random.categorical(
            jax.random.fold_in(key, number), jnp.log(weights * distance)
        )
        drawn = zero_masked(points[place][None], weights[place][None])
        center = direction(drawn)[0].astype(weights.dtype)
        _, distance = sum_over_blocks(
            partial(of_block, center), (points, weights, distance), block_size
        )
        return centers.at[number].set(center), distance

    d = points.shape[1]
    # Of one distance to all, which is as far from a zero vector.
    _, distance = sum_over_blocks(
        partial(of_block, jnp.zeros(d, weights.dtype)),
        (points, weights, jnp.ones_like(weights)),
        block_size,
    )
    centers = jnp.zeros((clusters, d), weights.dtype)
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
