"""The mean energy of random directions."""

import math
from typing import get_args

import numpy as np

from sphax._checks import check_choice, check_count, is_number
from sphax.energy._hyperspherical import Distance

# Nodes of the quadrature: enough for a density of width 1 / sqrt(d) up to d = 1e5, and
# so close to the ends that the singularity may come as near as s = 0.99 (d - 1).
_NODES = np.linspace(-8.0, 8.0, 1 << 15)


def expected_energy(
    d: int, *, power: float = 1.0, distance: Distance = "euclidean"
) -> float:
    r"""Mean energy of a pair of random directions.

    .. math::
        \frac{\int_0^\pi f_s(\rho(\theta)) \sin^{d-2}\theta\, d\theta}
             {\int_0^\pi \sin^{d-2}\theta\, d\theta}, \qquad
        f_s(\rho) = \rho^{-s}, \quad f_0(\rho) = -\log \rho

    It is the expectation of :func:`hyperspherical_energy`, in half space too, for any
    number of directions that are uniform on the sphere, such as those of neurons with
    normal entries, and the limit of the minimum as their number grows. In many
    dimensions, random neurons are therefore close to the minimum.

    The integral is computed by a quadrature. For the chord it is

    .. math::
        2^{-s}\, \frac{\Gamma(\frac{d - 1 - s}{2})\, \Gamma(d - 1)}
                      {\Gamma(\frac{d - 1}{2})\, \Gamma(d - 1 - \frac s2)}.

    Args:
        d: Dimensions, 2 or more.
        power: :math:`s`, 0 or more.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.

    Returns:
        The expectation, to about 12 digits; infinite from :math:`s = d - 1` on.

    Raises:
        ValueError: If ``d`` or ``power`` is out of range, or ``distance`` unknown.

    Example:
        >>> print(sx.energy.expected_energy(3), sx.energy.expected_energy(3, power=2.0))
        1.0 inf

    References:
        Borodachov, Hardin, Saff, `Discrete Energy on Rectifiable Sets
        <https://doi.org/10.1007/978-0-387-84808-2>`_, Springer 2019.
    """
    check_problem(power, distance, d=d)
    if power >= d - 1:
        return math.inf
    # theta = pi x, x the logistic function of pi sinh(u): by their logarithms, nodes
    # are as close to 0 and pi as it takes for any power.
    log_x, log_rest = (
        -np.logaddexp(0.0, sign * np.pi * np.sinh(_NODES)) for sign in (-1, 1)
    )
    log_density = (d - 2) * _log_sine(np.minimum(log_x, log_rest))
    log_weights = log_density + log_x + log_rest + np.log(np.cosh(_NODES))
    if distance == "euclidean":
        log_distance = math.log(2.0) + _log_sine(log_x - math.log(2.0))
    else:
        log_distance = math.log(math.pi) + log_x
    log_weights -= np.logaddexp.reduce(log_weights)
    if power == 0:
        return float(-np.exp(log_weights) @ log_distance)
    return float(np.exp(np.logaddexp.reduce(log_weights - power * log_distance)))


def check_problem(power: float, distance: Distance, **sizes: int) -> None:
    """Raises unless sizes are 2 or more, and power and distance those of an energy."""
    for name, size in sizes.items():
        check_count(name, size, 2)
    if not is_number(power, "power") or not math.isfinite(power):
        raise TypeError(f"power must be a finite Python number, got {power!r}.")
    if not power >= 0:
        raise ValueError(f"power must be 0 or more, got {power}.")
    check_choice("distance", distance, get_args(Distance))


def _log_sine(log_x):
    """``log sin(pi x)`` of ``log x``, x up to a half, however small."""
    return math.log(math.pi) + log_x + np.log(np.sinc(np.exp(log_x)))
