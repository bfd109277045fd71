"""Kullback-Leibler divergences of, and from, power spherical distributions."""

import math

import jax
import jax.numpy as jnp

from sphax.distributions import _log_partition as von_mises_fisher
from sphax.distributions import _power_partition as power
from sphax.distributions._mean_logs import mean_logs
from sphax.distributions._power_spherical import PowerSpherical
from sphax.distributions._symmetric import aligned, cosine_gap
from sphax.distributions._uniform import SphericalUniform
from sphax.distributions._von_mises_fisher import VonMisesFisher


def power_from_uniform(p: PowerSpherical, q: SphericalUniform) -> jax.Array:
    k = p.concentrations()
    return power.bregman(k, jnp.zeros_like(k), q.dimension)


def uniform_from_power(p: SphericalUniform, q: PowerSpherical) -> jax.Array:
    k = q.concentrations()
    return power.bregman(jnp.zeros_like(k), k, p.dimension)


def two_powers(p: PowerSpherical, q: PowerSpherical) -> jax.Array:
    mean1, mean2, k1, k2 = aligned(p, q)
    gap = jnp.broadcast_to(cosine_gap(mean1, mean2), k1.shape)
    m = p.dimension - 2

    def log_density(angle):
        cosine = 2.0 * jnp.log(jnp.cos(angle / 2))
        return k1[..., None] * cosine + _log_sines(angle, m)

    mode = 2.0 * jnp.arctan(jnp.sqrt(m / (m + 2.0 * k1))) if m else jnp.zeros_like(k1)
    _, turned = mean_logs(log_density, mode, m + k1 / 2, gap, p.dimension)
    return power.bregman(k1, k2, p.dimension) - k2 * turned


def power_from_von_mises_fisher(p: PowerSpherical, q: VonMisesFisher) -> jax.Array:
    mean1, mean2, k1, k2 = aligned(p, q)
    d = p.dimension
    cosine = power.mean_cosine(k1, d)
    near = von_mises_fisher.log_partition_gap(k2, d) + k2 * (d - 1) / (k1 + (d - 1))
    far = von_mises_fisher.log_partition(k2, d) - k2 * cosine
    own = jnp.where(k2 > d / 2, near, far) + power.bregman(k1, jnp.zeros_like(k1), d)
    return own + k2 * cosine * cosine_gap(mean1, mean2)


def von_mises_fisher_from_power(p: VonMisesFisher, q: PowerSpherical) -> jax.Array:
    mean1, mean2, k1, k2 = aligned(p, q)
    gap = jnp.broadcast_to(cosine_gap(mean1, mean2), k1.shape)
    m = p.dimension - 2

    def log_density(angle):
        cosine = 2.0 * jnp.sin(angle / 2) ** 2
        return -k1[..., None] * cosine + _log_sines(angle, m)

    # Where m cot = k sin.
    cosine = k1 * jnp.sqrt(2.0 / (m + jnp.hypot(m, 2.0 * k1)))
    mode = jnp.arctan2(math.sqrt(m), cosine) if m else jnp.zeros_like(k1)
    curvature = m + 4.0 / math.pi**2 * k1
    own, turned = mean_logs(log_density, mode, curvature, gap, p.dimension)
    constant = power.log_partition_gap(k2, p.dimension)
    of_first = von_mises_fisher.divergence_from_uniform(k1, p.dimension)
    return of_first - constant - k2 * (own + turned)


def _log_sines(angle, power):
    return power * jnp.log(jnp.sin(angle)) if power else 0.0
