"""Units and embeddings against NumPy, modes of nnx, Linen, a step of training."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import Backbone, Units
from tests.networks.test_backbones import TANH
from tests.networks.test_networks import MODES, convolve, normalized

HE, INSIGHTFACE = "conv norm relu conv norm + relu", "norm conv norm prelu conv norm +"
SMALL = (
    (7, 5, 1),
    (Units("conv norm relu", 3), Units(INSIGHTFACE, 4, stride=2)),
    "norm dropout linear unscaled_norm",
    2,
)


def draw_images(n=6, shape=(7, 5, 1)):
    return np.random.default_rng(0).normal(size=(n, *shape))


@nnx.jit
def call(network, images):
    """Compiled, since operation by operation takes ten times as long."""
    return network(images)


def prelu(x, layer):
    return np.where(x > 0, x, layer["slope"] * x)


def shortcut(x, unit, stride, train):
    if "shortcut" not in unit:
        return x
    projection, norm = unit["shortcut"][0], unit["shortcut"][1]
    return normalized(convolve(x, projection["kernel"], stride), norm, train)


def plain(x, unit, stride, train):
    layers = unit["branch"]
    y = convolve(x, layers[0]["kernel"], stride) + layers[0]["bias"]
    return prelu(normalized(y, layers[1], train), layers[2])


def he(x, unit, stride, train):
    layers = unit["branch"]
    y = normalized(convolve(x, layers[0]["kernel"], stride), layers[1], train)
    y = convolve(np.maximum(y, 0.0), layers[3]["kernel"], 1)
    y = normalized(y, layers[4], train) + shortcut(x, unit, stride, train)
    return np.maximum(y, 0.0)


def insightface(x, unit, stride, train):
    layers = unit["branch"]
    y = convolve(normalized(x, layers[0], train), layers[1]["kernel"], 1)
    y = prelu(normalized(y, layers[2], train), layers[3])
    y = normalized(convolve(y, layers[4]["kernel"], stride), layers[5], train)
    return y + shortcut(x, unit, stride, train)


def sphereface(x, unit, stride, train):
    layers = unit["branch"]
    y = prelu(convolve(x, layers[0]["kernel"], stride), layers[1])
    y = prelu(convolve(y, layers[2]["kernel"], 1), layers[3])
    padded = np.zeros_like(y)
    padded[..., : x.shape[-1]] = x[:, ::stride, ::stride]
    return padded + y


UNITS = {
    "plain": (plain, dict(layers="conv norm prelu", use_bias=True, kernel_size=5)),
    "he": (he, dict(layers=HE)),
    "insightface": (insightface, dict(layers=INSIGHTFACE, stride_at=1)),
    "padding": (sphereface, dict(layers="conv prelu conv prelu +", shortcut="padding")),
}


def make(design, seed=1, **options) -> tuple[Backbone, Any]:
    """A network of made parameters, which costs no compilation, and these in NumPy.

    Nothing is hidden by a zero or a one; kernels are of both signs.
    """
    network = nnx.eval_shape(lambda: Backbone(*design, rngs=nnx.Rngs(0), **options))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if leaf.ndim == 0:  # hyperparameters of operators; how many keys were drawn
            return jnp.ones((), leaf.dtype)
        values = rng.uniform(0.5, 1.5, leaf.shape) - (leaf.ndim == 4)
        return jnp.asarray(values, leaf.dtype)

    nnx.update(network, jax.tree.map(draw, nnx.state(network)))
    values = nnx.state(network, (nnx.Param, nnx.BatchStat))
    return network, jax.tree.map(np.asarray, nnx.to_pure_dict(values))


@nnx.jit
def call_in_both_modes(network, images):
    return network(images, use_running_average=True), network(images)


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.usefixtures("x64")
def test_a_unit_is_its_definition(kind):
    reference, options = UNITS[kind]
    stages = (Units(features=3, repeats=2, stride=2, **options),)
    network, values = make(((6, 5, 2), stages, "mean"), param_dtype=jnp.float64)
    images = draw_images(3, (6, 5, 2))
    outputs = call_in_both_modes(network, jnp.asarray(images))
    for output, train in zip(outputs, (False, True), strict=True):
        x = images
        for i, stride in enumerate((2, 1)):
            x = reference(x, values["stages"][0]["units"][i], stride, train)
        assert x.shape == (3, 3, 3, 3)
        np.testing.assert_allclose(output, x.mean((1, 2)), rtol=1e-9, atol=1e-9)


def mean(x, layers, train):
    return x.mean((1, 2))


def mean_linear(x, layers, train):
    return x.mean((1, 2)) @ layers[2]["kernel"] + layers[2]["bias"]


def whole_conv(x, layers, train):
    return np.einsum("nhwc,hwco->no", x, layers[0]["kernel"])


def insightface_embedding(x, layers, train):
    x = normalized(x, layers[0], train).reshape(len(x), -1)
    x = x @ layers[2]["kernel"] + layers[2]["bias"]
    assert "scale" not in layers[3]
    return normalized(x, {"scale": 1.0} | layers[3], train)


@pytest.mark.parametrize(
    ("reference", "sentence", "features"),
    [
        (mean, "mean", None),
        (mean_linear, "mean linear", 4),
        (whole_conv, "conv", 4),
        (insightface_embedding, "norm dropout linear unscaled_norm", 4),
    ],
)
@pytest.mark.usefixtures("x64")
def test_an_embedding_is_its_definition(reference, sentence, features):
    design = (4, 3, 2), (Units("conv relu", 3, pool=3),), sentence, features
    network, values = make(design, param_dtype=jnp.float64)
    assert network.features == (features or 3)
    images = draw_images(5, (4, 3, 2))
    outputs = call_in_both_modes(network, jnp.asarray(images))
    kernel = values["stages"][0]["units"][0]["branch"][0]["kernel"]
    x = np.maximum(convolve(images, kernel, 1), 0.0)
    # Windows of three: four rows are padded below, three columns on either side.
    pooled = [x[:, 2 * i : 2 * i + 3].max(1) for i in range(2)]
    starts = (slice(0, 2), slice(1, 3))
    x = np.stack([np.stack([p[:, s].max(1) for s in starts], 1) for p in pooled], 1)
    layers = values.get("embedding", {"layers": {}})["layers"]
    for output, train in zip(outputs, (False, True), strict=True):
        expected = reference(x, layers, train)
        np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-9)


def test_padding_by_hand():
    stages = (Units("conv +", 3, stride=2, shortcut="padding"),)
    network, _ = make(((3, 3, 1), stages, "conv", 12))
    network.stages[0].units[0].branch[0].kernel[...] = jnp.zeros((3, 3, 1, 3))
    # An identity for the 2 x 2 x 3 values of the map.
    network.embedding.layers[0].kernel[...] = jnp.eye(12).reshape(2, 2, 3, 12)
    images = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    expected = [[1, 0, 0, 3, 0, 0, 7, 0, 0, 9, 0, 0]]
    np.testing.assert_array_equal(call(network, images), expected)


def test_modes():
    network, _ = make(SMALL, dropout_rate=0.5)
    images = jnp.asarray(draw_images(), jnp.float32)
    network.eval()
    evaluated = call(network, images)
    # Neither the statistics nor the key have moved.
    np.testing.assert_array_equal(call(network, images), evaluated)
    network.train()
    outputs, trained = call_in_both_modes(network, images)
    np.testing.assert_allclose(outputs, evaluated, rtol=1e-5, atol=1e-5)
    # Another mask for each call.
    _, again = call_in_both_modes(network, images)
    assert np.abs(trained - again).max() > 1e-3
    network.eval()
    assert np.abs(call(network, images) - evaluated).max() > 1e-3


def test_a_network_without_dropout_holds_no_key():
    state = nnx.state(make(SMALL)[0])
    assert len(jax.tree.leaves(nnx.filter_state(state, nnx.BatchStat))) == 2 * 7
    assert not jax.tree.leaves(nnx.filter_state(state, nnx.RngState))


class Counting(nnx.Conv):
    """A convolution with a running statistic of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.use_running_average = False
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, inputs, use_running_average=None):
        mode = use_running_average
        if not (self.use_running_average if mode is None else mode):
            self.count[...] += 1.0
        return super().__call__(inputs)


