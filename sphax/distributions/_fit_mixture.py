"""Mixtures of von Mises-Fisher distributions from points, by EM."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_points,
    check_choice,
    check_count,
    check_flag,
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
from sphax.distributions._fit import inverse
from sphax.distributions._mixture import Mixture
from sphax.distributions._seeds import move_empty, spread_points
from sphax.distributions._von_mises_fisher import VonMisesFisher
from sphax.sphere import direction, length

# A component with a smaller share of the points is empty.
_EMPTY = 1e-8


class MixtureFit(NamedTuple):
    """The result of :func:`fit_mixture`.

    Attributes:
        mixture: A :class:`Mixture` of :class:`VonMisesFisher` components.
        log_likelihood: Weighted sum of the log densities of the points under it, a
            scalar; with hard assignments, of the logarithms of the largest term of
            each density.
        labels: The most probable component of each point, int32, ``[n]``; -1 for a
            point of weight 0.
        iterations: How often points were assigned to components, int32, a scalar.
        converged: Whether the log likelihood rose by less than the tolerance in the
            end, a boolean scalar.

    Example:
        >>> sx.distributions.MixtureFit._fields
        ('mixture', 'log_likelihood', 'labels', 'iterations', 'converged')
    """

    mixture: Mixture
    log_likelihood: jax.Array
    labels: jax.Array
    iterations: jax.Array
    converged: jax.Array


class _Parameters(NamedTuple):
    """Those of the mixture: unit vectors ``[K, d]``, and ``[K]`` each."""

    mean: jax.Array
    concentration: jax.Array
    log_weight: jax.Array


class _Assigned(NamedTuple):
    """Points assigned to components, and what follows for the parameters."""

    labels: jax.Array
    log_likelihood: jax.Array
    better: _Parameters
    is_moved: jax.Array  # whether a component was empty


def fit_mixture(
    points: jax.typing.ArrayLike,
    components: int,
    *,
    key: jax.Array,
    assignments: Literal["soft", "hard"] = "soft",
    share_concentration: bool = False,
    iterations: int | jax.Array = 100,
    tolerance: float = 1e-6,
    max_concentration: float = 1e5,
    weights: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> MixtureFit:
    r"""Fits a mixture of von Mises-Fisher distributions by EM.

    The E step takes the probability of each component given a point,
    :math:`r_{ij} = \alpha_j p_j(x_i) / p(x_i)`, and the M step

    .. math::
        N_j = \sum_i w_i r_{ij}, \quad \alpha_j = N_j / \sum_i w_i, \quad
        s_j = \sum_i w_i r_{ij} \hat x_i, \quad \mu_j = s_j / \|s_j\|, \quad
        A_d(\kappa_j) = \|s_j\| / N_j

    With hard assignments, :math:`r_{ij}` is 1 for the most probable component and 0 for
    the others; with one shared concentration that grows, this is
    :func:`spherical_kmeans`. The log likelihood never falls, except where an empty
    component (a share below 1e-8, or a sum of zero) starts again: at the point of the
    lowest density, with the weight of one point and the median concentration of the
    others.

    The start is k-means++ and one M step with each point assigned to the nearest
    center. The end is a local maximum: fit with several keys, and keep the largest log
    likelihood. The likelihood of a component on a single point is unbounded in its
    concentration; ``max_concentration`` bounds it.

    Both steps go through the points once, block by block; products are at the highest
    precision. In float32 the concentration of a component is accurate while
    :math:`(d - 1) / 2 \kappa`, the mean of one minus the cosine, is far above 1e-7. The
    function is not differentiable in reverse.

    Args:
        points: :math:`x`, floating, ``[n, d]``; only their directions count, and zero
            rows do not count in the fit.
        components: :math:`K`, at most n.
        key: PRNG key of the random start.
        assignments: ``"soft"`` or ``"hard"``.
        share_concentration: Whether all components have one concentration, with
            :math:`A_d(\kappa) = \sum_j \|s_j\| / \sum_j N_j`.
        iterations: Largest number of iterations.
        tolerance: The iterations end when the log likelihood rises by less than this
            share of its magnitude, 0 or more.
        max_concentration: Largest concentration, positive.
        weights: :math:`w`, floating, 0 or more, ``[n]``; by default 1.
        where: Mask, or more weights, ``[n]``. Points of weight 0 are left out.
        block_size: Number of points whose densities are in memory together; by default
            chosen for about two million numbers.

    Returns:
        A :class:`MixtureFit`, in float32 at least.

    Raises:
        TypeError: If ``points`` is not floating, or ``key`` is not a random key.
        ValueError: If shapes do not fit, there are fewer points than components, or an
            option is out of range.

    Example:
        >>> two = sx.distributions.VonMisesFisher(jnp.eye(3)[:2], 50.0)
        >>> mixture = sx.distributions.Mixture(two, jnp.log(jnp.array([0.25, 0.75])))
        >>> points = mixture.sample(jax.random.key(0), (2000,))
        >>> found = sx.distributions.fit_mixture(points, 2, key=jax.random.key(1))
        >>> shares = jnp.sort(jnp.exp(found.mixture.log_weights))
        >>> bool(abs(shares[0] - 0.25) < 0.05)
        True

    References:
        Banerjee et al., `Clustering on the Unit Hypersphere using von Mises-Fisher
        Distributions <https://jmlr.org/papers/v6/banerjee05a.html>`_, JMLR 2005.
    """
    points = as_points("points", points)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(
            f"points must be [n, d] with d of 2 or more, got shape {points.shape}."
        )
    n, d = points.shape
    check_count("components", components)
    if n < components:
        raise ValueError(
            f"components must be at most the number of points, {n}, got {components}."
        )
    check_key(key)
    check_choice("assignments", assignments, ("soft", "hard"))
    check_flag("share_concentration", share_concentration)
    check_count("iterations", iterations, may_be_traced=True)
    check_range("tolerance", tolerance, 0.0)
    check_range("max_concentration", max_concentration, 0.0, exclude_low=True)
    if block_size is not None:
        check_count("block_size", block_size)
    return _fit_mixture(
        key,
        points,
        check_row_weights(weights, where, points),
        assignments == "hard",
        bool(share_concentration),
        max_concentration,
        tolerance,
        iterations,
        components=int(components),
        block_size=as_block_size(block_size, n, max(int(components), d)),
    )


@compiled("components", "block_size")
def _fit_mixture(
    key,
    points,
    given,
    is_hard,
    is_shared,
    max_concentration,
    tolerance,
    iterations,
    *,
    components,
    block_size,
):
    weights = row_weights(points, given)
    most = jnp.asarray(max_concentration, weights.dtype)

    def goes_on(state):
        _, _, now, before, count = state
        return (count < iterations) & ~_is_converged(now, before, count, tolerance)

    def iterate(state):
        _, parameters, last, _, count = state
        # Before the first iteration, points are assigned to the nearest centers.
        now = _expect_and_maximize(
            (points, weights),
            parameters,
            is_hard | (count < 0),
            is_shared,
            most,
            block_size,
        )
        return parameters, now.better, now, last.log_likelihood, count + 1

    # Of one concentration and one weight, so that the nearest center counts.
    ones = jnp.ones(components, weights.dtype)
    centers = spread_points(key, points, weights, components, block_size)
    nearest, zero = _Parameters(centers, ones, ones), jnp.zeros((), weights.dtype)
    nothing = _Assigned(jnp.zeros(len(points), jnp.int32), zero, nearest, zero > 0.0)
    start, *_ = vary_alike(
        (nearest, nearest, nothing, zero, jnp.int32(-1)), key, points, weights
    )
    parameters, _, now, before, count = jax.lax.while_loop(goes_on, iterate, start)
    return MixtureFit(
        Mixture(
            VonMisesFisher(parameters.mean, parameters.concentration),
            jax.nn.log_softmax(parameters.log_weight),
        ),
        now.log_likelihood,
        now.labels,
        count,
        _is_converged(now, before, count, tolerance),
    )


def _is_converged(now, before, count, tolerance):
    gain = now.log_likelihood - before
    is_small = ~(gain > tolerance * jnp.abs(now.log_likelihood))
    return (count >= 2) & ~now.is_moved & is_small


def _expect_and_maximize(rows, parameters, is_hard, is_shared, most, block_size):
    """An E step, in one pass through the points, and the M step that follows."""
    mean, k, log_weight = parameters
    numbers = jnp.arange(len(k), dtype=jnp.int32)
    highest = jnp.zeros((1, len(k)), k.dtype)
    peak = VonMisesFisher(mean, k).log_density(highest, 2.0 - highest)
    peak = peak + jax.nn.log_softmax(log_weight)[None]

    def of_block(rows, is_new):
        x, weight = rows
        unit = direction(zero_masked(x, weight)).astype(weight.dtype)
        has_direction = jnp.any(unit != 0.0, axis=-1)
        gap = 1.0 - jnp.clip(product(unit, mean.mT), -1.0, 1.0)
        logs = peak - k[None] * gap
        labels = jnp.argmax(logs, axis=-1).astype(jnp.int32)
        log_density = jax.nn.logsumexp(logs, axis=-1)
        log_density = jnp.where(is_hard, jnp.max(logs, axis=-1), log_density)
        is_best = labels[:, None] == numbers[None]
        share = jnp.where(is_hard, is_best, jnp.exp(logs - log_density[:, None]))
        share = share * (weight * has_direction * is_new)[:, None]
        badness = jnp.where(has_direction, -log_density, -jnp.inf)
        labels = jnp.where(weight == 0.0, -1, labels)
        sums = jnp.sum(share, axis=0), product(share.mT, unit), jnp.sum(share * gap, 0)
        return sums, (labels, badness)

    sums, (labels, badness) = sum_over_blocks(of_block, rows, block_size)
    weights = jnp.where(badness > -jnp.inf, rows[1], 0.0)
    log_likelihood = -dot(weights, jnp.where(weights > 0.0, badness, 0.0))
    better, is_empty = _maximize(mean, sums, is_shared, most)
    is_moved = jnp.any(is_empty)
    better = jax.lax.cond(
        is_moved,
        partial(_start_again, rows, badness),
        lambda better, _: better,
        better,
        is_empty,
    )
    return _Assigned(labels, log_likelihood, better, is_moved)


def _maximize(old, sums, is_shared, most):
    """The parameters of the largest likelihood, and which components are empty."""
    total, vector, gap = sums
    center = divide(vector, total[:, None])
    resultant = length(center)
    # One minus the squared length, from the mean distance to the old mean direction,
    # which keeps the digits of small distances.
    gap = divide(gap, total)
    aside = center - dot(center, old)[:, None] * old
    spread = jnp.maximum(gap * (2.0 - gap) - dot(aside, aside), 0.0)
    gap = spread / (1.0 + resultant)
    share = divide(total, jnp.sum(total))
    resultant = jnp.where(is_shared, dot(share, resultant), resultant)
    gap = jnp.where(is_shared, dot(share, gap), gap)
    resultant, gap = jnp.minimum(resultant, 1.0), jnp.minimum(gap, 1.0)
    k = inverse(resultant, gap, most, old.shape[1])
    is_empty = (total < _EMPTY * jnp.sum(total)) | jnp.all(center == 0.0, -1)
    return _Parameters(direction(center), k, jnp.log(total)), is_empty


def _start_again(rows, badness, parameters, is_empty):
    """Parameters with the empty components at the points of the lowest density."""
    mean, k, log_weight = parameters
    median = jnp.nanmedian(jnp.where(is_empty, jnp.nan, k))
    k = jnp.where(is_empty, jnp.where(jnp.isnan(median), 0.0, median), k)
    average = divide(jnp.sum(rows[1]), jnp.sum(rows[1] > 0.0).astype(k.dtype))
    # Finite if all weights are 0.
    log_average = jnp.log(jnp.maximum(average, jnp.finfo(k.dtype).tiny))
    log_weight = jnp.where(is_empty, log_average, log_weight)
    return _Parameters(move_empty(mean, is_empty, rows, badness), k, log_weight)
