"""The layers of nGPT against NumPy, and what holds for all their inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax.layers import (
    LearnedScale,
    NormalizedAttention,
    NormalizedBlock,
    NormalizedMLP,
)
from tests.layers import ngpt_reference as reference

# The axis of the embedding of each matrix.
ATTENTION = {"query": 0, "key": 0, "value": 0, "out": -1}
MLP = {"up": 0, "gate": 0, "out": -1}


def drawn(layer, dtype, seed=0):
    """The layer with all its parameters normal; and these, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    params = nnx.state(layer, nnx.Param)
    nnx.update(
        layer,
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), dtype), params),
    )
    return layer, jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(layer)))


def points(*shape, dtype=jnp.float32, seed=5):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def called(layer, *arguments):
    graph, state = nnx.split(layer)
    return jax.jit(lambda state, *x: nnx.merge(graph, state)(*x))(state, *arguments)


@pytest.mark.parametrize("step", ["linear", "geodesic"])
@pytest.mark.usefixtures("x64")
def test_a_block_is_its_definition(step):
    block, values = drawn(
        NormalizedBlock(
            8,
            2,
            6,
            step=step,
            rotary_base=30.0,
            param_dtype=jnp.float64,
            rngs=nnx.Rngs(0),
        ),
        jnp.float64,
    )
    x = points(3, 5, 8, dtype=jnp.float64)
    expected = reference.block(np.asarray(x), values, step=step, base=30.0)
    np.testing.assert_allclose(called(block, x), expected, rtol=1e-11, atol=1e-12)
    # One sequence, without a batch.
    np.testing.assert_allclose(block(x[1]), expected[1], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_attention_is_bounded_for_all_inputs():
    """One head, and matrices that let its weights be read off."""
    size = 6
    layer = NormalizedAttention(size, 1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer.value[...] = jnp.eye(size)[:, None]
    layer.out[...] = jnp.eye(size)[None]
    stored = jnp.array([[0.3, 1.5, 1.0, 0.9, 1.2, -1.6]])
    layer.scale.stored[...] = stored / size**0.5
    bound = np.sqrt(size) * 1.6**2
    for magnitude in (1.0, 1e8):
        x = magnitude * points(size, size, dtype=jnp.float64)
        weights = np.asarray(layer(x)) @ np.linalg.inv(x)
        for t in range(1, size):
            logits = np.log(weights[t, : t + 1])
            assert np.ptp(logits) <= 2 * bound
            # Far more than the inputs of a plain attention of this length would allow.
            assert np.ptp(logits) > 0.1
            np.testing.assert_allclose(weights[t, t + 1 :], 0.0, atol=1e-9)


def test_a_geodesic_step_goes_a_share_of_the_angle():
    """The dense layers propose a fixed point, whatever the token is."""
    block: Any = NormalizedBlock(4, 1, 3, step="geodesic", rate=0.25, rngs=nnx.Rngs(0))
    block.attention_rate.stored[...] = jnp.zeros(4)
    target = sx.sphere.normalize(jnp.array([1.0, 2.0, -1.0, 0.5]))
    block.mlp = lambda tokens: jnp.broadcast_to(7.0 * target, tokens.shape)
    across = sx.sphere.normalize(
        sx.sphere.project_to_tangent(target, jnp.array([1.0, 0.0, 1.0, 0.0]))
    )
    angles = jnp.array([0.0, 1e-4, 1e-2, 1.0, 3.0, 3.1, jnp.pi])
    tokens = jnp.outer(jnp.cos(angles), target) + jnp.outer(jnp.sin(angles), across)
    tokens = tokens.at[-1].set(-target)
    found = block(tokens)
    np.testing.assert_allclose(sx.sphere.length(found), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        sx.sphere.angle(tokens, found)[:-1], angles[:-1] / 4, rtol=1e-5, atol=5e-7
    )
    np.testing.assert_allclose(
        sx.sphere.angle(found, target[None])[:-1],
        0.75 * angles[:-1],
        rtol=1e-4,
        atol=2e-7,
    )
    # As far as the chord: no way is shorter than the others.
    np.testing.assert_allclose(found[-1], tokens[-1], atol=1e-6)
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(block(x) * points(7, 4))))(tokens)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("step", ["linear", "geodesic"])
def test_singular_inputs_are_finite(step):
    block = NormalizedBlock(8, 2, 4, step=step, rngs=nnx.Rngs(0))
    block.attention.out[...] = jnp.zeros_like(block.attention.out[...])
    graph, state = nnx.split(block)
    x = points(3, 8).at[1].set(0.0)

    def loss(state, x):
        return jnp.sum(nnx.merge(graph, state)(x) * points(3, 8, seed=6))

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(state, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_neurons_are_unit_vectors_along_the_embedding():
    block = NormalizedBlock(8, 2, 6, rngs=nnx.Rngs(0))
    state = nnx.state(block)
    found = sx.neurons.find(state, sx.neurons.of(block))
    values = nnx.to_pure_dict(state)
    expected = {"attention": (ATTENTION, (2, 4, 8)), "mlp": (MLP, (1, 6, 8))}
    for layer, (names, sizes) in expected.items():
        for name, axis in names.items():
            leaf = np.asarray(values[layer][name], np.float64)
            axes = found.pop(f"{layer}/{name}")
            assert axes.sizes(leaf.shape) == sizes
            np.testing.assert_allclose(np.linalg.norm(leaf, axis=axis), 1.0, rtol=1e-6)
            rows = np.asarray(axes.rows(jnp.asarray(leaf, jnp.float32)))
            np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1.0, rtol=1e-6)
    assert not found  # scales have no neurons


