"""Functions of lengths and of angles that the tests run over: a new one adds a row."""

from typing import Any

import numpy as np

from sphax import operators as so

# What is tested, and its definition in NumPy. Radii are those of no patch below.
MAGNITUDES: dict[str, Any] = {
    "sphere": (so.Sphere, dict(alpha=1.3), lambda r: 1.3 * np.ones_like(r)),
    "ball": (
        so.Ball,
        dict(rho=1.7, alpha=1.3),
        lambda r: np.where(r < 1.7, 1.3 * r / 1.7, 1.3),
    ),
    "tanh": (so.Tanh, dict(rho=1.7, alpha=1.3), lambda r: 1.3 * np.tanh(r / 1.7)),
    "linear": (so.Linear, dict(alpha=1.3), lambda r: 1.3 * r),
    "segmented": (
        so.Segmented,
        dict(rho=1.7, alpha=1.3, beta=0.4),
        lambda r: np.where(r < 1.7, 1.3 * r, 0.4 * r + 0.9 * 1.7),
    ),
    "log": (so.Log, dict(alpha=1.3), lambda r: 1.3 * np.log(1 + r)),
    "mix": (
        so.Mix,
        dict(alpha=1.3, beta=0.4),
        lambda r: 1.3 * r + 0.4 * np.log(1 + r),
    ),
    "power": (
        so.Power,
        dict(rho=1.7, alpha=1.3, exponent=0.6),
        lambda r: 1.3 * (r / 1.7) ** 0.6,
    ),
}
K = 0.3


def paper_sigmoid(theta):
    q = np.pi / (2 * K)
    left = (1 + np.exp(-q)) / (1 - np.exp(-q))
    return left * (1 - np.exp(theta / K - q)) / (1 + np.exp(theta / K - q))


ANGULARS: dict[str, Any] = {
    "linear": (so.LinearAngle(), lambda a: 1 - 2 * a / np.pi),
    "cosine": (so.Cosine(), np.cos),
    "sigmoid": (so.Sigmoid(k=K), paper_sigmoid),
    "square": (so.SquareCosine(), lambda a: np.sign(np.cos(a)) * np.cos(a) ** 2),
}
