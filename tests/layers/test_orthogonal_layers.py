"""Orthogonal and over-parameterized layers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx

sl = sx.layers

# Each called with [2, 4, 5, 6].
ORTHOGONAL: dict[str, Any] = {
    "dense": partial(sl.OrthogonalLinear, 6, 4),
    "wide dense": partial(sl.OrthogonalLinear, 6, 8, method="householder"),
    "conv": partial(sl.OrthogonalConv, 6, 4, (2, 3), (2, 1), method="gram_schmidt"),
}
FROZEN: dict[str, Any] = {
    "opt dense": partial(sl.OPTLinear, 6, 8, use_bias=False),
    "opt conv": partial(sl.OPTConv, 6, 4, (2, 3), padding="CIRCULAR", block_size=12),
}
LAYERS = ORTHOGONAL | FROZEN
# All but the layer whose map, lowdin, takes long to compile backward: the gradients of
# all maps are tested with sphax.orthogonal.
TRAINED = [name for name in LAYERS if name != "dense"]


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, 4, 5, 6)), jnp.float32)


def matrix(kernel):
    kernel = np.asarray(kernel, np.float64)
    return kernel.reshape(-1, kernel.shape[-1])


@pytest.mark.parametrize("name", TRAINED)
def test_training_keeps_what_is_orthogonal(name):
    layer = LAYERS[name](rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(layer, optax.adamw(0.05, weight_decay=0.5), wrt=nnx.Param)
    frozen = jax.tree.map(np.array, nnx.state(layer, sl.Frozen))
    target = nnx.eval_shape(lambda: layer(inputs())).shape
    target = jnp.asarray(np.random.default_rng(1).normal(size=target), jnp.float32)

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            return jnp.mean((layer(inputs()) - target) ** 2)

        value, gradient = nnx.value_and_grad(loss)(layer)
        optimizer.update(layer, gradient)
        return value

    kernel_of = nnx.jit(lambda layer: layer.effective_kernel())
    before = kernel_of(layer)
    losses = [step(layer, optimizer) for _ in range(6)]
    assert losses[-1] < losses[0]
    w, start = matrix(kernel_of(layer)), matrix(before)
    assert np.max(np.abs(w - start)) > 0.05
    if name in ORTHOGONAL:
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    else:
        v = matrix(layer.neurons[...])
        size = layer.rotation.shape[-1]
        for i in range(0, len(v), size):
            block, fixed = w[i : i + size], v[i : i + size]
            np.testing.assert_allclose(block.T @ block, fixed.T @ fixed, atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, frozen, nnx.state(layer, sl.Frozen))


@pytest.mark.parametrize("name", LAYERS)
def test_merged_layers_are_those_of_flax(name):
    layer = LAYERS[name](rngs=nnx.Rngs(0))
    if layer.bias is not None:
        layer.bias[...] = jnp.arange(float(layer.bias.size))
    merged = layer.merge()
    assert isinstance(merged, (nnx.Linear, nnx.Conv))
    np.testing.assert_array_equal(merged.kernel[...], layer.effective_kernel())
    outputs = nnx.jit(lambda layer, x: layer(x))(layer, inputs())
    np.testing.assert_allclose(outputs, merged(inputs()), rtol=1e-5, atol=1e-5)


def test_the_rotation_is_that_of_cayley():
    layer = sl.OPTLinear(4, 3, rngs=nnx.Rngs(0))
    layer.rotation[...] = jnp.arange(16.0).reshape(1, 1, 1, 4, 4) / 10
    s = np.triu(np.arange(16.0).reshape(4, 4) / 10, 1) / 2
    s = s - s.T
    r = np.linalg.inv(np.eye(4) - s) @ (np.eye(4) + s)
    expected = r @ np.asarray(layer.neurons[...], np.float64)
    np.testing.assert_allclose(layer.effective_kernel(), expected, atol=1e-6)


def test_the_layer_is_the_reparameterized_plain_one(key):
    layer = sl.OPTConv(3, 4, (2, 2), method="householder", rngs=nnx.Rngs(0))
    training = sx.reparam.orthogonal(method="householder", neuron_init="given")
    free, frozen = training.init(key, {"kernel": layer.neurons[...]})
    raw = 0.3 * jax.random.normal(key, layer.rotation.shape)
    assert raw.shape == free["kernel"].left.shape
    layer.rotation[...] = raw
    kernel = training.apply({"kernel": sx.reparam.Rotations(raw)}, frozen)["kernel"]
    np.testing.assert_allclose(layer.effective_kernel(), kernel, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "graph"), [("opt dense", True), ("opt dense", False), ("conv", False)]
)
def test_split_merge_and_that_a_call_changes_nothing(name, graph):
    with nnx.set_graph_mode(graph):
        layer = LAYERS[name](rngs=nnx.Rngs(0))
        before = jax.tree.map(np.array, nnx.state(layer))
        call = nnx.jit(lambda layer, x: layer(x))
        outputs = call(layer, inputs())
        jax.tree.map(np.testing.assert_array_equal, before, nnx.state(layer))
        merged = nnx.merge(*nnx.split(layer, nnx.Param, ...))
        np.testing.assert_array_equal(call(merged, inputs()), outputs)


def test_linen():
    kind = FROZEN["opt dense"]
    module = nnx.bridge.to_linen(kind.func, *kind.args, **kind.keywords)
    variables = jax.jit(module.init)(jax.random.key(0), inputs())
    assert list(variables["params"]) == ["rotation"]
    (neurons,) = [
        leaf
        for name, collection in variables.items()
        if name not in ("params", "nnx")
        for leaf in jax.tree.leaves(collection)
    ]
    outputs = jax.jit(module.apply)(variables, inputs())
    np.testing.assert_allclose(outputs, inputs() @ neurons, atol=1e-5)


@pytest.mark.parametrize("name", ["wide dense", "opt conv"])
def test_dtypes(name):
    def dtype_of(x_dtype, **dtypes):
        layer = LAYERS[name](**dtypes, rngs=nnx.Rngs(0))
        graphdef, state = nnx.split(layer)

        def forward(state, x):
            return nnx.merge(graphdef, state, copy=True)(x)

        return jax.eval_shape(forward, state, inputs().astype(x_dtype)).dtype

    assert dtype_of(jnp.bfloat16, param_dtype=jnp.bfloat16) == jnp.bfloat16
    assert dtype_of(jnp.bfloat16, param_dtype=jnp.float32) == jnp.float32
    assert dtype_of(jnp.float32, dtype=jnp.bfloat16) == jnp.bfloat16


RNGS = nnx.Rngs(0)
ERRORS: list[tuple[Any, Any, str]] = [
    (
        lambda: sl.OrthogonalLinear(3, 0, rngs=RNGS),
        ValueError,
        "OrthogonalLinear: (out_)?features must be a positive",
    ),
    (
        lambda: sl.OrthogonalConv(3, 2, 3, method="qr", rngs=RNGS),  # pyright: ignore
        ValueError,
        "method must be one of",
    ),
    (
        lambda: sl.OPTConv(3, 2, 3, block_size=1, rngs=RNGS),
        ValueError,
        "block_size must be 2 or more",
    ),
    (
        lambda: sl.OPTConv(7, 2, 1, block_size=4, rngs=RNGS),
        ValueError,
        r"must divide the dimension of neurons, .* got kernel \(1, 7, 2\)",
    ),
    (
        lambda: sl.OPTLinear(3, 1, rngs=RNGS),
        ValueError,
        "OPTLinear: out_features must be 2 or more, got 1",
    ),
    (
        lambda: sl.OPTLinear(3, 2, rngs=RNGS)(jnp.ones((2, 4))),
        ValueError,
        r"inputs must be \[..., 3\]",
    ),
    (
        lambda: sl.OPTLinear(3, 2, rngs=RNGS)(jnp.ones((2, 3), int)),
        TypeError,
        "inputs must be floating",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), ERRORS)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
