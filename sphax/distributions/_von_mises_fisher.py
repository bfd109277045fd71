"""The von Mises-Fisher distribution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sphax._class_axis import vary_alike
from sphax._compiled import compiled
from sphax._hyperparameters import register
from sphax.distributions._log_partition import (
    divergence_from_uniform,
    log_partition,
    log_partition_gap,
    mean_cosine,
    mean_gap,
)
from sphax.distributions._symmetric import RotationallySymmetric, with_rank
from sphax.distributions._uniform import log_surface

# No sample is left undecided by as many proposals, each accepted with probability 0.65
# at least: this is a bound for the loop.
_PROPOSALS = 64
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@register
class VonMisesFisher(RotationallySymmetric):
    r"""Von Mises-Fisher distribution on the unit sphere.

    The normal distribution of the sphere, with the density

    .. math::
        p(x) = C_d(\kappa)\, e^{\kappa \mu^\top x}, \qquad
        C_d(\kappa) =
        \frac{\kappa^{d/2-1}}{(2\pi)^{d/2} I_{d/2-1}(\kappa)}

    where :math:`I` is the modified Bessel function. It is never formed, since it leaves
    the range of floating numbers: the functions below have relative errors of at most
    1e-4 in float32 and 1e-9 in float64 for dimensions from 2 to 2048 and concentrations
    from 1e-3 to 1e5, with their derivatives. (A normalizer or an entropy that happens
    to be near zero has an absolute error instead.)

    A distribution is a pytree with its two parameters as leaves, which broadcast
    against each other: mean directions ``[K, d]`` and one concentration are ``K``
    distributions.

    Args:
        mean_direction: :math:`\mu`, floating, ``[..., d]`` with d of 2 or more; its
            length does not count and gets no gradient. A zero vector acts as orthogonal
            to all points.
        concentration: :math:`\kappa`, 0 or more, a number or floating, ``[...]``; 0 is
            the uniform distribution exactly. Where a traced one is negative, results
            are NaN.

    Raises:
        TypeError: If a parameter is not floating.
        ValueError: If the shapes do not fit, or a known concentration is negative.

    Example:
        >>> vmf = sx.distributions.VonMisesFisher(jnp.array([0.0, 0.0, 1.0]), 1.0)
        >>> print(vmf.log_prob(jnp.array([0.0, 0.0, 1.0])))
        -1.6924636
        >>> print(vmf.mean())
        [0.        0.        0.3130353]
        >>> vmf.sample(jax.random.key(0), (5,)).shape
        (5, 3)

    References:
        Mardia and Jupp, Directional Statistics, Wiley 2000, Section 9.3; Davidson et
        al., `Hyperspherical Variational Auto-Encoders
        <https://arxiv.org/abs/1804.00891>`_, UAI 2018.
    """

    mean_direction: jax.Array
    concentration: float | jax.Array

    def log_density(self, gap: jax.Array, opposite: jax.Array) -> jax.Array:
        del opposite
        k = with_rank(self.parameters()[1], gap.ndim).astype(gap.dtype)
        d = self.dimension
        # For large concentrations both terms of the first form are large.
        near = -k * gap - log_partition_gap(k, d)
        far = k * (1.0 - gap) - log_partition(k, d)
        return jnp.where(k > d / 2, near, far) - log_surface(d)

    def angles(self, key: jax.Array, k: jax.Array) -> jax.Array:
        angle = _propose(jax.lax.stop_gradient(k), key, self.dimension)
        return _with_slope(angle, k, self.dimension)

    def entropy(self) -> jax.Array:
        r"""Differential entropy, ``[*batch]``, in float32 at least.

        :math:`\log|S^{d-1}|` minus the divergence from the uniform distribution.
        """
        return _entropy(self)

    def log_normalizer(self) -> jax.Array:
        r"""Logarithm of the constant :math:`C_d(\kappa)`, ``[*batch]``."""
        return _log_normalizer(self)

    def mean_resultant_length(self) -> jax.Array:
        r"""Expected cosine :math:`A_d(\kappa) = I_{d/2}(\kappa) / I_{d/2-1}(\kappa)`.

        ``[*batch]``, in float32 at least, in [0, 1); its inverse is
        :func:`concentration_of`.
        """
        return _mean_resultant_length(self)


@compiled()
def _entropy(distribution):
    k, d = distribution.concentrations(), distribution.dimension
    return log_surface(d) - divergence_from_uniform(k, d)


@compiled()
def _log_normalizer(distribution):
    k, d = distribution.concentrations(), distribution.dimension
    return -log_surface(d) - log_partition(k, d)


@compiled()
def _mean_resultant_length(distribution):
    return mean_cosine(distribution.concentrations(), distribution.dimension)


def _propose(k: jax.Array, key: jax.Array, dimension: int) -> jax.Array:
    r"""Random angles to the mean direction, by rejection (Ulrich, Wood).

    A proposal has :math:`\tan^2(\theta/2) = b z / (1 - z)`, with z from the symmetric
    beta distribution of a coordinate of uniform points, and
    :math:`b = m / (2 k + \sqrt{4 k^2 + m^2})`, m = d - 1. Written so, nothing cancels:
    neither for large concentrations nor between the constants of the acceptance.
    """
    m = dimension - 1
    b = m / (2.0 * k + jnp.hypot(2.0 * k, m))

    def is_open(state):
        count, _, is_done = state
        return (count < _PROPOSALS) & ~jnp.all(is_done)

    def propose(state):
        count, angle, is_done = state
        u = jax.random.uniform(
            jax.random.fold_in(key, count), (3, *k.shape), dtype=k.dtype
        )
        # A coordinate of a uniform point is that of its projection to a disk.
        rest = jnp.exp(jnp.log(u[0]) * (2.0 / (m - 1))) if m > 1 else jnp.zeros_like(k)
        radius = jnp.sqrt(1.0 - rest)
        edge = 0.5 * rest / (1.0 + radius)
        z = edge + radius * jnp.cos(math.pi * u[1]) ** 2
        other = edge + radius * jnp.sin(math.pi * u[1]) ** 2  # 1 - z
        h = (1.0 - b) * (z - other) / (2.0 * (other + b * z))
        is_accepted = jnp.log(u[2]) <= m * (jnp.log1p(h) - h)
        proposed = 2.0 * jnp.arctan2(jnp.sqrt(b * z), jnp.sqrt(other))
        # NaN if k is.
        proposed = jnp.where(jnp.isnan(b), b, proposed)
        return (
            count + 1,
            jnp.where(is_done, angle, proposed),
            is_done | is_accepted | jnp.isnan(b),
        )

    start = vary_alike(jnp.int32(0), b, b != b, jax.random.key_data(key))[:3]
    return jax.lax.while_loop(is_open, propose, start)[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _with_slope(angle: jax.Array, k: jax.Array, dimension: int) -> jax.Array:
    """Sampled angles, with the derivative of the quantile in the concentration."""
    del k, dimension
    return angle


@_with_slope.defjvp
def _with_slope_jvp(dimension, primals, tangents):
    (angle, k), (_, dk) = primals, tangents
    return angle, _quantile_slope(angle, k, dimension) * dk


def _quantile_slope(angle: jax.Array, k: jax.Array, dimension: int) -> jax.Array:
    r"""Derivative of the angle in the concentration, at a fixed quantile.

    With the density proportional to :math:`e^{g(s)}`,
    :math:`g(s) = k \cos s + (d - 2) \log \sin s`, it is
    :math:`-\int_0^\theta (\cos s - A)\, e^{g(s) - g(\theta)} ds`, or the same integral
    from :math:`\theta` to :math:`\pi` with the opposite sign. The side is taken on
    which the integrand has one sign, and as much of it as matters.
    """
    tiny = float(jnp.finfo(k.dtype).tiny)
    gap = mean_gap(k, dimension)
    is_low = 2.0 * jnp.sin(0.5 * angle) ** 2 < gap
    # The density falls within 1 / sqrt(k + d) of its peak.
    width = 12.0 / jnp.sqrt(k + dimension)
    near = jnp.maximum(angle - width, 0.0), jnp.minimum(angle + width, math.pi)
    half = 0.5 * (jnp.where(is_low, *near) - angle)
    sine = jnp.maximum(jnp.sin(angle), tiny)
    nodes, weights = (jnp.asarray(x, k.dtype) for x in (1.0 + _NODES, _WEIGHTS))

    def add(i, total):
        step = half * nodes[i]
        s = angle + step
        # cos s - cos angle, for nearby angles.
        rise = -2.0 * jnp.sin(angle + 0.5 * step) * jnp.sin(0.5 * step)
        stretch = jnp.log(jnp.maximum(jnp.sin(s), tiny) / sine)
        density = jnp.exp(k * rise + (dimension - 2) * stretch)
        return total + weights[i] * (gap - 2.0 * jnp.sin(0.5 * s) ** 2) * density

    return half * jax.lax.fori_loop(0, len(_NODES), add, jnp.zeros_like(half))
