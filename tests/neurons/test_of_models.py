"""`neurons.of` for the layers of Flax, against rows sliced by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import sphax as sx

RGB, WORDS, SIGNAL = (
    jax.ShapeDtypeStruct(shape, jnp.float32)
    for shape in ((1, 5, 5, 4), (2, 7, 6), (6,))
)


class Row(NamedTuple):
    """A layer, the name of one of its leaves, and its neurons, ``[sets, n, d]``."""

    make: Callable[..., Any]  # of rngs, in NNX
    leaf: str
    rows: Callable[[np.ndarray], Any]
    inputs: tuple[Any, ...] = ()


def dense(k):
    return [k.T]


def filters(k):
    return [[k[..., j].ravel() for j in range(k.shape[-1])]]


def heads(k):
    return [k[:, h].T for h in range(k.shape[1])]


def stacked(rows):
    """Rows of all layers of a stack, each layer with separate sets."""
    return lambda k: [neurons for layer in k for neurons in rows(layer)]


def stack(make, out_axes=0):
    keys = jax.random.split(jax.random.key(0), 3)
    return nnx.vmap(lambda key: make(nnx.Rngs(key)), out_axes=out_axes)(keys)


@nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
def linear_after_linear(carry, key):
    return carry, linear(nnx.Rngs(key))


def scanned_stack():
    keys = jax.random.split(jax.random.key(0), 3)
    return linear_after_linear(jnp.zeros(()), keys)[1]


def attention(rngs):
    return nnx.MultiHeadAttention(2, 6, qkv_features=8, decode=False, rngs=rngs)


def decoupled(window, rngs, **options):
    tanh, cosine = sx.operators.Tanh(), sx.operators.Cosine()
    return sx.layers.DecoupledConv(
        4, 8, window, magnitude=tanh, angular=cosine, rngs=rngs, **options
    )


class Recurrent(nnx.Module):
    """A cell in a loop over time, which is not a stack."""

    def __init__(self, cell):
        self.rnn = nnx.RNN(cell)


class Tower(nnx.Module):
    """Blocks made by vmap and called by scan, as in a transformer."""

    def __init__(self, rngs):
        del rngs
        self.blocks = stack(lambda rngs: nnx.List([attention(rngs), linear(rngs)]))


class Custom(nnx.Module):
    """A layer that declares its leaves."""

    def __init__(self, rngs):
        self.table = nnx.Param(jnp.ones((5, 3)))

    def neuron_dimensions(self):
        return {"table": sx.neurons.NeuronDimensions(index_axis=-2, vector_axis=-1)}


def linear(rngs):
    return nnx.Linear(6, 4, rngs=rngs)


def margin_head(rngs, subcenters=1):
    margin = sx.margins.ArcFace()
    return sx.layers.MarginHead(4, 3, margin=margin, subcenters=subcenters, rngs=rngs)


NNX = {
    "Linear": Row(linear, "kernel", dense),
    "LinearGeneral": Row(
        lambda rngs: nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=rngs),
        "kernel",
        lambda k: [k.reshape(6, 20).T],
    ),
    "LinearGeneral, batch": Row(
        lambda rngs: nnx.LinearGeneral(3, 5, batch_axis={0: 2}, rngs=rngs),
        "kernel",
        lambda k: [k[0].T, k[1].T],
    ),
    "Einsum": Row(
        lambda rngs: nnx.Einsum("nta,hab->nthb", (2, 3, 4), rngs=rngs),
        "kernel",
        lambda k: [[k[h, :, b] for h in range(2) for b in range(4)]],
    ),
    "Conv, one axis": Row(
        lambda rngs: nnx.Conv(4, 8, (3,), rngs=rngs), "kernel", filters
    ),
    "Conv, depthwise": Row(
        lambda rngs: nnx.Conv(4, 8, (3,), feature_group_count=4, rngs=rngs),
        "kernel",
        lambda k: [[k[:, 0, j] for j in range(8)]],
    ),
    "Conv, groups": Row(
        lambda rngs: nnx.Conv(4, 8, (3, 2), feature_group_count=2, rngs=rngs),
        "kernel",
        filters,
    ),
    "ConvTranspose": Row(
        lambda rngs: nnx.ConvTranspose(4, 8, (3, 2), rngs=rngs), "kernel", filters
    ),
    "ConvTranspose, flipped": Row(
        lambda rngs: nnx.ConvTranspose(4, 8, (3,), transpose_kernel=True, rngs=rngs),
        "kernel",
        lambda k: [[k[:, j].ravel() for j in range(8)]],
    ),
    "query": Row(attention, "query/kernel", heads),
    "value": Row(attention, "value/kernel", heads),
    "out": Row(attention, "out/kernel", lambda k: [k.reshape(8, 6).T]),
    "CosineAttention": Row(
        lambda rngs: sx.layers.CosineAttention(2, 8, decode=False, rngs=rngs),
        "key/kernel",
        heads,
    ),
    "LSTMCell": Row(
        lambda rngs: Recurrent(nnx.LSTMCell(3, 4, rngs=rngs)),
        "rnn/cell/if_/kernel",
        dense,
    ),
    "OptimizedLSTMCell": Row(
        lambda rngs: nnx.OptimizedLSTMCell(3, 4, rngs=rngs), "dense_h/kernel", dense
    ),
    "GRUCell": Row(lambda rngs: nnx.GRUCell(3, 4, rngs=rngs), "dense_i/kernel", dense),
    "SimpleCell": Row(
        lambda rngs: nnx.SimpleCell(3, 4, rngs=rngs), "dense_h/kernel", dense
    ),
    "Embed": Row(lambda rngs: nnx.Embed(5, 3, rngs=rngs), "embedding", lambda k: [k]),
    "LoRALinear": Row(
        lambda rngs: nnx.LoRALinear(3, 4, lora_rank=2, rngs=rngs), "kernel", dense
    ),
    "CosineLinear": Row(
        lambda rngs: sx.layers.CosineLinear(3, 4, rngs=rngs), "kernel", dense
    ),
    "DecoupledConv": Row(lambda rngs: decoupled(3, rngs), "kernel", filters),
    "DecoupledConv, depthwise": Row(
        lambda rngs: decoupled((3, 2), rngs, feature_group_count=4, radius="learned"),
        "kernel",
        filters,
    ),
    "MarginHead": Row(margin_head, "prototypes", lambda k: [k]),
    "MarginHead, subcenters": Row(
        lambda rngs: margin_head(rngs, 2), "prototypes", lambda k: [k.reshape(6, 4)]
    ),
    "custom layer": Row(Custom, "table", lambda k: [k]),
    "stack of Linear": Row(lambda rngs: stack(linear), "kernel", stacked(dense)),
    "stack along another axis": Row(
        lambda rngs: stack(linear, out_axes=1),
        "kernel",
        lambda k: [k[:, i].T for i in (0, 1, 2)],
    ),
    "stack by scan": Row(lambda rngs: scanned_stack(), "kernel", stacked(dense)),
    "stack of attention": Row(Tower, "blocks/0/query/kernel", stacked(heads)),
    "stack of outputs": Row(
        Tower, "blocks/0/out/kernel", stacked(lambda k: [k.reshape(8, 6).T])
    ),
    "stack of convolutions": Row(
        lambda rngs: stack(lambda keys: nnx.Conv(2, 4, (3, 3), rngs=keys)),
        "kernel",
        stacked(filters),
    ),
    "stack of custom layers": Row(lambda rngs: stack(Custom), "table", list),
}


class Block(linen.Module):
    """A block of a transformer, for `linen.scan`."""

    @linen.compact
    def __call__(self, x, _):
        attend = linen.MultiHeadDotProductAttention(2, qkv_features=8, name="attend")
        return linen.Dense(6, name="dense")(attend(x)), None


class Scanned(linen.Module):
    """A stack of blocks, optionally wrapped, such as by `linen.remat`."""

    wrap: Any = staticmethod(lambda block: block)

    @linen.compact
    def __call__(self, x, *, train):
        assert train in (True, False)  # no tracer
        blocks = linen.scan(
            self.wrap(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        x, _ = blocks(name="blocks")(x, None)
        return linen.Dropout(0.5, deterministic=not train)(x)


class InVmap(linen.Module):
    """A stack along the second axis of kernels."""

    @linen.compact
    def __call__(self, x):
        return linen.vmap(
            linen.Dense,
            in_axes=None,  # pyright: ignore[reportArgumentType]
            variable_axes={"params": 1},
            split_rngs={"params": True},
            axis_size=3,
        )(4, name="dense")(x)


class CustomInLinen(linen.Module):
    """A layer that declares its leaves."""

    @linen.compact
    def __call__(self, x):
        return self.param("table", linen.initializers.normal(), (5, 3))

    def neuron_dimensions(self):
        return {"table": sx.neurons.NeuronDimensions(index_axis=-2, vector_axis=-1)}


CARRY = (SIGNAL, SIGNAL)
LINEN = {
    "Dense": Row(lambda: linen.Dense(4), "kernel", dense, (WORDS,)),
    "DenseGeneral": Row(
        lambda: linen.DenseGeneral((2, 3), axis=(-2, -1)),
        "kernel",
        lambda k: [k.reshape(42, 6).T],
        (WORDS,),
    ),
    "DenseGeneral, batch": Row(
        lambda: linen.DenseGeneral(3, batch_dims=(0,)),
        "kernel",
        stacked(dense),
        (WORDS,),
    ),
    "Einsum": Row(
        lambda: linen.Einsum((6, 2, 3), "...a,abc->...bc"),
        "kernel",
        lambda k: [k.reshape(6, 6).T],
        (WORDS,),
    ),
    "Conv, one axis": Row(lambda: linen.Conv(8, (3,)), "kernel", filters, (WORDS,)),
    "Conv, depthwise": Row(
        lambda: linen.Conv(8, (3, 3), feature_group_count=4),
        "kernel",
        lambda k: [[k[..., 0, j].ravel() for j in range(8)]],
        (RGB,),
    ),
    "ConvLocal": Row(
        lambda: linen.ConvLocal(4, (3,)), "kernel", stacked(dense), (WORDS,)
    ),
    "ConvTranspose, flipped": Row(
        lambda: linen.ConvTranspose(8, (3,), transpose_kernel=True),
        "kernel",
        lambda k: [[k[:, j].ravel() for j in range(8)]],
        (WORDS,),
    ),
    "query": Row(
        lambda: linen.MultiHeadDotProductAttention(2), "query/kernel", heads, (WORDS,)
    ),
    "out": Row(
        lambda: linen.MultiHeadAttention(2),
        "out/kernel",
        lambda k: [k.reshape(6, 6).T],
        (WORDS,),
    ),
    "LSTMCell": Row(lambda: linen.LSTMCell(6), "hf/kernel", dense, (CARRY, SIGNAL)),
    "OptimizedLSTMCell": Row(
        lambda: linen.RNN(linen.OptimizedLSTMCell(6)), "cell/ii/kernel", dense, (WORDS,)
    ),
    "GRUCell": Row(lambda: linen.GRUCell(6), "hn/kernel", dense, (SIGNAL, SIGNAL)),
    "Embed": Row(
        lambda: linen.Embed(5, 3),
        "embedding",
        lambda k: [k],
        (jax.ShapeDtypeStruct((2,), jnp.int32),),
    ),
    "bridge": Row(
        lambda: nnx.bridge.to_linen(
            sx.layers.DecoupledConv,
            *(6, 4, 3),
            magnitude=sx.operators.Tanh(),
            angular=sx.operators.Cosine(),
        ),
        "kernel",
        filters,
        (WORDS,),
    ),
    "custom layer": Row(CustomInLinen, "table", lambda k: [k], (WORDS,)),
    "scan": Row(
        Scanned, "blocks/attend/query/kernel", stacked(heads), (WORDS, {"train": True})
    ),
    "scan of remat": Row(
        lambda: Scanned(linen.remat),
        "blocks/dense/kernel",
        stacked(dense),
        (WORDS, {"train": False}),
    ),
    "vmap": Row(
        InVmap, "dense/kernel", lambda k: [k[:, i].T for i in (0, 1, 2)], (WORDS,)
    ),
}


def check(row, found, shape):
    leaf = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rows = sx.neurons.to_rows(leaf, found[row.leaf])
    expected = np.asarray(row.rows(leaf))
    np.testing.assert_array_equal(np.reshape(rows, expected.shape), expected)
    axes = sx.neurons.find({row.leaf: leaf}, found)[row.leaf]
    np.testing.assert_array_equal(axes.rows(leaf), expected)


@pytest.mark.parametrize("name", NNX)
def test_leaves_of_nnx_layers(name):
    row = NNX[name]
    model = nnx.eval_shape(lambda: row.make(nnx.Rngs(0)))
    found = sx.neurons.of(model)
    params = nnx.state(model, nnx.Param)
    shapes = sx.neurons.select(jax.tree.map(jnp.zeros_like, params), found)
    assert shapes.keys() == found.keys()
    check(row, found, shapes[row.leaf].shape)


@pytest.mark.parametrize("name", LINEN)
def test_leaves_of_linen_layers(name):
    row = LINEN[name]
    inputs, options = row.inputs, {}
    if isinstance(inputs[-1], dict):
        *inputs, options = inputs
    for _ in range(2):  # also when the layers have been traced before
        found = sx.neurons.of(row.make(), *inputs, **options)
    model, key = row.make(), jax.random.key(0)
    keys = {"params": key, "dropout": key}
    init = lambda *x: model.init(keys, *x, **options)["params"]  # noqa: E731
    params = jax.eval_shape(init, *inputs)
    shapes = sx.neurons.select(jax.tree.map(jnp.zeros_like, params), found)
    assert shapes.keys() == found.keys()
    check(row, found, shapes[row.leaf].shape)


def crowded(k):
    """Neurons 0 and 1 of head 1 made equal."""
    return k.at[:, 1, 1].set(k[:, 1, 0])


def test_equal_neurons_of_one_head_show_in_the_energy(key):
    nnx_model = attention(nnx.Rngs(0))
    nnx_params = nnx.to_pure_dict(nnx.state(nnx_model, nnx.Param))
    linen_model = linen.MultiHeadDotProductAttention(2, qkv_features=8)
    inputs = jnp.ones((2, 7, 6))
    linen_params = linen_model.init(key, inputs)["params"]
    for params, found in (
        (nnx_params, sx.neurons.of(nnx_model)),
        (linen_params, sx.neurons.of(linen_model, inputs)),
    ):
        of_params = jax.jit(
            lambda params, found=found: sx.energy.energy_of_params(
                params, power=2.0, neurons=found
            )
        )
        assert of_params(params) < 10.0
        kernel = crowded(params["query"]["kernel"])
        changed = sx.neurons.replace(params, {"query/kernel": kernel})
        assert of_params(changed) > 1e8


def test_an_optimizer_of_nnx_spreads_the_neurons_of_a_head():
    model = attention(nnx.Rngs(0))
    kernel = model.query.kernel[...]
    near = kernel[:, 1, 0] + 0.1 * kernel[:, 0, 0]
    model.query.kernel[...] = kernel.at[:, 1, 1].set(near)
    add = sx.optim.add_energy_gradient(1.0, neurons=sx.neurons.of(model))
    tx = optax.chain(add, optax.sgd(0.02))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def angle():
        head = np.asarray(model.query.kernel[:, 1], np.float64)
        first, second = (head / np.linalg.norm(head, axis=0)).T[:2]
        return np.arccos(first @ second)

    @nnx.jit
    def step(model, optimizer):
        zeros = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
        optimizer.update(model, zeros)

    before = angle()
    step(model, optimizer)
    step(model, optimizer)
    assert angle() > before + 0.01


def test_rotations_keep_the_angles_within_each_head(key):
    model = attention(nnx.Rngs(0))
    params, found = nnx.state(model, nnx.Param), sx.neurons.of(model)
    training = sx.reparam.orthogonal(neuron_init="given", neurons=found)
    free, frozen = training.init(key, params)
    free = jax.tree.map(
        lambda x: x + jnp.asarray(np.random.default_rng(1).normal(size=x.shape)), free
    )
    before = sx.neurons.select(params, frozen)
    after = sx.neurons.select(training.apply(free, frozen), frozen)
    for name, rows in (
        ("query/kernel", heads),
        ("key/kernel", heads),
        ("value/kernel", heads),
        ("out/kernel", lambda k: [k.reshape(8, 6).T]),
    ):
        old, new = (
            np.asarray(rows(np.asarray(leaves[name])), np.float64)
            for leaves in (before, after)
        )
        for w, rotated in zip(old, new, strict=True):
            assert np.max(np.abs(w - rotated)) > 0.05
            np.testing.assert_allclose(rotated @ rotated.T, w @ w.T, atol=1e-5)
    # Every head has its own rotation, which changes the products between heads.
    first, second = (
        leaves["query/kernel"][:, 0].T @ leaves["query/kernel"][:, 1]
        for leaves in (before, after)
    )
    assert np.max(np.abs(first - second)) > 0.05


def test_rotations_of_a_large_attention_have_the_size_of_its_kernels(key):
    model = nnx.eval_shape(
        lambda: nnx.MultiHeadAttention(12, 768, decode=False, rngs=nnx.Rngs(0))
    )
    params, found = nnx.state(model, nnx.Param), sx.neurons.of(model)

    def init(**options):
        training = sx.reparam.orthogonal(neurons=found, **options)
        return jax.eval_shape(training.init, key, params)

    match = (
        r"rotations of key/kernel of shape \(768, 12, 64\) would have 7077888 entries"
        r" \(left 12 sets of 768 x 768\), 12.0 times .*block_size.*query/kernel"
    )
    with pytest.raises(ValueError, match=match):
        init()
    described = sx.reparam.describe(*init(block_size=64))
    assert described.frozen == 4 * 768 * 768
    assert described.trained == 3 * 768 * 768 + 12 * 64 * 64 + 4 * 768
    assert (
        described.leaves["query/kernel"].note == "left: 12 sets of 12 blocks of 64 x 64"
    )


class Unknown(nnx.Module):
    def __init__(self, rngs):
        self.kernel = nnx.Param(jnp.ones((3, 4)))
        self.cube = nnx.Dict(kernel=nnx.Param(jnp.ones((2, 3, 4))))
        self.hidden = nnx.Dict(kernel=nnx.Param(jnp.ones((2, 2, 3, 4))))  # of a stack?
        self.weight = nnx.Param(jnp.ones((3, 4)))
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.einsum = nnx.Einsum("ab,ab->b", (2, 3), rngs=rngs)
        self.lora = nnx.LoRA(3, 2, 4, rngs=rngs)


def test_leaves_without_neurons_have_a_reason():
    found = sx.neurons.of(Unknown(nnx.Rngs(0)))
    reasons = {name: why for name, why in found.items() if isinstance(why, str)}
    assert found.keys() - reasons.keys() == {"kernel"}
    for name, reason in (
        ("cube/kernel", "several things, and Dict does not say"),
        ("hidden/kernel", "several things, and Dict does not say"),
        ("weight", "not named kernel, and Unknown does not say"),
        ("norm/scale", "a scale"),
        ("norm/bias", "a bias"),
        ("einsum/kernel", "ab,ab->b, which is no product with neurons"),
        ("lora/lora_a", "low-rank"),
    ):
        assert reason in reasons[name]
    late = sx.neurons.of(linen.Einsum((6, 3)), WORDS, "...a,ab->...b")
    assert "equation is given in each call" in str(late["kernel"])
    lines = str(found).splitlines()
    assert lines[0].split() == ["leaf", "shape", "neurons"]
    assert len(lines) == 1 + len(found)
    assert ["kernel", "(3,", "4)", "4", "of", "3", "dimensions"] in map(
        str.split, lines
    )


def test_orthonormal_layers_are_left_out():
    layers = nnx.List(
        [
            sx.layers.OrthogonalLinear(3, 4, rngs=nnx.Rngs(0)),
            sx.layers.OPTLinear(8, 4, rngs=nnx.Rngs(0)),
        ]
    )
    found = sx.neurons.of(layers)
    assert all(isinstance(reading, str) for reading in found.values())


def test_of_needs_a_model():
    with pytest.raises(TypeError, match=r"nnx.Module or a linen.Module, got dict"):
        sx.neurons.of({"kernel": jnp.ones((3, 4))})
    with pytest.raises(TypeError, match="inputs are for Linen modules only"):
        sx.neurons.of(linear(nnx.Rngs(0)), jnp.ones((2, 6)))


def test_declarations_of_a_model_serve_its_parts():
    model = Tower(nnx.Rngs(0))
    found = sx.neurons.of(model)
    part = nnx.state(model, nnx.Param)["blocks"][1]
    params = {"blocks": {1: part}}
    assert list(sx.neurons.find(params, found)) == ["blocks/1/kernel"]
    changed = {**found, "blocks/1/kernel": "by hand"}
    with pytest.raises(ValueError, match="got blocks/0/key/bias, which is not among"):
        sx.neurons.find(params, changed)
    with pytest.raises(ValueError, match="params must have neurons"):
        sx.neurons.find(params, changed, partial=True)