def test_an_operator_is_told_the_mode():
    network, _ = make(SMALL, conv=Counting)
    images = jnp.asarray(draw_images(), jnp.float32)

    def counts():
        convs = [unit.branch for stage in network.stages for unit in stage.units]
        return [
            float(layer.count[...])
            for branch in convs
            for layer in branch
            if isinstance(layer, Counting)
        ]

    before = counts()
    call_in_both_modes(network, images)
    after = counts()
    assert after == [count + 1.0 for count in before]
    network.eval()
    call(network, images)
    assert counts() == after


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes(dtype):
    images = jnp.asarray(draw_images(), jnp.float32)
    network, _ = make(SMALL, dtype=dtype)
    exact, _ = make(SMALL)
    outputs = call(network, images)
    assert outputs.dtype == dtype
    np.testing.assert_allclose(
        outputs.astype(jnp.float32), call(exact, images), atol=0.1
    )
    # Nor is a shortcut from the images left in their own.
    shortcut, _ = make(((7, 5, 1), (Units("conv +", 1),), "mean"), dtype=dtype)
    assert nnx.eval_shape(call, shortcut, images).dtype == dtype
    half, _ = make(SMALL, param_dtype=dtype)
    params, statistics = nnx.state(half, nnx.Param, nnx.BatchStat)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(statistics)} == {
        jnp.dtype("float32")
    }


