"""Networks: the table's sizes by hand, the definition, modes of nnx, Linen."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx

Stage, ConvNet, TABLE = sx.networks.Stage, sx.networks.ConvNet, sx.networks.TABLE_2_1
MODES = [pytest.param(True, id="graph"), pytest.param(False, id="tree")]
SMALL = (7, 7, 1), (Stage(3, 2),), 2  # a map with odd sides


def make_small(seed: int = 0, **options):
    return ConvNet(*SMALL, rngs=nnx.Rngs(seed), **options)


def draw_images(n=6, shape=(7, 7, 1)):
    return np.random.default_rng(0).normal(size=(n, *shape))


@nnx.jit
def call(network, images):
    """Compiled, since operation by operation takes ten times as long."""
    return network(images)


class Spy:
    """A constructor of convolutions that notes what it and they are called with."""

    def __init__(self):
        self.made: list[tuple[tuple, dict]] = []
        self.maps: list[tuple[int, ...]] = []

    def __call__(self, *args, **kwargs):
        self.made.append((args, kwargs))
        maps = self.maps

        class Conv(nnx.Conv):
            def __call__(self, inputs, out_sharding=None):
                outputs = super().__call__(inputs, out_sharding)
                maps.append(outputs.shape[-3:-1])
                return outputs

        return Conv(*args, **kwargs)


# Weights of the convolutions; 3 = scale, bias and slope for each of their filters;
# the linear layer, then scale and bias of its normalisation. Maps, one for each
# convolution.
BY_HAND = {
    "mnist_2d": (
        25 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
        + 3 * (2 * 32 + 2 * 64 + 2 * 128)
        + (4 * 4 * 128 * 2 + 2 * 2),  # 799,844
        [(28, 28)] * 2 + [(14, 14)] * 2 + [(7, 7)] * 2,
    ),
    "mnist": (
        9 * (1 * 64 + 9 * 64 * 64) + 3 * (10 * 64) + (4 * 4 * 64 * 256 + 2 * 256),
        [(28, 28)] * 4 + [(14, 14)] * 3 + [(7, 7)] * 3,
    ),
    "cifar10": (
        9 * (3 * 64 + 4 * 64 * 64 + 64 * 96 + 3 * 96 * 96 + 96 * 128 + 3 * 128 * 128)
        + 3 * (5 * 64 + 4 * 96 + 4 * 128)
        + (4 * 4 * 128 * 256 + 2 * 256),
        [(32, 32)] * 5 + [(16, 16)] * 4 + [(8, 8)] * 4,
    ),
    "cifar100": (
        9 * (3 * 96 + 4 * 96 * 96 + 96 * 192 + 3 * 192 * 192)
        + 9 * (192 * 384 + 3 * 384 * 384)
        + 3 * (5 * 96 + 4 * 192 + 4 * 384)
        + (4 * 4 * 384 * 512 + 2 * 512),
        [(32, 32)] * 5 + [(16, 16)] * 4 + [(8, 8)] * 4,
    ),
    "lfw": (
        9 * (3 * 64 + 4 * 64 * 64 + 64 * 256 + 11 * 256 * 256)
        + 3 * (5 * 64 + 12 * 256)
        + (7 * 6 * 256 * 512 + 2 * 512),
        [(56, 48)] * 5 + [(28, 24)] * 4 + [(14, 12)] * 4 + [(7, 6)] * 4,
    ),
}


def test_the_table_is_complete():
    assert set(TABLE) == set(BY_HAND)
    assert BY_HAND["mnist_2d"][0] == 799_844
    # The table's columns: filters and number of convolutions.
    filters = {
        name: [(stage.features, stage.convolutions) for stage in column.stages]
        for name, column in TABLE.items()
    }
    assert filters == {
        "mnist_2d": [(32, 2), (64, 2), (128, 2)],
        "mnist": [(64, 1), (64, 3), (64, 3), (64, 3)],
        "cifar10": [(64, 1), (64, 4), (96, 4), (128, 4)],
        "cifar100": [(96, 1), (96, 4), (192, 4), (384, 4)],
        "lfw": [(64, 1), (64, 4), (256, 4), (256, 4), (256, 4)],
    }


@pytest.mark.parametrize("name", TABLE)
def test_a_column_of_the_table(name):
    parameters, maps = BY_HAND[name]
    column, spy = TABLE[name], Spy()
    network = nnx.eval_shape(lambda: ConvNet(*column, conv=spy, rngs=nnx.Rngs(0)))
    state = nnx.state(network, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters
    images = jax.ShapeDtypeStruct((2, *column.input_shape), jnp.float32)
    out = nnx.eval_shape(lambda network, x: network(x), network, images)
    assert out.shape == (
        2,
        {"mnist_2d": 2, "mnist": 256, "cifar10": 256}.get(name, 512),
    )
    assert spy.maps == maps
    side = 5 if name == "mnist_2d" else 3
    around = (2, 2) if name == "mnist_2d" else (1, 1)
    for i, (_, settings) in enumerate(spy.made):
        assert settings["kernel_size"] == (side, side)
        assert settings["padding"] == (around, around)
        assert settings["strides"] == ((2, 2) if (name, i) == ("lfw", 0) else (1, 1))
        assert settings["use_bias"] is False


def test_another_size_of_a_column():
    column = TABLE["cifar10"]._replace(features=2)
    network = nnx.eval_shape(lambda: ConvNet(*column, rngs=nnx.Rngs(0)))
    assert network.linear.kernel.shape == (4 * 4 * 128, 2)
    stages = TABLE["cifar10"].stages
    network = nnx.eval_shape(lambda: ConvNet((48, 64, 1), stages, 3, rngs=nnx.Rngs(0)))
    assert network.linear.kernel.shape == (6 * 8 * 128, 3)


def convolve(x, kernel, stride):
    """Padded cross-correlation in NumPy; ``[n, h, w, in]``, ``[k, k, in, out]``."""
    side = kernel.shape[0]
    around = (side // 2, side // 2)
    padded = np.pad(x, ((0, 0), around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)


def pool(x):
    """Largest of each 2 x 2 block; an odd last row or column is a block of its own."""
    n, height, width, channels = x.shape
    out = np.empty((n, -(-height // 2), -(-width // 2), channels))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            block = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[:, i, j] = block.max((1, 2))
    return out


def normalized(x, norm, train):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes) if train else norm["mean"]
    variance = x.var(axes) if train else norm["var"]
    return (x - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.usefixtures("x64")
def test_the_network_is_its_definition(train):
    stages = (Stage(3, 2, stride=2), Stage(4, kernel_size=5, pool=False))
    network = ConvNet((10, 7, 2), stages, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    # Everything random, so that nothing is hidden by a zero or a one.
    state = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype),
        nnx.state(network),
    )
    nnx.update(network, state)
    images = draw_images(5, (10, 7, 2))
    forward = nnx.jit(lambda network, x: network(x, use_running_average=not train))
    outputs = forward(network, jnp.asarray(images))
    values = jax.tree.map(np.asarray, nnx.to_pure_dict(state))
    x = images
    for i, stage in enumerate(stages):
        for j in range(stage.convolutions):
            unit = values["stages"][i]["units"][j]
            x = convolve(x, unit["conv"]["kernel"], 1 if j else stage.stride)
            x = normalized(x, unit["norm"], train)
            x = np.where(x > 0, x, unit["activation"]["slope"] * x)
        x = pool(x) if stage.pool else x
    x = x.reshape(5, -1) @ values["linear"]["kernel"]
    expected = normalized(x, values["norm"], train)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9)


def test_the_convolution_is_an_argument():
    spy = Spy()
    network = make_small(conv=spy, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert [args for args, _ in spy.made] == [(1, 3), (3, 3)]
    names = set(spy.made[0][1])
    assert names == {
        "kernel_size",
        "strides",
        "padding",
        "use_bias",
        "kernel_init",
        "dtype",
        "param_dtype",
        "rngs",
    }
    assert spy.made[0][1]["dtype"] == jnp.bfloat16
    nnx.eval_shape(call, network, jnp.asarray(draw_images(), jnp.float32))
    assert spy.maps == [(7, 7), (7, 7)]


def test_initial_weights_are_gaussian_of_variance_two_over_fan_in():
    stages = (Stage(64, 2),)
    network = ConvNet((8, 8, 3), stages, 32, rngs=nnx.Rngs(0))
    units = network.stages[0].units
    for kernel, fan_in in (
        (units[1].conv.kernel[...], 9 * 64),
        (network.linear.kernel[...], 4 * 4 * 64),
    ):
        np.testing.assert_allclose(jnp.var(kernel) * fan_in, 2.0, rtol=0.05)
        fourth = jnp.mean(kernel**4) / jnp.var(kernel) ** 2
        np.testing.assert_allclose(fourth, 3.0, rtol=0.05)
    np.testing.assert_array_equal(units[0].activation.slope[...], jnp.full(64, 0.25))


def test_running_statistics_move_in_training_only():
    network = make_small()
    images = jnp.asarray(draw_images(), jnp.float32)

    def statistics():
        return jax.tree.map(np.array, nnx.state(network, nnx.BatchStat))

    def assert_moved(before, is_moved):
        changed = jax.tree.map(lambda a, b: np.any(a != b), before, statistics())
        assert {bool(leaf) for leaf in jax.tree.leaves(changed)} == {is_moved}

    before = statistics()
    network.eval()
    first = call(network, images)
    network(images, use_running_average=True)
    assert_moved(before, False)
    network.train()
    network(images, use_running_average=True)
    assert_moved(before, False)
    trained = call(network, images)
    assert_moved(before, True)
    assert np.abs(trained - first).max() > 1e-3
    unit = network.stages[0].units[0]
    maps = np.asarray(unit.conv(images))
    # 0.9 of where they began, at 0 and 1, and 0.1 of the batch.
    np.testing.assert_allclose(
        unit.norm.mean[...], 0.1 * maps.mean((0, 1, 2)), atol=1e-5
    )
    expected = 0.9 + 0.1 * maps.var((0, 1, 2))
    np.testing.assert_allclose(unit.norm.var[...], expected, rtol=1e-5)
    before = statistics()
    network.eval()
    network(images, use_running_average=False)
    assert_moved(before, True)


def test_a_running_statistic_of_the_operator_has_the_mode_of_the_call():
    operator = dict(magnitude=sx.operators.Tanh(), angular=sx.operators.Cosine())
    conv = partial(sx.layers.DecoupledConv, **operator, radius="mean")
    network = make_small(conv=conv)
    norm = network.stages[0].units[1].conv.mean_norm
    before, images = np.array(norm[...]), jnp.asarray(draw_images(), jnp.float32)

    @nnx.jit(static_argnums=2)
    def called(network, images, mode):
        return network(images, use_running_average=mode)

    called(network, images, True)
    np.testing.assert_array_equal(norm[...], before)
    network.eval()
    called(network, images, False)
    assert np.all(norm[...] != before)


def test_a_call_outside_training_changes_no_variable():
    network = make_small()
    network.eval()
    before = jax.tree.map(np.array, nnx.state(network))
    call(network, jnp.asarray(draw_images(), jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(network))


def test_dtypes():
    def dtypes_of(state):
        return {leaf.dtype for leaf in jax.tree.leaves(state)}

    images = jnp.asarray(draw_images(), jnp.float32)
    network = make_small(dtype=jnp.bfloat16)
    outputs, exact = call(network, images), call(make_small(), images)
    assert outputs.dtype == jnp.bfloat16
    assert exact.dtype == jnp.float32
    np.testing.assert_allclose(outputs.astype(jnp.float32), exact, atol=0.1)
    assert dtypes_of(nnx.state(network)) == {jnp.dtype(jnp.float32)}
    half = make_small(param_dtype=jnp.bfloat16)
    params, statistics = nnx.state(half, nnx.Param, nnx.BatchStat)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(statistics)} == {
        jnp.dtype("float32")
    }


def test_running_statistics_are_not_rounded_before_they_are_used():
    network = make_small(dtype=jnp.bfloat16)
    network.eval()
    norm = network.stages[0].units[0].norm
    norm.mean[...] = jnp.full(3, 1000.7)  # 1000 in bfloat16
    np.testing.assert_allclose(norm(jnp.full((1, 3), 1000.7)), 0.0, atol=1e-3)


def test_leading_axes():
    network = make_small()
    network.eval()
    images = jnp.asarray(draw_images(), jnp.float32)
    outputs = call(network, images)
    nested = call(network, images.reshape(2, 3, 7, 7, 1))
    np.testing.assert_allclose(nested.reshape(6, 2), outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        call(network, images[0]), outputs[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("graph", MODES)
def test_split_merge_and_jit(graph):
    images = jnp.asarray(draw_images(), jnp.float32)
    with nnx.set_graph_mode(graph):
        network = make_small()
        network.eval()
        graphdef, params, rest = nnx.split(network, nnx.Param, ...)
        forward = jax.jit(lambda params, x: nnx.merge(graphdef, params, rest)(x))
        expected = call(network, images)
        np.testing.assert_allclose(forward(params, images), expected, atol=1e-5)
        other = make_small(1)
        other.eval()
        nnx.update(other, nnx.state(network))
        np.testing.assert_array_equal(call(other, images), expected)


def test_a_vmap_over_seeds():
    images = jnp.asarray(draw_images(), jnp.float32)
    graphdef = nnx.graphdef(make_small())
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[nnx.state(make_small(seed)) for seed in range(2)],
    )

    @jax.jit
    @jax.vmap
    def forward(state):
        network = nnx.merge(graphdef, state, copy=True)
        outputs = network(images)
        return outputs, nnx.state(network, nnx.BatchStat)

    outputs, statistics = forward(states)
    for seed in range(2):
        network = make_small(seed)
        np.testing.assert_allclose(outputs[seed], call(network, images), atol=1e-4)
        jax.tree.map(
            lambda a, b, seed=seed: np.testing.assert_allclose(a[seed], b, atol=1e-5),
            statistics,
            nnx.state(network, nnx.BatchStat),
        )


class Classifier(nnx.Module):
    """A network and its head."""

    def __init__(self, rngs: nnx.Rngs):
        self.network = ConvNet(*SMALL, rngs=rngs)
        margin = sx.margins.SphereFace(m=2)
        self.head = sx.layers.MarginHead(
            2, 3, margin=margin, normalize="prototypes", rngs=rngs
        )

    def loss(self, images, labels):
        return self.head.loss(self.network(images), labels)


@pytest.mark.parametrize("graph", MODES)
def test_training_lowers_the_loss(graph):
    images = jnp.asarray(draw_images(), jnp.float32)
    labels = jnp.arange(6) % 3

    def loss_of(params, graphdef, rest):
        model = nnx.merge(graphdef, params, rest, copy=True)
        return model.loss(images, labels), nnx.state(model, nnx.BatchStat)

    @nnx.jit
    def step(model, optimizer):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        (loss, statistics), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            params, graphdef, rest
        )
        optimizer.update(model, gradient)
        nnx.update(model, statistics)
        return loss

    with nnx.set_graph_mode(graph):
        model = Classifier(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.05, 0.9), wrt=nnx.Param)
        losses = [float(step(model, optimizer)) for _ in range(20)]
        mean = model.network.stages[0].units[0].norm.mean[...]
    assert losses[-1] < 0.5 * losses[0]
    assert np.abs(mean).min() > 0.0


def test_training_by_optax_alone():
    images = jnp.asarray(draw_images(), jnp.float32)
    labels = jnp.arange(6) % 3
    graphdef, params, rest = nnx.split(Classifier(nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.sgd(0.05, 0.9)

    def loss_of(params, rest):
        model = nnx.merge(graphdef, params, rest, copy=True)
        loss = model.loss(images, labels)
        return loss, nnx.split(model, nnx.Param, ...)[2]

    @jax.jit
    def step(params, rest, state):
        (loss, rest), gradient = jax.value_and_grad(loss_of, has_aux=True)(params, rest)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), rest, state, loss

    state, losses = optimizer.init(params), []
    for _ in range(20):
        params, rest, state, loss = step(params, rest, state)
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("graph", MODES)
def test_linen(graph):
    images = jnp.asarray(draw_images(), jnp.float32)
    with nnx.set_graph_mode(graph):
        module = nnx.bridge.to_linen(ConvNet, *SMALL)
        variables = jax.jit(module.init)(jax.random.key(0), images)
        assert set(variables) == {"params", "batch_stats"}
        original = make_small(1)
        nnx.update(original, {**variables["params"]})
        outputs: Any = jax.jit(
            lambda variables, x: module.apply(variables, x, mutable=["batch_stats"])
        )(variables, images)
        np.testing.assert_allclose(outputs[0], call(original, images), atol=1e-5)
        trained = variables | outputs[1]
        outputs = module.apply(trained, images, use_running_average=True)
        original.eval()
        np.testing.assert_allclose(outputs, call(original, images), atol=1e-5)


def test_the_embedding_has_no_activation():
    """Figure 2.2 draws it: all quadrants are in reach."""
    embeddings = call(make_small(), jnp.asarray(draw_images(64), jnp.float32))
    signs = {tuple(row) for row in np.sign(np.asarray(embeddings))}
    assert len(signs) == 4


def test_errors_teach():
    def network(input_shape=(7, 7, 1), stages=(Stage(2),), features=2):
        return ConvNet(input_shape, stages, features, rngs=nnx.Rngs(0))

    with pytest.raises(ValueError, match="Stage: features must be a positive integer"):
        Stage(0)
    with pytest.raises(ValueError, match="Stage: convolutions .* got 1.5"):
        Stage(8, 1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Stage: kernel_size must be odd.* got 4"):
        Stage(8, kernel_size=4)
    with pytest.raises(ValueError, match=r"must be \(height, width, channels\), got"):
        network(input_shape=(7, 7))
    with pytest.raises(ValueError, match="a batch has no place in it"):
        network(input_shape=(64, 7, 7, 1))
    with pytest.raises(ValueError, match="input_shape: channels must be a pos"):
        network(input_shape=(7, 7, 0))
    with pytest.raises(ValueError, match="at least one Stage"):
        network(stages=())
    with pytest.raises(ValueError, match="ConvNet: features must be a positive"):
        network(features=0)
    with pytest.raises(
        ValueError, match="too small: the map is 1 x 1 when stage 2 is to pool it"
    ):
        network(input_shape=(3, 4, 1), stages=(Stage(2), Stage(2), Stage(2)))
    small = network()
    with pytest.raises(
        ValueError, match=r"must be \[..., 7, 7, 1\].*\(2, 8, 7, 1\)\.$"
    ):
        small(jnp.ones((2, 8, 7, 1)))
    with pytest.raises(ValueError, match=r"an axis as well: images\[..., None\]"):
        small(jnp.ones((2, 7, 7)))
    with pytest.raises(ValueError, match="Channels come last"):
        small(jnp.ones((2, 1, 7, 7)))
    with pytest.raises(ValueError, match=r"got shape \(7,\)"):
        small(jnp.ones(7))
    with pytest.raises(TypeError, match=r"got dtype uint8; scale them first"):
        small(jnp.ones((2, 7, 7, 1), jnp.uint8))
