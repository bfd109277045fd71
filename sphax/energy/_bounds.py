"""Bounds that no directions beat: on their energy, and on their closest pair."""

import math

import numpy as np

from sphax._checks import check_flag
from sphax.energy._expectations import check_problem
from sphax.energy._hyperspherical import Distance
from sphax.energy._levenshtein import levenshtein


def energy_lower_bound(
    n: int,
    d: int,
    *,
    power: float = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
) -> float:
    r"""Lower bound of the energy of any n directions (universal lower bound).

    :math:`\sum_k w_k f_s(\rho(c_k))` at the cosines and weights of Levenshtein's
    quadrature. With no more than :math:`d + 1` directions, this is the energy of the
    regular simplex; in half space, with no more than :math:`d (d + 1) / 2`, that of
    lines which all meet at the angle of Welch's bound (and at right angles, up to
    :math:`d` of them). It is attained by all sharp configurations: simplex,
    cross-polytope, icosahedron, the roots of :math:`E_8`, polygons.

    Of the angle in full space, it is :math:`f_s` of the largest possible mean,
    :math:`\pi \lfloor \frac n2 \rfloor \lceil \frac n2 \rceil / \binom n2`, as a random
    hyperplane separates a pair with a probability of :math:`\theta / \pi`, and none
    separates more pairs. Two and three directions attain it. Where :math:`f_s` lies
    above its tangent at the cosine of the simplex, from five directions on if
    :math:`s \ge 1`, the energy of that is the bound. It is not for :math:`s = 0`, when
    a square is better than a tetrahedron.

    Args:
        n: Number of directions, 2 or more.
        d: Dimensions, 2 or more.
        power: :math:`s`, 0 or more.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.
        half_space: Whether the energy is that in half space.

    Returns:
        The bound of :func:`hyperspherical_energy`, to about 12 digits.

    Raises:
        ValueError: If a number is out of range, or ``distance`` unknown.

    Example:
        >>> print(sx.energy.energy_lower_bound(4, 3, power=2.0))  # tetrahedron
        0.375

    References:
        Boyvalenkov, Dragnev, Hardin, Saff, Stoyanova, `Universal Lower Bounds for
        Potential Energy of Spherical Codes <https://arxiv.org/abs/1503.07228>`_,
        Constructive Approximation 2016.
    """
    check_problem(power, distance, n=n, d=d)
    check_flag("half_space", half_space)
    if distance == "geodesic" and not half_space:
        return _geodesic_bound(n, power)
    nodes, weights = levenshtein(n, d, half_space=half_space)
    cosines = np.sqrt((1 + nodes) / 2) if half_space else nodes
    energies = _energies(power, distance, cosines)
    if half_space:
        energies = 0.5 * (energies + _energies(power, distance, -cosines))
    return float(weights @ energies)


def closest_angle_bound(n: int, d: int, *, half_space: bool = False) -> float:
    r"""Largest angle that the closest pair of n directions can have, at most.

    Levenshtein's bound, and where it says more, Rankin's: a right angle for more than
    :math:`d + 1` directions. Of lines in half space, the cosine of the angle, a lower
    bound of their coherence, is Welch's :math:`\sqrt{(n - d) / (d (n - 1))}` for no
    more than :math:`d (d + 1) / 2` of them.

    Args:
        n: Number of directions, 2 or more.
        d: Dimensions, 2 or more.
        half_space: Whether the angle is that of lines, at most a right one.

    Returns:
        The bound, in radians.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import math
        >>> math.degrees(sx.energy.closest_angle_bound(12, 3))  # icosahedron
        63.4349

    References:
        Levenshtein, `Universal bounds for codes and designs
        <https://doi.org/10.1016/S1874-5849(98)80014-X>`_, Handbook of Coding Theory,
        1998; Welch, `Lower Bounds on the Maximum Cross Correlation of Signals
        <https://doi.org/10.1109/TIT.1974.1055219>`_, 1974.
    """
    check_problem(0.0, "euclidean", n=n, d=d)
    check_flag("half_space", half_space)
    nodes, _ = levenshtein(n, d, half_space=half_space)
    if half_space:
        return float(np.arccos(np.sqrt((1 + nodes[-1]) / 2)))
    cosine = nodes[-1] if n <= d + 1 else max(nodes[-1], 0.0)
    return float(np.arccos(cosine))


def _geodesic_bound(n: int, power: float) -> float:
    mean = math.pi * (n // 2) * ((n + 1) // 2) / math.comb(n, 2)
    of_mean = float(_riesz(power, mean))
    cosine = -1 / (n - 1)
    angle = math.acos(cosine)
    of_simplex = float(_riesz(power, angle))
    # As a function of the cosine the energy is convex, then down to -1 concave: the
    # tangent is below all of it if it is where they meet -1, and touches the first.
    is_convex = (power + 1) * math.sin(angle) + angle * cosine >= 0
    slope = (power or 1.0) * angle ** (-power - 1) / math.sin(angle)
    if is_convex and of_simplex - slope * (1 + cosine) <= _riesz(power, math.pi):
        return max(of_mean, of_simplex)
    return of_mean


def _energies(power, distance, cosines):
    is_chord = distance == "euclidean"
    return _riesz(power, np.sqrt(2 - 2 * cosines) if is_chord else np.arccos(cosines))


def _riesz(power, distances):
    return -np.log(distances) if power == 0 else distances**-power
