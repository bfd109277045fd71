"""Expectations that have no closed form, by quadrature over two angles."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sphax.distributions._symmetric import with_rank

_NODES = 64
_INNER_NODES = 24
# A density lower than its largest value by this logarithm counts as 0.
_CUT = 36.0


def mean_logs(
    log_density: Callable[[jax.Array], jax.Array],
    mode: jax.Array,
    curvature: jax.Array,
    gap: jax.Array,
    dimension: int,
) -> tuple[jax.Array, jax.Array]:
    r"""Expected logarithm of the density of a power spherical distribution.

    :math:`E[\log((1 + \mu^\top x) / 2)]`, and its change
    :math:`E[\log((1 + \mu'^\top x) / (1 + \mu^\top x))]` for another mean direction, of
    a random point that is symmetric about :math:`\mu`.

    Gauss-Legendre quadrature, over the angle :math:`\theta` to :math:`\mu` and an
    angle around :math:`\mu`. The logarithm is singular opposite to :math:`\mu'`, at
    :math:`\theta = \pi - \delta` with the angle :math:`\delta` between both. There the
    interval of :math:`\theta` is divided; nodes are dense and symmetric about it, so
    that principal values in the derivative are right too.

    Args:
        log_density: Logarithm of the density of the angle up to a constant, a function
            of angles ``[..., nodes]``, with derivative in its parameters.
        mode: The angle where it is largest, ``[...]``.
        curvature: A lower bound of its negative second derivative, ``[...]``.
        gap: :math:`1 - \mu^\top \mu'`, ``[...]``.
        dimension: Number of entries of a point.
    """
    angle, weight, offset = jax.lax.stop_gradient(_nodes(mode, curvature, gap))
    weight = jax.nn.softmax(log_density(angle) + jnp.log(weight), axis=-1)
    sin2, share = (
        with_rank(jnp.asarray(x, gap.dtype), gap.ndim + 2)
        for x in _inner_nodes(dimension)
    )
    gap, angle, offset = gap[..., None, None], angle[..., None], offset[..., None]
    # The mean over both sides of the plane of the two directions, in which first-order
    # changes cancel. In terms of the first angle's sum with one, and its sine squared:
    of_mean = 2.0 * jnp.cos(angle / 2) ** 2
    sine2 = jnp.sin(angle) ** 2
    change = gap * ((2.0 - gap) * sine2 * sin2 - (2.0 * of_mean - gap)) / of_mean**2
    # One more than this change, without its cancellation opposite to the other mean.
    between = 2.0 * jnp.arctan2(jnp.sqrt(gap), jnp.sqrt(2.0 - gap))
    cosines = 2.0 * jnp.sin(offset / 2) * jnp.cos((angle - between) / 2)
    ratio = (cosines**2 + gap * (2.0 - gap) * sine2 * sin2) / of_mean**2
    logarithm = 0.5 * _log1p(change, jax.lax.stop_gradient(ratio))
    logarithm = jnp.sum(share * logarithm, axis=-1)
    own = 2.0 * jnp.log(jnp.cos(angle[..., 0] / 2))
    return jnp.sum(weight * own, axis=-1), jnp.sum(weight * logarithm, axis=-1)


@jax.custom_jvp
def _log1p(x: jax.Array, one_more: jax.Array) -> jax.Array:
    """``log1p(x)``, given ``1 + x`` as well for x near -1."""
    is_small = jnp.abs(x) < 0.5
    return jnp.where(
        is_small, jnp.log1p(jnp.where(is_small, x, 0.0)), jnp.log(one_more)
    )


@_log1p.defjvp
def _log1p_jvp(primals, tangents):
    (x, one_more), (dx, _) = primals, tangents
    return _log1p(x, one_more), dx / one_more


def _nodes(mode, curvature, gap):
    """Angles, their weights, and their distance from the singularity, ``[..., n]``."""
    reach = jnp.sqrt(2.0 * _CUT / curvature)
    # Not above pi, where the sine would be negative.
    pi = jnp.asarray(math.pi, mode.dtype)
    pi = jnp.where(jnp.sin(pi) < 0.0, jnp.nextafter(pi, 0.0), pi)
    low, high = jnp.maximum(mode - reach, 0.0), jnp.minimum(mode + reach, pi)
    singular = 2.0 * jnp.arctan2(jnp.sqrt(2.0 - gap), jnp.sqrt(gap))
    middle = jnp.clip(singular, low, high)
    short = jnp.minimum(middle - low, high - middle)
    # The rest of the longer side.
    rest = high + low - 2.0 * middle
    sign = jnp.sign(rest)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes = (nodes + 1.0) / 2.0
    weights = weights * nodes * (1.0 - nodes)
    # Dense at both ends of each part.
    nodes = nodes**2 * (3.0 - 2.0 * nodes)
    nodes, weights = (
        with_rank(jnp.asarray(x, mode.dtype), mode.ndim + 1) for x in (nodes, weights)
    )
    parts = [
        (jnp.zeros_like(short), -short),
        (jnp.zeros_like(short), short),
        (sign * short, rest),
    ]
    steps = [begin[..., None] + length[..., None] * nodes for begin, length in parts]
    steps = jnp.concatenate(steps, axis=-1)
    sizes = [abs(length)[..., None] * weights for _, length in parts]
    return (
        middle[..., None] + steps,
        jnp.concatenate(sizes, axis=-1),
        (middle - singular)[..., None] + steps,
    )


@functools.cache
def _inner_nodes(dimension):
    r"""Squared sines of angles around a mean direction, and their probabilities."""
    if dimension == 2:
        return np.zeros(1), np.ones(1)
    power = dimension - 3
    low = max(0.0, math.pi / 2 - math.sqrt(2.0 * _CUT / max(power, 1)))
    nodes, weights = np.polynomial.legendre.leggauss(_INNER_NODES)
    nodes = (nodes + 1.0) / 2.0
    angles = low + (math.pi / 2 - low) * nodes**2
    density = weights * nodes * np.sin(angles) ** power
    return np.sin(angles) ** 2, density / density.sum()