@pytest.mark.parametrize("graph", MODES)
def test_split_merge_and_linen(graph):
    images = jnp.asarray(draw_images(), jnp.float32)
    with nnx.set_graph_mode(graph):
        module = nnx.bridge.to_linen(Backbone, *SMALL)
        original, _ = make(SMALL)
        original.eval()
        graphdef, params, rest = nnx.split(original, nnx.Param, ...)
        variables = dict(
            params=nnx.to_pure_dict(params), batch_stats=nnx.to_pure_dict(rest)
        )
        made = jax.eval_shape(module.init, jax.random.key(0), images)
        assert jax.tree.structure(made) == jax.tree.structure(variables)
        merged = jax.jit(lambda params, x: nnx.merge(graphdef, params, rest)(x))
        outputs: Any = jax.jit(
            lambda variables, x: module.apply(variables, x, use_running_average=True)
        )(variables, images)
        np.testing.assert_allclose(merged(params, images), outputs, rtol=1e-5)


class Classifier(nnx.Module):
    """A network and its head."""

    def __init__(self, rngs: nnx.Rngs):
        units = Units(INSIGHTFACE, 4, stride=2, stride_at=1)
        self.network, _ = make((SMALL[0], (units,), *SMALL[2:]), dropout_rate=0.1)
        self.head = sx.layers.MarginHead(
            self.network.features,
            3,
            margin=sx.margins.CosFace(),
            scale=8.0,
            rngs=rngs,
        )

    def loss(self, images, labels):
        return self.head.loss(self.network(images), labels)


@pytest.mark.parametrize("graph", MODES)
def test_training_lowers_the_loss(graph):
    images = jnp.asarray(draw_images(), jnp.float32)
    labels = jnp.arange(6) % 3

    def loss_of(params, graphdef, rest):
        model = nnx.merge(graphdef, params, rest, copy=True)
        return model.loss(images, labels), nnx.split(model, nnx.Param, ...)[2]

    @nnx.jit
    def step(model, optimizer):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        (loss, rest), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            params, graphdef, rest
        )
        optimizer.update(model, gradient)
        nnx.update(model, rest)
        leaves = jax.tree.leaves(gradient)
        return loss, jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])

    with nnx.set_graph_mode(graph):
        model = Classifier(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.1, 0.9), wrt=nnx.Param)
        losses = []
        for _ in range(20):
            loss, finite = step(model, optimizer)
            losses.append(float(loss))
            assert finite.all()
    assert losses[-1] < 0.5 * losses[0]


PRODUCT = functools.partial(
    sx.layers.DecoupledConv,
    magnitude=sx.operators.Linear(weighted="linear"),
    angular=sx.operators.Cosine(),
)


@pytest.mark.parametrize("conv", [nnx.Conv, TANH], ids=["plain", "tanh"])
def test_gradients_at_black_images_are_finite(conv):
    """Maps without variance, patches of zeros: what dead units look like."""
    network, _ = make(SMALL, conv=conv)
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def gradient_of(params_and_images):
        params, images = params_and_images
        network = nnx.merge(graphdef, params, rest, copy=True)
        return jnp.sum(network(images) ** 2)

    for leaf in jax.tree.leaves(gradient_of((params, jnp.zeros((2, 7, 5, 1))))):
        assert np.isfinite(leaf).all()


