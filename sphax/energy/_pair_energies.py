"""Energy of every pair of directions: what a hyperspherical energy is the mean of."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax.energy._gaps import squared_gaps
from sphax.energy._riesz import riesz
from sphax.sphere import arcsin, inner_products


class Kind(NamedTuple):
    """Which energy it is."""

    is_geodesic: bool
    half_space: bool


def pair_energies(
    kind: Kind,
    power: float | jax.Array,
    u: jax.Array,
    v: jax.Array,
    is_pair: jax.Array,
) -> jax.Array:
    """Of unit vectors ``[n, d]`` and ``[m, d]``, ``[n, m]``; 0 where there is no pair.

    Gaps that cannot be told from none have a constant energy. In half space, the mean
    of the energies with a vector and with its mirror image.
    """
    cosines = inner_products(u, v, precision="highest")
    gaps = squared_gaps(cosines, u, v, is_pair)
    resolution = (4.0 * float(jnp.finfo(gaps.dtype).eps)) ** 2
    # This way round, NaN is not taken for a small number.
    gaps = jnp.where(gaps < resolution, resolution, gaps)
    near, far = _squared_distances(kind.is_geodesic, gaps)
    if kind.half_space:
        energies = 0.5 * (riesz(power, near) + riesz(power, far))
    else:
        energies = riesz(power, jnp.where(cosines < 0.0, far, near))
    return jnp.where(is_pair, energies, 0.0)


def _squared_distances(is_geodesic, gaps):
    """To the nearer and the farther one of a vector and its mirror image."""
    if not is_geodesic:
        return gaps, 4.0 - gaps
    angles = 2.0 * arcsin(0.5 * jnp.sqrt(gaps), 0.0)
    return jnp.square(angles), jnp.square(math.pi - angles)
