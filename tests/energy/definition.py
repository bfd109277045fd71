"""The energy of points, by its definition in float64 NumPy."""

import math

import numpy as np

from tests import reference


def riesz(power, distances):
    return -np.log(distances) if power == 0 else distances ** (-power)


def energy(points, power=1.0, *, geodesic=False, half_space=False):
    """Mean over ordered pairs; no pair is one of a point and its own mirror image."""
    angles = reference.angles(points, points)[~np.eye(len(points), dtype=bool)]
    if half_space:
        angles = np.concatenate([angles, math.pi - angles])
    return np.mean(riesz(power, angles if geodesic else 2 * np.sin(angles / 2)))
