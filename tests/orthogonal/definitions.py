"""The maps onto orthogonal matrices in NumPy, written from their definitions."""

import numpy as np


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def skew(a):
    return np.triu(a, 1) - np.triu(a, 1).T


def gram_schmidt(a):
    q = np.zeros_like(a)
    for j in range(a.shape[1]):
        left = a[:, j] - q[:, :j] @ (q[:, :j].T @ a[:, j])
        q[:, j] = left / np.linalg.norm(left)
    return q


def householder(v):
    q = np.eye(v.shape[1])
    for row in v:
        q = q - 2.0 * np.outer(q @ row, row) / (row @ row)
    return q


def lowdin(a):
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return u @ v


def cayley(a):
    eye = np.eye(len(a))
    return np.linalg.solve(eye - skew(a), eye + skew(a))


def exponential(a):
    angles, vectors = np.linalg.eigh(-1j * skew(a))
    return np.real((vectors * np.exp(1j * angles)) @ vectors.conj().T)


def neumann(a, terms=4, last=2.0):
    powers = [np.linalg.matrix_power(skew(a), j) for j in range(terms + 1)]
    return powers[0] + 2.0 * sum(powers[1:-1], 0 * powers[0]) + last * powers[-1]
