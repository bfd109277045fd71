"""Spherical k-means: clusters of directions, by cosines."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_floating,
    as_points,
    check_choice,
    check_count,
    check_key,
    check_range,
)
from sphax._class_axis import vary_alike
from sphax._compiled import compiled
from sphax._linalg import product
from sphax._masking import zero_masked
from sphax._numerics import divide, dot
from sphax.distributions._blocks import (
    as_block_size,
    check_row_weights,
    row_weights,
    sum_over_blocks,
)
from sphax.distributions._seeds import move_empty, random_points, spread_points
from sphax.sphere import direction

Initial = Literal["plus_plus", "random"]


class SphericalKMeans(NamedTuple):
    """The result of :func:`spherical_kmeans`.

    Attributes:
        centers: Unit vectors, ``[clusters, d]``.
        labels: Cluster of each point, int32, ``[n]``: that of the center with the
            largest cosine, the first of several; -1 for a point of weight 0.
        objective: Weighted mean of the cosine between a point and its center, a scalar.
        iterations: How often points were assigned to centers, int32, a scalar.

    Example:
        >>> sx.distributions.SphericalKMeans._fields
        ('centers', 'labels', 'objective', 'iterations')
    """

    centers: jax.Array
    labels: jax.Array
    objective: jax.Array
    iterations: jax.Array


class _Assigned(NamedTuple):
    """Points assigned to centers, and what follows for the centers."""

    labels: jax.Array
    objective: jax.Array
    better: jax.Array  # the centers of the next iteration


def spherical_kmeans(
    points: jax.typing.ArrayLike,
    clusters: int,
    *,
    key: jax.Array | None = None,
    iterations: int | jax.Array = 100,
    tolerance: float = 1e-6,
    restarts: int = 1,
    initial: Initial | jax.typing.ArrayLike = "plus_plus",
    weights: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> SphericalKMeans:
    r"""Clusters directions around centers on the sphere (spherical k-means).

    .. math::
        \max_{c_1, \dots, c_K \in S^{d - 1}}
        \frac{\sum_i w_i \max_j \langle \hat x_i, c_j \rangle}{\sum_i w_i}

    Each iteration assigns every point to the center with the largest cosine, the first
    of several, and moves every center to the direction of the sum of its points. The
    objective never falls. The center of an empty cluster moves to the point that is
    farthest from its own center; several such centers move to as many points.

    The end is a local maximum, which depends on the start; restarts keep the best.
    Products are at the highest precision, since cosines near 1 matter. Memory beyond
    the points is a few numbers for each point, and the arrays of one block. The
    function is not differentiable in reverse.

    Args:
        points: :math:`x`, floating, ``[n, d]``; their lengths do not count. A zero
            vector has cosine 0 to every center.
        clusters: :math:`K`, at most n.
        key: PRNG key of the random start; not used with centers as ``initial``.
        iterations: Largest number of iterations.
        tolerance: The iterations end when the mean of one minus the cosine falls by
            less than this share of it, 0 or more.
        restarts: Number of random starts, of which the best result is kept.
        initial: The start. ``"plus_plus"``: points drawn one after the other, with
            probabilities in proportion to one minus the cosine to the nearest center so
            far (k-means++). ``"random"``: points drawn without replacement. Or centers,
            floating, ``[K, d]``, whose lengths do not count.
        weights: :math:`w`, floating, 0 or more, ``[n]``; by default 1.
        where: Mask, or more weights, ``[n]``. Points of weight 0 are left out.
        block_size: Number of points whose cosines are in memory together; by default
            chosen for about two million numbers.

    Returns:
        A :class:`SphericalKMeans`, in float32 at least. If all weights are 0, the
        objective is 0.

    Raises:
        TypeError: If ``points`` is not floating, or ``key`` is needed and not a key.
        ValueError: If shapes do not fit, there are fewer points than clusters, or an
            option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.1], [2.0, 0.0], [0.1, 1.0], [0.0, 3.0]])
        >>> found = sx.distributions.spherical_kmeans(x, 2, initial=x[1:3])
        >>> print(found.labels, found.objective)
        [0 0 1 1] 0.9987584

    References:
        Dhillon and Modha, `Concept decompositions for large sparse text data using
        clustering <https://doi.org/10.1023/A:1007612920971>`_, Machine Learning 42,
        2001.
        Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA
        2007.
    """
    points = as_points("points", points)
    if points.ndim != 2:
        raise ValueError(f"points must be [n, d], got shape {points.shape}.")
    n, d = points.shape
    check_count("clusters", clusters)
    if n < clusters:
        raise ValueError(
            f"clusters must be at most the number of points, {n}, got {clusters}."
        )
    check_count("iterations", iterations, may_be_traced=True)
    check_range("tolerance", tolerance, 0.0)
    check_count("restarts", restarts)
    if block_size is not None:
        check_count("block_size", block_size)
    centers = None
    if isinstance(initial, str):
        check_choice("initial", initial, ("plus_plus", "random"))
        check_key(key)
    else:
        centers = _as_centers(initial, clusters, d, restarts)
    return _spherical_kmeans(
        key if centers is None else None,
        points,
        centers,
        check_row_weights(weights, where, points),
        tolerance,
        iterations,
        clusters=int(clusters),
        initial=initial if isinstance(initial, str) else None,
        restarts=int(restarts),
        block_size=as_block_size(block_size, n, max(int(clusters), d)),
    )


def _as_centers(initial, clusters, d, restarts):
    """Centers given as the start; raises unless ``[clusters, d]``."""
    centers = as_floating("initial", initial)
    if centers.shape != (clusters, d):
        raise ValueError(
            'initial must be "plus_plus", "random" or centers [clusters, d] ='
            f" [{clusters}, {d}], got shape {centers.shape}."
        )
    if restarts > 1:
        raise ValueError(
            "restarts are random starts, and the centers in initial take their place,"
            f" got restarts={restarts}: leave one."
        )
    return centers


@compiled("clusters", "initial", "restarts", "block_size")
def _spherical_kmeans(
    key,
    points,
    centers,
    given,
    tolerance,
    iterations,
    *,
    clusters,
    initial,
    restarts,
    block_size,
):
    weights = row_weights(points, given)
    climb = partial(_climb, points, weights, tolerance, iterations, block_size)
    if centers is not None:
        return climb(direction(centers).astype(weights.dtype))
    start = {"plus_plus": spread_points, "random": random_points}[initial]

    def restart(best, key):
        found = climb(start(key, points, weights, clusters, block_size))
        # A NaN is kept.
        is_better = ~(found.objective <= best.objective)
        return jax.tree.map(partial(jnp.where, is_better), found, best), None

    n, d = points.shape
    nothing = SphericalKMeans(
        jnp.zeros((clusters, d), weights.dtype),
        jnp.zeros(n, jnp.int32),
        jnp.full((), -jnp.inf, weights.dtype),
        jnp.zeros((), jnp.int32),
    )
    nothing, *_ = vary_alike(nothing, key, points, weights)
    return jax.lax.scan(restart, nothing, jax.random.split(key, restarts))[0]


def _climb(points, weights, tolerance, iterations, block_size, centers):
    """Iterations from these centers on."""

    def goes_on(state):
        _, _, now, before, count = state
        gain = now.objective - before
        return (count < iterations) & (
            (count < 2) | (gain > tolerance * (1.0 - before))
        )

    def iterate(state):
        _, centers, last, _, count = state
        now = _assign(points, weights, centers, block_size)
        return centers, now.better, now, last.objective, count + 1

    zero = jnp.zeros((), weights.dtype)
    nothing = _Assigned(jnp.zeros(len(points), jnp.int32), zero, centers)
    start = (centers, centers, nothing, zero, jnp.int32(0))
    start, *_ = vary_alike(start, points, weights)
    centers, _, now, _, count = jax.lax.while_loop(goes_on, iterate, start)
    return SphericalKMeans(centers, now.labels, now.objective, count)


def _assign(points, weights, centers, block_size):
    numbers = jnp.arange(len(centers), dtype=jnp.int32)

    def of_block(rows, is_new):
        x, weight = rows
        unit = direction(zero_masked(x, weight)).astype(weight.dtype)
        cosines = product(unit, centers.mT)
        labels = jnp.argmax(cosines, axis=-1).astype(jnp.int32)
        largest = jnp.max(cosines, axis=-1)
        members = (labels[:, None] == numbers[None]) * (weight * is_new)[:, None]
        has_direction = jnp.any(unit != 0.0, axis=-1)
        farness = jnp.where(has_direction, -largest, -jnp.inf)
        labels = jnp.where(weight == 0.0, -1, labels)
        return product(members.mT, unit), (labels, largest, farness)

    sums, (labels, largest, farness) = sum_over_blocks(
        of_block, (points, weights), block_size
    )
    objective = divide(dot(weights, largest), jnp.sum(weights))
    better = direction(sums)
    is_empty = jnp.all(better == 0.0, axis=-1)

    better = jax.lax.cond(
        jnp.any(is_empty),
        # A center without points, nor any other to move to, stays.
        lambda: move_empty(
            jnp.where(is_empty[:, None], centers, better),
            is_empty,
            (points, weights),
            farness,
        ),
        lambda: better,
    )
    return _Assigned(labels, objective, better)
