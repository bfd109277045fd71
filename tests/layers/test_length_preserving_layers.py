"""Layers that keep or bound lengths: against the functions, strides, training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from sphax import operators as so

sl = sx.layers
# Called with [2, 4, 6, 3]; whether outputs are as long as inputs.
# Fewer terms compile in less time; their error is 1.5e-6.
SHORT: Any = {"terms": 6, "max_norm": 0.5}
LAYERS: dict[str, tuple[Any, bool]] = {
    "skew, stride": (
        partial(sl.SkewConv, 3, 7, (3, 3), (2, 1), padding="CIRCULAR", **SHORT),
        True,
    ),
    "skew, fewer": (partial(sl.SkewConv, 3, 2, (1, 3), **SHORT), False),
    "cayley, stride": (partial(sl.CayleyConv, 3, 12, (3, 3), strides=2), True),
    "cayley, fewer": (partial(sl.CayleyConv, 3, 2, (3, 3)), False),
    "aol": (partial(sl.AlmostOrthogonalConv, 3, 4, (3, 3), strides=2), False),
    "aol dense": (partial(sl.AlmostOrthogonalLinear, 3, 4), False),
}


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, 4, 6, 3)), jnp.float32)


def lengths(x):
    return np.linalg.norm(np.reshape(x, (2, -1)), axis=1)


@pytest.mark.parametrize("name", LAYERS)
def test_training_never_lets_lengths_grow(name):
    """Nor does a learning rate that makes the stored kernel a large one."""
    make, keeps = LAYERS[name]
    layer = make(use_bias=False, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(layer, optax.sgd(100.0), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            outputs = layer(inputs())
            return jnp.mean(jnp.sin(3.0 * outputs)), outputs

        (_, outputs), gradient = nnx.value_and_grad(loss, has_aux=True)(layer)
        optimizer.update(layer, gradient)
        return outputs

    start = np.asarray(layer.kernel[...])
    for _ in range(4):
        found, whole = lengths(step(layer, optimizer)), lengths(inputs())
        assert np.all(found <= whole * (1 + 1e-5))
        if keeps:
            np.testing.assert_allclose(found, whole, rtol=1e-5)
    assert np.max(np.abs(layer.kernel[...] - start)) > 0.1


def test_a_stride_is_space_to_depth_and_channels_are_filled():
    x = inputs()
    skew = LAYERS["skew, stride"][0](rngs=nnx.Rngs(0))
    skew.bias[...] = jnp.arange(7.0)
    blocks = np.pad(so.space_to_depth(x, (2, 1)), [(0, 0)] * 3 + [(0, 1)])
    kernel = skew.effective_kernel()
    expected = so.skew_convolution(blocks, kernel, padding="CIRCULAR", terms=6)
    found = skew(x)
    np.testing.assert_allclose(found, np.asarray(expected) + np.arange(7.0), atol=1e-5)
    cayley = LAYERS["cayley, stride"][0](rngs=nnx.Rngs(0))
    expected = so.cayley_convolution(so.space_to_depth(x, (2, 2)), cayley.kernel[...])
    np.testing.assert_allclose(cayley(x), expected, atol=1e-6)
    merged = cayley.merge((4, 6))
    np.testing.assert_allclose(merged(x), cayley(x), atol=1e-6)


@pytest.mark.parametrize("window", [(3, 3), (3, 1), (5,)])
def test_the_norm_is_bounded_and_the_bound_is_near(window):
    """Against the norm of the skew map, by its response to all unit images."""
    layer = sl.SkewConv(4, 4, window, max_norm=1.5, terms=1, rngs=nnx.Rngs(0))
    space = (4,) * len(window)
    size = 4 * 4 ** len(window)
    kernel = np.random.default_rng(0).normal(size=(*window, 4, 4)).astype(np.float32)
    images = np.eye(size, dtype=np.float32).reshape(size, *space, 4)
    call = nnx.jit(lambda layer: layer(images))
    norms = []
    for scale in 1e-3, 1.0, 1e3:
        layer.kernel[...] = scale * kernel
        skew = np.asarray(call(layer)).reshape(size, size) - np.eye(size)
        norms.append(np.linalg.norm(skew, 2))
    assert 0.4 * 1.5 < norms[1] <= 1.5
    np.testing.assert_allclose(norms[2], norms[1], rtol=1e-5)
    assert norms[0] < 0.1


@pytest.mark.parametrize("name", ["skew, fewer", "cayley, fewer", "aol"])
def test_a_zero_kernel_has_a_finite_gradient(name):
    layer = LAYERS[name][0](kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    grad = nnx.jit(nnx.grad(lambda layer: jnp.sum(layer(inputs()))))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grad(layer)))


@pytest.mark.parametrize("name", ["aol", "aol dense"])
def test_merged_layers_are_those_of_flax(name):
    layer = LAYERS[name][0](rngs=nnx.Rngs(0))
    merged = layer.merge()
    assert isinstance(merged, (nnx.Linear, nnx.Conv))
    np.testing.assert_allclose(layer(inputs()), merged(inputs()), atol=1e-5)


@pytest.mark.parametrize("name", ["skew, stride", "cayley, fewer"])
def test_split_merge_dtypes_and_that_a_call_changes_nothing(name):
    layer = LAYERS[name][0](param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    for graph in True, False:
        with nnx.set_graph_mode(graph):
            before = jax.tree.map(np.array, nnx.state(layer))
            call = nnx.jit(lambda layer, x: layer(x))
            outputs = call(layer, inputs().astype(jnp.bfloat16))
            assert outputs.dtype == jnp.bfloat16
            jax.tree.map(np.testing.assert_array_equal, before, nnx.state(layer))
            merged = nnx.merge(*nnx.split(layer, nnx.Param, ...))
            again = call(merged, inputs().astype(jnp.bfloat16))
            np.testing.assert_array_equal(outputs, again)
    assert jax.eval_shape(layer, inputs()).dtype == jnp.float32


RNGS = nnx.Rngs(0)
ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: sl.SkewConv(3, 0, 3, rngs=RNGS), ValueError, "out_features must be a pos"),
    (lambda: sl.SkewConv(3, 3, (3, 2), rngs=RNGS), ValueError, "must have odd sizes"),
    (
        lambda: sl.SkewConv(3, 3, 3, max_norm=0.0, rngs=RNGS),
        ValueError,
        "max_norm must be positive",
    ),
    (
        lambda: sl.CayleyConv(3, 3, (3, 3), (2, 2, 2), rngs=RNGS),
        ValueError,
        "strides must be a number or 2 numbers",
    ),
    (
        lambda: sl.CayleyConv(3, 3, (3, 3), rngs=RNGS)(jnp.ones((4, 4, 2))),
        ValueError,
        r"inputs must be \[..., 3\]",
    ),
    (
        lambda: sl.CayleyConv(3, 3, 3, rngs=RNGS).merge((4, 4)),
        ValueError,
        r"space must have 1 ",
    ),
    (
        lambda: sl.AlmostOrthogonalConv(3, 3, 3, padding="REFLECT", rngs=RNGS),
        ValueError,
        "padding must be zeros or",
    ),
    (lambda: sl.GroupSort(0), ValueError, "GroupSort: group_size must be a positive"),
]


@pytest.mark.parametrize(("call", "error", "match"), ERRORS)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
