"""Estimation of distributions from points, by maximum likelihood."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import (
    as_floating,
    as_points,
    check_choice,
    check_count,
    check_flag,
    check_range,
)
from sphax._compiled import compiled
from sphax._masking import as_weights, zero_masked
from sphax._numerics import divide, dot, safe_sqrt, widen
from sphax.distributions._log_partition import mean_cosine, mean_gap, mean_slope
from sphax.distributions._power_fit import power_spherical
from sphax.distributions._power_spherical import PowerSpherical
from sphax.distributions._symmetric import RotationallySymmetric
from sphax.distributions._von_mises_fisher import VonMisesFisher
from sphax.sphere import direction, length


def concentration_of(
    resultant_length: ArrayLike, dimension: int, *, max_concentration: float = 1e5
) -> jax.Array:
    r"""Concentration of a von Mises-Fisher distribution from its resultant length.

    The inverse of :meth:`VonMisesFisher.mean_resultant_length`, :math:`A_d(\kappa) =
    R`, by Newton's method from a start with an error of less than 5 %. Its derivative
    is :math:`1 / A_d'(\kappa)`. In float32, a length near 1 has few digits of
    :math:`1 - R`, which determines the concentration; :func:`fit` keeps them.

    Args:
        resultant_length: :math:`R`, floating, ``[...]``, in [0, 1]. One above 1 by
            rounding counts as 1.
        dimension: :math:`d`, 2 or more.
        max_concentration: Largest concentration that is returned; that of
            :math:`R = 1` would be infinite. Positive.

    Returns:
        Concentrations, ``[...]``, in float32 at least; 0 at 0; ``max_concentration``
        with zero gradient where it is exceeded. NaN for lengths outside of [0, 1].

    Raises:
        TypeError: If ``resultant_length`` is not floating or ``dimension`` not integer.
        ValueError: If ``dimension`` is below 2 or ``max_concentration`` not positive.

    Example:
        >>> lengths = jnp.array([0.0, 0.3130353, 1.0])
        >>> print(sx.distributions.concentration_of(lengths, 3))
        [0.e+00 1.e+00 1.e+05]

    References:
        Sra, `A short note on parameter approximation for von Mises-Fisher distributions
        <https://doi.org/10.1007/s00180-011-0232-x>`_, Computational Statistics 2012.
    """
    resultant = as_floating("resultant_length", resultant_length)
    check_count("dimension", dimension, 2)
    check_range("max_concentration", max_concentration, 0.0, exclude_low=True)
    return _concentration_of(resultant, max_concentration, dimension=dimension)


@compiled("dimension")
def _concentration_of(resultant, max_concentration, *, dimension):
    resultant = widen(resultant)
    is_valid = (resultant >= 0.0) & (resultant <= 1.001)
    resultant = jnp.where(is_valid, jnp.minimum(resultant, 1.0), jnp.nan)
    return inverse(resultant, 1.0 - resultant, max_concentration, dimension)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def inverse(
    resultant: jax.Array, gap: jax.Array, most: jax.Array, dimension: int
) -> jax.Array:
    """The concentration for a resultant length and 1 minus it, at most ``most``."""
    # The bound is for a length of 1, from which the iteration goes on upward.
    start = resultant * (dimension - resultant * resultant) / (gap * (1.0 + resultant))
    k = jnp.minimum(start, 4.0 * most)
    # Errors are then below 3.4e-6 and 4e-14.
    for _ in range(4 if k.dtype == jnp.float64 else 2):
        excess = jnp.where(
            resultant > 0.5,
            gap - mean_gap(k, dimension),
            mean_cosine(k, dimension) - resultant,
        )
        k -= excess / mean_slope(k, dimension)
    return jnp.minimum(k, most)


@inverse.defjvp
def _inverse_jvp(dimension, primals, tangents):
    k = inverse(*primals, dimension)
    slope = jnp.where(k < primals[2], 1.0 / mean_slope(k, dimension), 0.0)
    return k, slope * tangents[0]


class Resultant(NamedTuple):
    """The weighted mean of unit vectors."""

    direction: jax.Array  # [..., d], zero if the mean is
    length: jax.Array  # [...]
    gap: jax.Array  # [...], 1 minus the length, without cancellation


def fit(
    points: ArrayLike,
    *,
    family: type[RotationallySymmetric] = VonMisesFisher,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    correct_bias: bool = False,
    max_concentration: float = 1e5,
) -> RotationallySymmetric:
    r"""Distribution with the largest likelihood of points on the sphere.

    With the mean of the points, :math:`r = \sum_i w_i \hat x_i / \sum_i w_i`, and its
    length :math:`R`, the von Mises-Fisher distribution has the mean direction
    :math:`r / R` and the concentration with :math:`A_d(\kappa) = R`. The distance
    :math:`1 - R` is formed from the variance of the points, so that it has its digits
    for concentrated ones.

    The length of a mean of few points is not near 0: n uniform points have one of about
    :math:`1 / \sqrt n`, and so a concentration of about :math:`d / \sqrt n`. With
    ``correct_bias``, the square of the length is replaced by its unbiased estimate
    :math:`\max(0, (n R^2 - 1) / (n - 1))`, with the effective number of points
    :math:`n = (\sum w)^2 / \sum w^2`.

    The power spherical distribution has no closed form for its mean direction: twelve
    steps of Fisher scoring from the direction of the mean, each with the concentration
    that is best for it, :math:`\varphi'(\kappa) = \sum_i w_i \log(1 + \mu^\top \hat
    x_i) / \sum_i w_i`.

    Args:
        points: Floating, ``[..., n, d]``; only their directions count, and zero rows
            are left out. Each set of ``n`` has a distribution of its own.
        family: Kind of distribution, :class:`VonMisesFisher` or
            :class:`PowerSpherical`.
        weights: Of the points, floating, 0 or more, ``[..., n]``; by default equal.
        where: Boolean mask or weights, ``[..., n]``, which multiply the others. Rows of
            weight zero are zeroed before anything else: a NaN in them reaches nothing.
        correct_bias: Whether to correct the length for the number of points; for
            :class:`VonMisesFisher` alone.
        max_concentration: Largest concentration, which equal points get, and a single
            one; the gradient is then 0. Positive.

    Returns:
        The distribution ``[...]``, in float32 at least. For points whose mean is zero,
        or none at all, the mean direction and the concentration are 0, which acts as
        the uniform distribution. Differentiable in points and weights.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is unknown or out of range.

    Example:
        >>> vmf = sx.distributions.VonMisesFisher(jnp.array([0.0, 0.0, 1.0]), 20.0)
        >>> points = vmf.sample(jax.random.key(0), (10_000,))
        >>> found = sx.distributions.fit(points)
        >>> bool(abs(found.concentration - 20.0) < 1.0)
        True

    References:
        Banerjee et al., `Clustering on the Unit Hypersphere using von Mises-Fisher
        Distributions <https://jmlr.org/papers/v6/banerjee05a.html>`_, JMLR 2005; Sra,
        `A short note on parameter approximation for von Mises-Fisher distributions
        <https://doi.org/10.1007/s00180-011-0232-x>`_, Computational Statistics 2012.
    """
    points = as_points("points", points)
    shape, of = points.shape[:-1], "points without their last axis"
    weights = as_weights(weights, shape, of, name="weights")
    where = as_weights(where, shape, of)
    check_choice("family", family, tuple(_FITS))
    check_flag("correct_bias", correct_bias)
    if correct_bias and family is not VonMisesFisher:
        raise ValueError(
            "correct_bias corrects the length of the mean, which determines the"
            " concentration of VonMisesFisher alone, got correct_bias=True with"
            f" {family.__name__}; leave it out."
        )
    check_range("max_concentration", max_concentration, 0.0, exclude_low=True)
    return _fit(
        points,
        weights,
        where,
        max_concentration,
        family=family,
        correct_bias=bool(correct_bias),
    )


@compiled("family", "correct_bias")
def _fit(points, weights, where, max_concentration, *, family, correct_bias):
    points = zero_masked(zero_masked(points, weights), where)
    x = direction(widen(points))
    total = jnp.any(x != 0.0, axis=-1).astype(x.dtype)
    for factor in (weights, where):
        total = total if factor is None else total * factor.astype(x.dtype)
    resultant = mean_of(x, total, correct_bias=correct_bias)
    return _FITS[family](x, total, resultant, max_concentration)


def mean_of(x: jax.Array, weights: jax.Array, *, correct_bias: bool) -> Resultant:
    """The mean of unit vectors ``[..., n, d]`` with weights ``[..., n]``."""
    shares = divide(weights, jnp.sum(weights, axis=-1, keepdims=True))
    mean = jnp.sum(shares[..., None] * x, axis=-2)
    resultant = length(mean)
    # 1 - R**2, as the variance.
    offset = x - mean[..., None, :]
    spread = jnp.sum(shares * dot(offset, offset), axis=-1)
    spread = jnp.where(jnp.any(weights != 0.0, axis=-1), spread, 1.0)
    if correct_bias:
        # The reciprocal of the effective number of points; 1 for a single one.
        rate = jnp.sum(shares * shares, axis=-1)
        square = resultant * resultant
        square = jnp.where(rate < 1.0, divide(square - rate, 1.0 - rate), square)
        spread = jnp.where(rate < 1.0, divide(spread, 1.0 - rate), spread)
        resultant = safe_sqrt(jnp.maximum(square, 0.0))
        spread = jnp.minimum(spread, 1.0)
    return Resultant(direction(mean), resultant, spread / (1.0 + resultant))


def _von_mises_fisher(x, weights, resultant, max_concentration):
    del weights
    k = inverse(resultant.length, resultant.gap, max_concentration, x.shape[-1])
    return VonMisesFisher(resultant.direction, k)


_FITS = {VonMisesFisher: _von_mises_fisher, PowerSpherical: power_spherical}
