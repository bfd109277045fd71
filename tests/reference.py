"""The definitions in float64 NumPy, written from the formulas and nothing else."""

import numpy as np


def directions(x):
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)


def angles(x, w):
    """Angles between the vectors ``[n, d]`` and the rows ``[m, d]``, accurate."""
    u, v = directions(x)[:, None], directions(w)[None]
    gap, sum_ = np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1)
    exists = (np.linalg.norm(u, axis=-1) > 0) & (np.linalg.norm(v, axis=-1) > 0)
    return np.where(exists, 2 * np.arctan2(gap, sum_), np.pi / 2)


def margin_softmax(x, w, labels, psi, eta=np.cos, *, scale=64.0, normalize="both"):
    """Losses ``[n]``: log-sum-exp of all logits minus the target's."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    theta = angles(x, w)
    own = np.arange(len(x)), labels
    modified = np.where(np.arange(len(w)) == labels[:, None], 0, eta(theta))
    modified[own] = psi(theta[own])
    radius = {
        "both": np.broadcast_to(np.reshape(scale, (-1, 1)), theta.shape),
        "prototypes": np.linalg.norm(x, axis=1)[:, None] * np.ones(len(w)),
        "none": np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1),
    }[normalize]
    logits = radius * modified
    top = logits.max(1)
    return top + np.log(np.exp(logits - top[:, None]).sum(1)) - logits[own]


def numerical_gradient(function, x, step=1e-6):
    """Central differences of a scalar function of one array."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (function(ahead) - function(behind)) / (2 * step)
    return gradient
