"""Kernels that turn together: one raw array for all of one shape."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx

SHAPES = {"a": (8, 3), "b": (2, 4, 5), "c": (6, 3), "d": (8, 3)}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def params_of():
    return {
        name: {"kernel": draw(*shape, seed=i)}
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def cayley(raw, block_size):
    """Block-diagonal, in float64."""
    blocks = []
    for a in np.asarray(raw, np.float64).reshape(-1, block_size, block_size):
        s = np.triu(a, 1) / block_size**0.5
        s, eye = s - s.T, np.eye(block_size)
        blocks.append(np.linalg.inv(eye - s) @ (eye + s))
    size = block_size * len(blocks)
    matrix = np.zeros((size, size))
    for i, block in enumerate(blocks):
        at = slice(i * block_size, (i + 1) * block_size)
        matrix[at, at] = block
    return matrix


@pytest.mark.parametrize("side", ["left", "both"])
def test_kernels_of_one_dimension_turn_together(side, key):
    convolution = {"b/kernel": sx.neurons.NeuronDimensions()}  # over one axis
    training = sx.reparam.orthogonal(
        side=side,
        neuron_init="given",
        block_size=None if side == "both" else 4,
        tie=True,
        neurons=convolution,
    )
    free, frozen = training.init(key, params_of())
    lefts = {name: free[name]["kernel"].left for name in SHAPES}
    assert [name for name, raw in lefts.items() if raw is not None] == ["a", "c"]
    learned = jax.tree.map(lambda x: x + draw(*x.shape, seed=9), free)
    turned = jax.jit(training.apply)(learned, frozen)
    for name, left in {"a": "a", "b": "a", "c": "c", "d": "a"}.items():
        v = np.asarray(params_of()[name]["kernel"], np.float64)
        w = v.reshape(-1, v.shape[-1])
        raw = learned[left]["kernel"].left
        w = cayley(raw, raw.shape[-1]) @ w
        if side == "both":
            # Three neurons each have a, c and d; five has b.
            right = learned["b" if name == "b" else "a"]["kernel"].right
            w = w @ cayley(right, right.shape[-1]).T
        np.testing.assert_allclose(
            turned[name]["kernel"], w.reshape(v.shape), rtol=1e-4, atol=1e-5
        )


def test_all_kernels_move_what_they_share(key):
    """In a model, by an optimizer, with energies that stay what they were."""
    model = nnx.Sequential(
        nnx.Linear(6, 6, rngs=nnx.Rngs(0)), nnx.Linear(6, 6, rngs=nnx.Rngs(1))
    )
    graphdef, params = nnx.split(model, nnx.Param)
    training = sx.reparam.orthogonal(tie=True, neuron_init="given")
    free, frozen = training.init(key, params)
    adam = optax.adam(0.1)

    def loss(free):
        model: Any = nnx.merge(graphdef, training.apply(free, frozen))
        return jnp.mean(jnp.sin(model(draw(5, 6))))

    @jax.jit
    def update(free):
        updates, _ = adam.update(jax.grad(loss)(free), adam.init(free), free)
        return optax.apply_updates(free, updates)

    before = nnx.state(model)
    after = training.merge(jax.block_until_ready(update(free)), frozen)
    for layer in (0, 1):
        old = np.asarray(before["layers"][layer]["kernel"][...])
        new = np.asarray(after["layers"][layer]["kernel"][...])
        assert np.max(np.abs(new - old)) > 1e-2
        np.testing.assert_allclose(new.T @ new, old.T @ old, atol=1e-5)
