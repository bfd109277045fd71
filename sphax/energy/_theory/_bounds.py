"""Bounds on the energy of n directions, and on the angle of their closest pair."""

import math

import numpy as np

from sphax._checks import check_flag
from sphax.energy._hyperspherical import Distance
from sphax.energy._pairs._riesz import riesz
from sphax.energy._theory._expectations import check_problem
from sphax.energy._theory._levenshtein import levenshtein


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
    quadrature. For at most :math:`d + 1` directions, this is the energy of the regular
    simplex; in half space, for at most :math:`d (d + 1) / 2`, the energy of lines that
    all meet at the angle of Welch's bound (at right angles, if there are at most
    :math:`d`). It is attained by all sharp configurations: simplex, cross-polytope,
    icosahedron, the roots of :math:`E_8`, polygons.

    For the geodesic distance in full space, the bound is :math:`f_s` at the largest
    possible mean angle,
    :math:`\pi \lfloor \frac n2 \rfloor \lceil \frac n2 \rceil / \binom n2`: a random
    hyperplane separates a pair with probability :math:`\theta / \pi`, and no hyperplane
    separates more pairs. Two and three directions attain it. Where :math:`f_s` lies
    above its tangent at the cosine of the simplex, with five or more directions if
    :math:`s \ge 1`, the bound is the energy of the simplex. For :math:`s = 0` it is
    not: a square has a lower energy than a tetrahedron.

    Args:
        n: Number of directions, 2 or more.
        d: Dimensions, 2 or more.
        power: :math:`s`, 0 or more.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.
        half_space: Whether points stand for their mirror images as well.

    Returns:
        A lower bound of :func:`hyperspherical_energy`, to about 12 digits.

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
    r"""Upper bound on the minimum angle between n directions.

    Levenshtein's bound, and Rankin's where it is tighter: a right angle for more than
    :math:`d + 1` directions. For at most :math:`d (d + 1) / 2` lines in half space, the
    cosine of the angle, a lower bound of their coherence, is Welch's
    :math:`\sqrt{(n - d) / (d (n - 1))}`.

    Args:
        n: Number of directions, 2 or more.
        d: Dimensions, 2 or more.
        half_space: Whether the angle is that of lines, which is at most a right angle.

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
    at_mean = float(riesz(power, mean**2))
    cosine = -1 / (n - 1)
    angle = math.acos(cosine)
    at_simplex = float(riesz(power, angle**2))
    # As a function of the cosine the energy is convex, then down to -1 concave: its
    # tangent lies below all of it if it does at -1, and touches the convex part.
    is_convex = (power + 1) * math.sin(angle) + angle * cosine >= 0
    slope = (power or 1.0) * angle ** (-power - 1) / math.sin(angle)
    if is_convex and at_simplex - slope * (1 + cosine) <= riesz(power, math.pi**2):
        return max(at_mean, at_simplex)
    return at_mean


def _energies(power, distance, cosines):
    if distance == "euclidean":
        return riesz(power, 2 - 2 * cosines)
    return riesz(power, np.arccos(cosines) ** 2)