def test_a_learned_scale_moves_by_its_own_rate():
    scale = LearnedScale((3,), 0.05, 0.25)
    np.testing.assert_allclose(scale(), 0.05, rtol=1e-6)
    graph, state = nnx.split(scale)
    slope = jax.grad(lambda state: nnx.merge(graph, state)().sum())(state)
    np.testing.assert_allclose(slope["stored"][...], 0.2, rtol=1e-6)


def test_dtypes():
    x = points(2, 3, 8)
    for kind in (NormalizedAttention, NormalizedMLP):
        sizes = (8, 2) if kind is NormalizedAttention else (8,)
        half = kind(*sizes, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        assert half(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
        assert half(x).dtype == jnp.float32
        mixed = kind(*sizes, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        assert mixed(x).dtype == jnp.bfloat16
        np.testing.assert_allclose(
            mixed(x).astype(jnp.float32), kind(*sizes, rngs=nnx.Rngs(0))(x), atol=0.15
        )
    block = NormalizedBlock(8, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    found = block(x.astype(jnp.bfloat16))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(sx.sphere.length(found), 1.0, rtol=1e-6)
    exact = NormalizedBlock(8, 2, rngs=nnx.Rngs(0))(x)
    np.testing.assert_allclose(found, exact, atol=0.02)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NormalizedAttention(6, 2, rngs=nnx.Rngs(0)), ValueError, "even multi"),
        (lambda: NormalizedMLP(0, rngs=nnx.Rngs(0)), ValueError, "features must be a"),
        (lambda: NormalizedMLP(4, 0, rngs=nnx.Rngs(0)), ValueError, "hidden must be a"),
        (
            lambda: NormalizedBlock(
                4,
                1,
                step="straight",  # pyright: ignore[reportArgumentType]
                rngs=nnx.Rngs(0),
            ),
            ValueError,
            "NormalizedBlock: step must be one of",
        ),
        (
            lambda: NormalizedBlock(4, 1, rate=-0.1, rngs=nnx.Rngs(0)),
            ValueError,
            "NormalizedBlock: rate must be 0 or more",
        ),
        (lambda: LearnedScale((2,), 1.0, 0.0), ValueError, "stored must be positive"),
        (
            lambda: NormalizedAttention(4, 1, rngs=nnx.Rngs(0))(jnp.ones(4)),
            ValueError,
            r"inputs must be \[..., length, features\], got shape \(4,\)",
        ),
        (
            lambda: NormalizedMLP(4, rngs=nnx.Rngs(0))(jnp.ones((2, 3))),
            ValueError,
            r"inputs must be \[..., 4\]",
        ),
        (
            lambda: NormalizedAttention(4, 1, rngs=nnx.Rngs(0))(
                jnp.ones((2, 3, 4)),
                NormalizedAttention(4, 1, rngs=nnx.Rngs(0)).init_cache((5,), 3),
            ),
            ValueError,
            r"cache must be for a batch \(2,\), .* got \(5,\)",
        ),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
