"""Riesz energy of a distance: its inverse power, or minus its logarithm."""

import jax
import jax.numpy as jnp

# Largest magnitude of energies and their slopes, as a share of the dtype's exponents.
# What is left bears sums over pairs and the division by short vectors.
_SHARE = 0.6875


# What has a cheaper form, as a Python number; any other compiles once for all powers.
_STATIC = (0.0, 1.0, 2.0)


def split_power(
    power: jax.typing.ArrayLike,
) -> tuple[float | None, jax.Array | None]:
    """The power as a number that is fixed, or as an array: the other one is None."""
    if isinstance(power, (int, float)) and not hasattr(power, "aval"):
        if power in _STATIC:
            return float(power), None
        power = float(power)
    return None, jnp.asarray(power)


def riesz(power: float | jax.Array, squares: jax.Array) -> jax.Array:
    r"""``r^-power``, or ``-log r`` for power 0, of squared distances, positive.

    Where the slope would leave the numbers of the dtype, which powers up to 2 never do
    above the resolution of directions, the energy continues as a tangent in
    :math:`r^2`.

    Args:
        power: 0 or more, a Python number or an array, of any dtype.
        squares: Squared distances :math:`r^2`.
    """
    if not isinstance(power, float):
        power = jnp.asarray(power, squares.dtype)
        logarithms = -0.5 * jnp.log(squares)
        return jnp.where(power == 0.0, logarithms, _steep(power, squares))
    if power == 0.0:
        return -0.5 * jnp.log(squares)
    if power == 1.0:
        return jax.lax.rsqrt(squares)
    if power == 2.0:
        return 1.0 / squares
    return _steep(power, squares)


def _steep(power, squares):
    largest = _SHARE * float(jnp.finfo(squares.dtype).maxexp)
    floor = jnp.exp2(jnp.asarray(-2.0 * largest / (power + 2.0), squares.dtype))
    base = jnp.where(squares < floor, floor, squares)
    beyond = 1.0 - squares / base
    # A power by its logarithm: XLA's own is a scalar call on CPU.
    return jnp.exp(-0.5 * power * jnp.log(base)) * (1.0 + 0.5 * power * beyond)