def test_the_plain_network_is_that_of_the_product():
    """Of magnitude |w||x| and the cosine, whatever stands around the operator."""
    plain, _ = make(SMALL)
    decoupled, _ = make(SMALL, seed=2, conv=PRODUCT)
    images = jnp.asarray(draw_images(), jnp.float32)
    nnx.update(decoupled, nnx.state(plain))
    outputs = call_in_both_modes(decoupled, images)
    expected = call_in_both_modes(plain, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_sphere_convolutions_is_blind_to_contrast():
    images = jnp.asarray(draw_images(), jnp.float32)
    network, _ = make(SMALL, conv=sx.layers.SphereConv)
    network.eval()
    expected = call(network, images)
    np.testing.assert_allclose(call(network, 7.0 * images), expected, rtol=1e-4)


def test_numpy_images():
    network, _ = make(((7, 5, 1), (Units("norm conv relu", 2),), "mean"))
    network.eval()
    images = draw_images()
    assert images.dtype == np.float64
    outputs = network(images)
    assert outputs.dtype == jnp.float32
    expected = call(network, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)


def test_errors_of_units_teach():
    with pytest.raises(ValueError, match="Units: features must be a positive integer"):
        Units("conv", 0)
    with pytest.raises(ValueError, match="Units: pool must be a positive integer"):
        Units("conv", 8, pool=0)
    with pytest.raises(ValueError, match="Units: kernel_size must be odd.* got 4"):
        Units("conv", 8, kernel_size=4)
    with pytest.raises(ValueError, match="words of layers must be one of .* 'bn'"):
        Units("conv bn relu", 8)
    for layers in ("norm relu", "conv + conv", "conv + relu +", "+ conv"):
        with pytest.raises(ValueError, match="must have a conv, and . at most once"):
            Units(layers, 8)
    with pytest.raises(ValueError, match="one of the 1 convolutions .* got 1"):
        Units("conv norm relu", 8, stride_at=1)
    with pytest.raises(ValueError, match="Units: shortcut must be one of"):
        Units("conv +", 8, shortcut="crop")  # pyright: ignore[reportArgumentType]


def test_errors_of_backbones_teach():
    def network(
        input_shape=(7, 5, 1), stages=None, embedding="mean", features=None, **o
    ):
        stages = (Units("conv", 2),) if stages is None else stages
        return Backbone(input_shape, stages, embedding, features, rngs=nnx.Rngs(0), **o)

    with pytest.raises(ValueError, match=r"must be \(height, width, channels\), got"):
        network(input_shape=(64, 7, 5, 1))
    with pytest.raises(ValueError, match="Backbone: input_shape: width must be a pos"):
        network(input_shape=(7, 0, 1))
    with pytest.raises(ValueError, match="at least one Units"):
        network(stages=())
    with pytest.raises(ValueError, match="Backbone: features must be a positive"):
        network(embedding="linear", features=0)
    with pytest.raises(ValueError, match="words of embedding must be one of .*'fc'"):
        network(embedding="fc", features=2)
    for embedding in ("", "norm", "linear mean", "conv linear"):
        with pytest.raises(ValueError, match="must turn the last map into a vector"):
            network(embedding=embedding)
    for embedding, features in (("mean", 2), ("mean linear", None)):
        with pytest.raises(ValueError, match="features is the size of the 'conv' or"):
            network(embedding=embedding, features=features)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\).* got 0.5 for 'mean'"):
        network(dropout_rate=0.5)
    with pytest.raises(ValueError, match="'padding' cannot take 3 channels to 2"):
        network((7, 5, 3), (Units("conv +", 2, shortcut="padding"),))
    small = network()
    with pytest.raises(ValueError, match=r"must be \[..., 7, 5, 1\].*\(2, 8, 5, 1\)"):
        small(jnp.ones((2, 8, 5, 1)))
    with pytest.raises(TypeError, match="images must be floating, got dtype uint8"):
        small(jnp.ones((2, 7, 5, 1), jnp.uint8))
