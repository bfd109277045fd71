"""The Riesz energy of a distance, and the energies of all pairs of two sets."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from sphax.energy._pairs._gaps import squared_gaps
from sphax.sphere import arcsin, inner_products

# Largest magnitude of energies and their slopes, as a share of the dtype's exponents.
# The rest is for sums over pairs and for the division by short vectors.
_SHARE = 0.6875


def riesz(power, squares):
    """``r^-power``, or ``-log r`` for power 0, of squared distances ``r^2 > 0``.

    The definition, for arrays of JAX and, in float64 on the host, for NumPy's.
    """
    xp = jnp if isinstance(squares, jax.Array) else np
    if isinstance(power, (int, float)) and power == 0:
        return -0.5 * xp.log(squares)
    # A power by its logarithm: XLA's own is a scalar call on CPU.
    return xp.exp(-0.5 * power * xp.log(squares))


def bounded_riesz(power: float | jax.Array, squares: jax.Array) -> jax.Array:
    r"""The Riesz energy, with slopes that stay in the range of the dtype.

    Where the slope would leave it, which powers up to 2 never do above the resolution
    of directions, the energy continues as a tangent in :math:`r^2`.

    Args:
        power: One of the numbers 0, 1 and 2, which have cheaper forms, or an array of
            any dtype, 0 or more.
        squares: Squared distances :math:`r^2`.
    """
    if isinstance(power, float):
        cheaper = {0.0: lambda x: riesz(0, x), 1.0: jax.lax.rsqrt, 2.0: lambda x: 1 / x}
        return cheaper[power](squares)
    power = jnp.asarray(power, squares.dtype)
    largest = _SHARE * float(jnp.finfo(squares.dtype).maxexp)
    floor = jnp.exp2(jnp.asarray(-2.0 * largest / (power + 2.0), squares.dtype))
    base = jnp.where(squares < floor, floor, squares)
    tangent = 1.0 + 0.5 * power * (1.0 - squares / base)
    return jnp.where(power == 0.0, riesz(0, squares), riesz(power, base) * tangent)


def pair_energies(
    power: float | jax.Array,
    u: jax.Array,
    v: jax.Array,
    is_pair: jax.Array,
    *,
    is_geodesic: bool,
    half_space: bool,
) -> jax.Array:
    """Energies of the pairs of unit vectors ``[n, d]`` and ``[m, d]``, ``[n, m]``.

    They are 0 where ``is_pair`` is false. Vectors too close to have a distance count as
    4 epsilons apart, with a constant energy. In half space, a pair has the mean of the
    energies of one vector with the other and with the other's mirror image.
    """
    cosines = inner_products(u, v, precision="highest")
    near = squared_gaps(cosines, u, v, is_pair)
    resolution = (4.0 * float(jnp.finfo(near.dtype).eps)) ** 2
    # This way round, NaN is not taken for a small number.
    near = jnp.where(near < resolution, resolution, near)
    # The distance to the closer and to the farther one of `v` and its mirror image.
    if is_geodesic:
        angles = 2.0 * arcsin(0.5 * jnp.sqrt(near), 0.0)
        near, far = jnp.square(angles), jnp.square(math.pi - angles)
    else:
        far = 4.0 - near
    if half_space:
        energies = 0.5 * (bounded_riesz(power, near) + bounded_riesz(power, far))
    else:
        energies = bounded_riesz(power, jnp.where(cosines < 0.0, far, near))
    return jnp.where(is_pair, energies, 0.0)
