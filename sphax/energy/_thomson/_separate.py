"""Directions as far apart as possible: fixed prototypes of classes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_count, check_key, check_range
from sphax._compiled import compiled
from sphax.energy._ranking import as_similarities, ranking_of_cosines
from sphax.energy._theory._bounds import closest_angle_bound
from sphax.energy._thomson._lbfgs_minimizer import minimize
from sphax.sphere import direction, inner_products, sample_uniform

# Sharpnesses of the largest cosine, each from the minimum of the one before. Every
# second start begins at the second: a softer maximum has fewer local minima, some of
# them worse (of 14 points in three dimensions, all starts then found the same).
_SHARPNESSES = 4.0 ** np.arange(2, 10)
# Pairs of all restarts that run side by side; at least one restart runs.
_PAIRS = 512**2
_HISTORY = 10
# Differences of values up to so many epsilons are taken for rounding.
_ROUNDINGS = 8.0


class SeparatedPrototypes(NamedTuple):
    """The result of :func:`separated_prototypes`.

    Attributes:
        prototypes: Unit vectors, ``[n, d]``.
        max_cosine: Cosine of their closest pair, a scalar.
        bound: The least that it can be for n directions in d dimensions, as far as is
            known: the cosine of :func:`closest_angle_bound`, a scalar.
        max_cosines: The same of each start, ``[starts]``; with a closed form of one.

    Example:
        >>> sx.energy.SeparatedPrototypes._fields
        ('prototypes', 'max_cosine', 'bound', 'max_cosines')
    """

    prototypes: jax.Array
    max_cosine: jax.Array
    bound: jax.Array
    max_cosines: jax.Array


def separated_prototypes(
    key: jax.Array | None,
    n: int,
    d: int,
    *,
    similarities: jax.typing.ArrayLike | None = None,
    ranking_weight: jax.typing.ArrayLike = 1.0,
    restarts: int = 8,
    steps: int = 300,
    dtype: jax.typing.DTypeLike | None = None,
) -> SeparatedPrototypes:
    r"""Directions as far apart as possible, as fixed prototypes of n classes.

    The largest cosine of a pair is as small as possible, by closed form where one is
    known:

    ====================  =====================  =======================
    number                directions             largest cosine
    ====================  =====================  =======================
    :math:`n \le d + 1`   a regular simplex      :math:`-1 / (n - 1)`
    :math:`d = 2`         a regular polygon      :math:`\cos(2 \pi / n)`
    :math:`n \le 2 d`     of a cross-polytope    0
    ====================  =====================  =======================

    Otherwise, from random starts, limited-memory BFGS minimizes

    .. math::
        \frac1b \log \sum_{i \ne j} e^{b\, x_i \cdot x_j}
        \ge \max_{i \ne j} x_i \cdot x_j

    for a sharpness b that rises to 262144, as :func:`minimize_energy` does its
    objective. There are many local minima, and no guarantee: compare ``max_cosine``
    with ``bound``, and with ``max_cosines`` of the other starts. Every start takes
    memory of :math:`n^2`.

    With ``similarities`` of the classes, such as cosines of word vectors, the
    prototypes of similar classes are closer to each other. Then, for every number and
    dimension, what is minimized is the paper's sum of separation and ranking,

    .. math::
        \operatorname{mean}_i \max_{j \ne i} x_i \cdot x_j + \lambda R(x)

    with :func:`semantic_ranking` :math:`R`, and the maximum again as the limit of its
    smooth form. The two act against each other: ranked prototypes are less far apart,
    and in few dimensions two of them may coincide, which ``max_cosine`` shows. Then
    take a smaller weight.

    Use the prototypes in :func:`sphax.losses.hyperspherical_prototype`, or without
    training them in :func:`sphax.losses.margin_softmax` (for the simplex, a "fixed ETF
    head"). The function is not differentiable in reverse.

    Args:
        key: PRNG key of the random starts; may be None where a closed form is used.
        n: Number of directions, 2 or more.
        d: Dimensions, 2 or more.
        similarities: Of every class to every class, floating, ``[n, n]``; only the
            order in each row counts, and the diagonal does not.
        ranking_weight: :math:`\lambda`, 0 or more, a scalar.
        restarts: Number of random starts.
        steps: Largest number of evaluations for each start and sharpness.
        dtype: Floating dtype of the prototypes; by default JAX's, float32 unless x64 is
            enabled. Half precision is computed in float32.

    Returns:
        The best result of all starts, a :class:`SeparatedPrototypes`: with the smallest
        ``max_cosine``, or, with ``similarities``, the smallest sum. ``max_cosine`` and
        ``bound`` are in float32 at least. Closed forms are exact up to rounding.

    Raises:
        TypeError: If a dtype is not floating, or a key is needed and not given.
        ValueError: If a number is out of range or similarities are not ``[n, n]``.

    Example:
        >>> found = sx.energy.separated_prototypes(None, 3, 2)
        >>> print(found.prototypes)
        [[ 1.         0.       ]
         [-0.5        0.8660254]
         [-0.5       -0.8660254]]
        >>> print(found.max_cosine, found.bound)
        -0.5 -0.5

    References:
        Mettes, van der Pol, Snoek, `Hyperspherical Prototype Networks
        <https://arxiv.org/abs/1901.10514>`_, NeurIPS 2019.
    """
    check_count("n", n, 2)
    check_count("d", d, 2)
    check_count("restarts", restarts)
    check_count("steps", steps)
    check_range("ranking_weight", ranking_weight, 0.0)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}.")
    dtype = jnp.dtype(dtype or jnp.result_type(float))
    wide = jnp.promote_types(dtype, jnp.float32)
    lowest = math.cos(closest_angle_bound(n, d))
    bound = jnp.asarray(lowest, wide)
    if similarities is None and (n <= 2 * d or d == 2):
        points = jnp.asarray(_closed_form(n, d), dtype)
        return SeparatedPrototypes(points, bound, bound, jnp.asarray([lowest], wide))
    if similarities is not None:
        similarities = as_similarities(similarities, n).astype(wide)
    check_key(key)
    assert key is not None
    starts = sample_uniform(key, (restarts, n, d), wide)
    weight = jnp.asarray(ranking_weight, wide)
    points, largest, cosines = _separate(starts, similarities, weight, steps=int(steps))
    return SeparatedPrototypes(points.astype(dtype), largest, bound, cosines)


def _closed_form(n: int, d: int) -> np.ndarray:
    """Directions whose largest cosine is the bound, ``[n, d]``, in float64."""
    points = np.zeros((n, d))
    if n <= d + 1:
        # Row by row, each is what its products with the rows before leave, and a
        # positive number that makes it a unit vector.
        left = n - np.arange(n - 1)
        points[np.arange(n - 1), np.arange(n - 1)] = np.sqrt(
            n / (n - 1) * (left - 1) / left
        )
        below = -np.sqrt(n / (n - 1) / (left * (left - 1)))
        points[:, : n - 1] += np.tril(np.broadcast_to(below, (n, n - 1)), -1)
    elif d == 2:
        angles = 2 * np.pi * np.arange(n) / n
        points[:] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    else:
        points[:d], points[d:] = np.eye(d), -np.eye(d)[: n - d]
    return points


@compiled("steps")
def _separate(starts, similarities, weight, *, steps):
    restarts, n, _ = starts.shape
    epsilon = float(jnp.finfo(starts.dtype).eps)
    sharpnesses = jnp.asarray(_SHARPNESSES, starts.dtype)

    def objective(points, sharpness):
        cosines = _pair_cosines(points)
        if similarities is None:
            return jax.nn.logsumexp(sharpness * cosines) / sharpness
        largest = jax.nn.logsumexp(sharpness * cosines, axis=-1) / sharpness
        ranking = ranking_of_cosines(cosines, similarities, jnp.ones_like(largest))
        return jnp.mean(largest) + weight * ranking

    def sharpen(points, sharpness):
        end = minimize(
            jax.value_and_grad(lambda x: n * objective(x, sharpness)),
            points,
            steps=steps,
            tolerance=math.sqrt(n * epsilon),
            noise=_ROUNDINGS * epsilon * n,
            history=_HISTORY,
        )
        return direction(end.point), end.value

    def descend(start):
        points, first = start
        rising = jnp.maximum(sharpnesses, first)
        points, values = jax.lax.scan(sharpen, direction(points), rising)
        largest = jnp.max(_pair_cosines(points))
        return points, largest, largest if similarities is None else values[-1]

    firsts = sharpnesses[jnp.arange(restarts) % 2]
    # So many side by side that none of the starts is left over.
    most = max(1, _PAIRS // n**2)
    side_by_side = max(
        k for k in range(1, restarts + 1) if restarts % k == 0 and k <= most
    )
    points, cosines, values = jax.lax.map(
        descend, (starts, firsts), batch_size=side_by_side
    )
    best = jnp.argmin(values)
    return points[best], cosines[best], cosines


def _pair_cosines(points: jax.Array) -> jax.Array:
    """Cosines of all pairs, ``[n, n]``; minus infinity on the diagonal."""
    units = direction(points)
    cosines = inner_products(units, units, precision="highest")
    return jnp.where(jnp.eye(len(points), dtype=bool), -jnp.inf, cosines)
