r"""The log partition function of the power spherical distribution, and its kin.

The density is :math:`(1 + t)^k e^{-\varphi(k)} / |S|` with the cosine :math:`t` to the
mean direction and :math:`\varphi(k) = \log E_U[(1 + t)^k]`. With :math:`b = (d - 1)/2`
and :math:`a = b + k`, :math:`(1 + t)/2` has the law :math:`B(a, b)`, and

.. math::
    \varphi(k) = k \log 2 + \log\Gamma(a) - \log\Gamma(b) - \log\Gamma(a + b)
    + \log\Gamma(2b).

In float32 the difference of these logarithms has an error of 0.06 at k = 1e5. So
Stirling's series is subtracted in closed form, and differences of the functions of a
and of a + b have the factor b taken out.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sphax.distributions._symmetric import with_rank

# From this argument on, the series below have converged in float64.
_LARGE = 8
# Bernoulli's numbers B_2, B_4, ...
_BERNOULLI = (
    *(1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66),
    *(-691 / 2730, 7 / 6, -3617 / 510),
)
# Of the logarithm of the gamma function and its first two derivatives, as series in odd
# powers of 1/x; that of the first derivative is multiplied by x.
_OF_LOG_GAMMA, _OF_DIGAMMA, _OF_TRIGAMMA = (
    [bernoulli / factor(2 * n) for n, bernoulli in enumerate(_BERNOULLI, 1)]
    for factor in (lambda n: n * (n - 1), lambda n: n, lambda n: 1)
)
_NODES = 16


def _half(dimension: int) -> float:
    return (dimension - 1) / 2


def _climb(x: jax.Array, dimension: int) -> tuple[jax.Array, jax.Array]:
    """What the recurrences pass through from ``x >= b`` on, and a large end.

    ``x, x + 1, ...`` on a new last axis, which is empty in many dimensions.
    """
    steps = max(0, math.ceil(_LARGE - _half(dimension)))
    passed = with_rank(jnp.arange(steps, dtype=x.dtype), x.ndim + 1)
    return x[..., None] + passed, x + steps


def _tail(x: jax.Array, coefficients) -> jax.Array:
    """``c_1 / x + c_2 / x**3 + ...``, the end of Stirling's series or the like."""
    inverse = 1.0 / x
    square, total = inverse * inverse, jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * square + coefficient
    return total * inverse


def _stirling(x: jax.Array, dimension: int) -> jax.Array:
    """``log Gamma(x)`` without ``(x - 1/2) log x - x + log(2 pi)/2``."""
    passed, end = _climb(x, dimension)
    steps = (passed + 0.5) * jnp.log1p(1.0 / passed) - 1.0
    return jnp.sum(steps, axis=-1) + _tail(end, _OF_LOG_GAMMA)


