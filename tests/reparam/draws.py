"""Params, noise and a definition in NumPy for the tests of reparameterizations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def draw(*shape, seed=0, dtype: Any = jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def params_of(dtype: Any = jnp.float32):
    return {
        "conv": {"bias": draw(8, dtype=dtype), "kernel": draw(2, 2, 3, 8, dtype=dtype)}
    }


def perturbed(tree, seed, size: Any = 0.5):
    """The tree with noise in all of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        leaf + size * draw(*leaf.shape, seed=seed + i, dtype=leaf.dtype)
        for i, leaf in enumerate(leaves)
    )


def rotation(raw, order, d):
    """The matrix of all factors, by Cayley's map, in float64."""
    total, size = np.eye(d), raw.shape[-1]
    for i, blocks in enumerate(np.asarray(raw, np.float64)[0]):
        order_i = np.arange(d).reshape(-1, size) if order is None else order[i]
        factor = np.eye(d)
        for j, at in enumerate(np.asarray(order_i)):
            s = np.triu(blocks[j % len(blocks)], 1) / size**0.5
            s = s - s.T
            eye = np.eye(size)
            factor[np.ix_(at, at)] = np.linalg.inv(eye - s) @ (eye + s)
        total = factor @ total
    return total
