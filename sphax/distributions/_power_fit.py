"""Estimation of power spherical distributions, by maximum likelihood."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._class_axis import vary_alike
from sphax._numerics import divide, dot
from sphax.distributions._power_partition import inverse, log_partition_gap
from sphax.distributions._power_spherical import PowerSpherical
from sphax.distributions._symmetric import cosine_gap
from sphax.sphere import direction, length

_STEPS = 12
# Of one step of the mean direction, in radians.
_FARTHEST = 0.5


class _Place(NamedTuple):
    """A mean direction, the best concentration for it, and where to go next."""

    mean: jax.Array  # [..., d]
    concentration: jax.Array  # [...]
    log_likelihood: jax.Array  # of a point on average, [...]
    step: jax.Array  # [..., d]


def power_spherical(x, weights, resultant, max_concentration) -> PowerSpherical:
    r"""The distribution of the largest likelihood of unit vectors ``[..., n, d]``.

    From the direction of their mean, by Fisher scoring: the step is the score,
    :math:`\kappa \sum_i w_i x_i / (1 + \mu^\top x_i)` without its part along
    :math:`\mu`, divided by the information :math:`\kappa^2 / 2 (a - 1)`. A step that
    does not raise the likelihood is taken back and shortened.
    """
    shares = divide(weights, jnp.sum(weights, axis=-1, keepdims=True))
    # The moment estimate.
    start = divide((x.shape[-1] - 1) * resultant.length, resultant.gap)
    start = jnp.where(resultant.gap == 0.0, max_concentration, start)
    start = jnp.minimum(start, max_concentration)

    def climb(state, _):
        now, rate = state
        next_mean = direction(now.mean + rate[..., None] * now.step)
        after = _place(x, shares, next_mean, start, max_concentration)
        # Up to rounding: near the maximum all steps are taken, so that the derivative
        # converges as well.
        noise = 16.0 * jnp.finfo(x.dtype).eps * (1.0 + jnp.abs(now.log_likelihood))
        is_taken = after.log_likelihood >= now.log_likelihood - noise
        now = jax.tree.map(
            lambda new, old: jnp.where(
                is_taken.reshape(is_taken.shape + (1,) * (new.ndim - is_taken.ndim)),
                new,
                old,
            ),
            after,
            now,
        )
        return (
            now,
            jnp.where(is_taken, jnp.minimum(2.0 * rate, 1.0), rate / 4.0),
        ), None

    mean = resultant.direction
    nothing = jnp.zeros_like(resultant.length)
    lowest = jnp.full_like(nothing, jnp.finfo(x.dtype).min)
    first = _Place(mean, nothing, lowest, jnp.zeros_like(mean))
    state, *_ = vary_alike((first, jnp.ones_like(nothing)), x, weights)
    (found, _), _ = jax.lax.scan(climb, state, length=_STEPS)
    is_uniform = resultant.length == 0.0
    return PowerSpherical(found.mean, jnp.where(is_uniform, 0.0, found.concentration))


def _place(x, shares, mean, start, most):
    d = x.shape[-1]
    tiny = float(jnp.finfo(x.dtype).tiny)
    gap = cosine_gap(x, mean[..., None, :])
    opposite = jnp.maximum(cosine_gap(x, -mean[..., None, :]), tiny)
    is_near = gap < 1.0
    near = jnp.log1p(-0.5 * jnp.where(is_near, gap, 0.0))
    logs = jnp.where(is_near, near, jnp.log(opposite / 2.0))
    log_gap = -dot(shares, logs)
    k = inverse(log_gap, start, most, d)
    score = jnp.sum((shares / opposite)[..., None] * x, axis=-2)
    score = score - dot(score, mean)[..., None] * mean
    # Where the information is infinite, the step stays short.
    scale = divide(2.0 * jnp.maximum(k + (d - 3) / 2, 0.5), k)
    step = scale[..., None] * score
    shorten = jnp.minimum(1.0, divide(jnp.full_like(k, _FARTHEST), length(step)))
    value = log_partition_gap(k, d) - k * log_gap
    return _Place(mean, k, value, shorten[..., None] * step)