def _merged(k: jax.Array, dimension: int) -> tuple[jax.Array, jax.Array]:
    r""":math:`\varphi` for k up to 2b, and :math:`k \log 2 - \varphi` beyond."""
    b = _half(dimension)
    a = b + k
    # Of a and a + b, and of the same for k = 0.
    ends = jnp.stack([a, a + b, jnp.full_like(a, b), jnp.full_like(a, 2 * b)])
    first, second, third, fourth = _stirling(ends, dimension)
    remainders = (first - second) + (fourth - third)
    rise = jnp.log1p(k / (2 * b))
    small = (a - 0.5) * jnp.log1p(k / b) - (a + b - 0.5) * rise + remainders
    large = (a - 0.5) * jnp.log1p(b / a) + b * rise
    return small, large - (b - 0.5) * math.log(2.0) - remainders


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_partition(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`\varphi(k) = \log E_U[(1 + t)^k]`."""
    small, large = _merged(k, dimension)
    return jnp.where(k <= dimension - 1, small, k * math.log(2.0) - large)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_partition_gap(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`k \log 2 - \varphi(k)`, accurate for large k."""
    small, large = _merged(k, dimension)
    return jnp.where(k <= dimension - 1, k * math.log(2.0) - small, large)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_log_gap(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`-E[\log((1 + t)/2)] = \log 2 - \varphi'(k)`, positive and falling."""
    b = _half(dimension)
    passed, x = _climb(b + k, dimension)
    y = x + b
    total = jnp.log1p(b / x) + 0.5 * b / (x * y)
    total += _tail(x, _OF_DIGAMMA) / x - _tail(y, _OF_DIGAMMA) / y
    return total + jnp.sum(b / (passed * (passed + b)), axis=-1)


def log_variance(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`\varphi''(k)`, the variance of :math:`\log(1 + t)`."""
    b = _half(dimension)
    passed, x = _climb(b + k, dimension)
    y = x + b
    # Not with squares, which overflow early.
    total = b / x / y * (1.0 + 0.5 * (1.0 / x + 1.0 / y))
    total += _tail(x, _OF_TRIGAMMA) / x / x - _tail(y, _OF_TRIGAMMA) / y / y
    others = passed + b
    steps = b / passed / others * (1.0 / passed + 1.0 / others)
    return total + jnp.sum(steps, axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_cosine(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`E[t] = k / (k + d - 1)`."""
    return k / (k + (dimension - 1))


@log_partition.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    slope = math.log(2.0) - mean_log_gap(k, dimension)
    return log_partition(k, dimension), slope * dk


@log_partition_gap.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return log_partition_gap(k, dimension), mean_log_gap(k, dimension) * dk


@mean_log_gap.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return mean_log_gap(k, dimension), -log_variance(k, dimension) * dk


@mean_cosine.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    # The derivative of the quotient would be a difference of nearly equal terms.
    b2 = dimension - 1
    return mean_cosine(k, dimension), b2 / (k + b2) / (k + b2) * dk


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def inverse(
    log_gap: jax.Array, start: jax.Array, most: jax.Array, dimension: int
) -> jax.Array:
    """The concentration of a given :func:`mean_log_gap`, in [0, most]."""
    k = start
    # The reciprocal of the gap is nearly linear in the concentration.
    for _ in range(5 if k.dtype == jnp.float64 else 4):
        gap = mean_log_gap(k, dimension)
        k += (gap * gap / log_gap - gap) / log_variance(k, dimension)
        # The bound is for a gap of 0, from which the iteration goes on upward.
        k = jnp.clip(k, 0.0, 4.0 * most)
    return jnp.minimum(k, most)


@inverse.defjvp
def _(dimension, primals, tangents):
    k = inverse(*primals, dimension)
    is_inside = (k > 0.0) & (k < primals[2])
    slope = jnp.where(is_inside, -1.0 / log_variance(k, dimension), 0.0)
    return k, slope * tangents[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def bregman(k: jax.Array, other: jax.Array, dimension: int) -> jax.Array:
    r"""Bregman divergence of :math:`\varphi`, 0 or more.

    :math:`\varphi(k') - \varphi(k) - (k' - k)\varphi'(k)` with ``other`` for k': the
    Kullback-Leibler divergence between distributions of one mean direction, from
    concentration k to k', with the uniform distribution at 0.
    """
    near = (other - k) ** 2 * _average_variance(k, other, dimension, lambda u: 1 - u)
    far = log_partition_gap(k, dimension) - log_partition_gap(other, dimension)
    far = far + (other - k) * mean_log_gap(k, dimension)
    return jnp.where(_are_near(k, other, dimension), near, far)


@bregman.defjvp
def _(dimension, primals, tangents):
    (k, other), (dk, d_other) = primals, tangents
    near = (other - k) * _average_variance(k, other, dimension, np.ones_like)
    far = mean_log_gap(k, dimension) - mean_log_gap(other, dimension)
    slope = jnp.where(_are_near(k, other, dimension), near, far)
    change = slope * d_other - (other - k) * log_variance(k, dimension) * dk
    return bregman(k, other, dimension), change


def _are_near(k, other, dimension):
    """Whether the quadrature below is accurate; differences are elsewhere."""
    low, high = jnp.minimum(k, other), jnp.maximum(k, other)
    return high + _half(dimension) <= 3.0 * (low + _half(dimension))


def _average_variance(k, other, dimension, weight):
    r""":math:`\int_0^1 w(u)\, \varphi''(k + u (k' - k))\, du` (Gauss-Legendre)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes = (nodes + 1.0) / 2.0
    weights = weights / 2.0 * weight(nodes)
    nodes, weights = (
        with_rank(jnp.asarray(x, k.dtype), k.ndim + 1) for x in (nodes, weights)
    )
    between = k[..., None] + nodes * (other - k)[..., None]
    return jnp.sum(weights * log_variance(between, dimension), axis=-1)
