"""Levenshtein's quadrature: how well spread directions, or lines, can be at best.

A rule for the cosines of random pairs that has a node at 1, of weight ``1 / n``, and is
exact for polynomials of as high a degree as can be. No ``n`` directions are spread
better than they would be with all their cosines at its other nodes.
"""

import math
from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """The nodes below 1 and their weights, and the weight of the node at 1."""

    nodes: np.ndarray
    weights: np.ndarray
    at_one: float


def levenshtein(n: int, d: int, *, half_space: bool) -> tuple[np.ndarray, np.ndarray]:
    """Nodes below 1 in ascending order, and weights with a sum of one.

    Args:
        n: Number of directions, or in half space of lines; 2 or more.
        d: Dimensions, 2 or more.
        half_space: Whether a node is not a cosine ``c`` but ``2 c^2 - 1``.
    """
    if half_space and n <= d:  # at right angles
        return np.array([-1.0]), np.array([1.0])
    # The density of random pairs is (1 - x)^a (1 + x)^b.
    a = (d - 3) / 2
    space = a, -0.5 if half_space else a
    size, end = _order(n, d, half_space)
    # The largest node lies between those of the Gauss rules before and after.
    low = _largest(space, size, 0) if end else _largest(space, size - 1, 1)
    high = _largest(space, size, end)
    for _ in range(60):
        middle = 0.5 * (low + high)
        rule = _rule(space, size, end, middle)
        low, high = (middle, high) if n * rule.at_one > 1.0 else (low, middle)
    order = np.argsort(rule.nodes)
    return rule.nodes[order], rule.weights[order] / np.sum(rule.weights)


def _order(n: int, d: int, half_space: bool) -> tuple[int, int]:
    """Nodes inside (-1, 1), and whether there is one at -1: 1 or 0."""
    size, end = 1, 0
    while n > _most(size, end, d, half_space):
        size, end = size + end, 1 - end
    return size, end


def _most(size: int, end: int, d: int, half_space: bool) -> int:
    """The largest number of directions for which a rule has so few nodes."""
    if half_space:
        return math.comb(d + 2 * size + end - 1, d - 1)
    fewer = size - 1 + end
    return math.comb(d + size - 1, d - 1) + math.comb(d + fewer - 1, d - 1)


def _largest(space: tuple[float, float], size: int, end: int) -> float:
    return np.max(_rule(space, size, end).nodes) if size else -1.0


def _rule(
    space: tuple[float, float], size: int, end: int, largest: float | None = None
) -> Rule:
    """Of Gauss, for polynomials divided by ``(1 - x) (1 + x)^end``; or of Radau."""
    a, b = space
    diagonal, squares = _recurrence(size, a + 1, b + end)
    if largest is not None:
        ratio = math.inf  # of successive orthogonal polynomials at the largest node
        for entry, square in zip(diagonal[:-1], [0.0, *squares], strict=False):
            ratio = largest - entry - square / ratio
        diagonal[-1] = largest - (squares[-1] / ratio if size > 1 else 0.0)
    off = np.diag(np.sqrt(squares), 1)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + off + off.T)
    p, q = (b + 1) / (a + b + 2), (a + 1) / (a + b + 2)  # means of (1 +- x) / 2
    mass = 4 * p * q * (a + b + 2) / (a + b + 3) if end else 2 * q
    weights = mass * vectors[0] ** 2 / ((1 - nodes) * (1 + nodes) ** end)
    if not end:
        return Rule(nodes, weights, 1 - np.sum(weights))
    at_one, at_end = p - weights @ (1 + nodes) / 2, q - weights @ (1 - nodes) / 2
    return Rule(np.append(nodes, -1.0), np.append(weights, at_end), at_one)


def _recurrence(size: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the Jacobi polynomials: diagonal, and squares beside it, of Jacobi's matrix.

    ``a + b`` must not be negative.
    """
    k = np.arange(1, size)
    s = 2 * k + a + b
    diagonal = np.append((b - a) / (a + b + 2), (b - a) * (a + b) / (s * (s + 2)))
    squares = 4 * k * (k + a) * (k + b) * (k + a + b) / (s**2 * (s + 1) * (s - 1))
    return diagonal, squares
