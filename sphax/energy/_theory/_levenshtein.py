"""Levenshtein's quadrature, from which bounds on energies and angles follow.

It is the quadrature rule for the cosines of random pairs that has a node at 1, with
weight ``1 / n``, and is exact for polynomials of the highest possible degree. No ``n``
directions are spread better than if all their cosines lay at its other nodes.
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
        half_space: Whether nodes are ``2 c^2 - 1`` for cosines ``c``, not ``c`` itself.
    """
    if half_space and n <= d:  # at right angles
        return np.array([-1.0]), np.array([1.0])
    if d == 2:  # the corners of a polygon, which would take about n nodes to find
        turns = np.arange(n // 2, 0, -1)
        weights = np.where(2 * turns == n, 1.0, 2.0) / (n - 1)
        return np.cos(2 * np.pi * turns / n), weights
    # The density of the nodes of random pairs is (1 - x)^a (1 + x)^b.
    a = (d - 3) / 2
    density = a, -0.5 if half_space else a
    # The fewest nodes inside (-1, 1), with one at -1 or none, that allow n directions.
    size, has_end = 1, False
    while n > _most(size, has_end, d, half_space):
        size, has_end = (size + 1, False) if has_end else (size, True)
    # The largest node lies between those of the Gauss rules before and after.
    low = -1.0
    if has_end:
        low = np.max(_rule(density, size, False).nodes)
    elif size > 1:
        low = np.max(_rule(density, size - 1, True).nodes)
    high = np.max(_rule(density, size, has_end).nodes)
    for _ in range(60):
        middle = 0.5 * (low + high)
        rule = _rule(density, size, has_end, middle)
        low, high = (middle, high) if n * rule.at_one > 1.0 else (low, middle)
    order = np.argsort(rule.nodes)
    return rule.nodes[order], rule.weights[order] / np.sum(rule.weights)


def _most(size: int, has_end: bool, d: int, half_space: bool) -> int:
    """The largest number of directions whose rule has so few nodes."""
    if half_space:
        return math.comb(d + 2 * size + has_end - 1, d - 1)
    fewer = size - 1 + has_end
    return math.comb(d + size - 1, d - 1) + math.comb(d + fewer - 1, d - 1)


def _rule(
    density: tuple[float, float],
    size: int,
    has_end: bool,
    largest: float | None = None,
) -> Rule:
    """The rule with a node at 1, ``size`` nodes inside (-1, 1), and one at -1 or none.

    The inner nodes are those of Gauss for the density times ``(1 - x)``, and times
    ``(1 + x)`` if there is a node at -1; or with ``largest`` given, those of Radau's
    rule, which has that node.
    """
    a, b = density
    diagonal, squares = _jacobi_matrix(size, a + 1, b + has_end)
    if largest is not None:
        ratio = math.inf  # of successive orthogonal polynomials at the largest node
        for entry, square in zip(diagonal[:-1], [0.0, *squares], strict=False):
            ratio = largest - entry - square / ratio
        diagonal[-1] = largest - (squares[-1] / ratio if size > 1 else 0.0)
    off = np.diag(np.sqrt(squares), 1)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + off + off.T)
    p, q = (b + 1) / (a + b + 2), (a + 1) / (a + b + 2)  # means of (1 +- x) / 2
    mass = 4 * p * q * (a + b + 2) / (a + b + 3) if has_end else 2 * q
    weights = mass * vectors[0] ** 2 / ((1 - nodes) * (1 + nodes) ** has_end)
    if not has_end:
        return Rule(nodes, weights, 1 - np.sum(weights))
    at_one, at_end = p - weights @ (1 + nodes) / 2, q - weights @ (1 - nodes) / 2
    return Rule(np.append(nodes, -1.0), np.append(weights, at_end), at_one)


def _jacobi_matrix(size: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of the Jacobi polynomials, whose eigenvalues are the nodes.

    Its diagonal, and the squares of the entries beside it; ``a + b`` must not be
    negative.
    """
    k = np.arange(1, size)
    s = 2 * k + a + b
    diagonal = np.append((b - a) / (a + b + 2), (b - a) * (a + b) / (s * (s + 2)))
    squares = 4 * k * (k + a) * (k + b) * (k + a + b) / (s**2 * (s + 1) * (s - 1))
    return diagonal, squares
