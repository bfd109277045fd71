"""The published backbones: their sizes by hand, the operator as their argument."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import sphax as sx
from tests.networks.test_networks import Spy

BACKBONES, Backbone = sx.networks.BACKBONES, sx.networks.Backbone
TANH = functools.partial(
    sx.layers.DecoupledConv,
    magnitude=sx.operators.Tanh(),
    angular=sx.operators.Cosine(),
    radius="learned",
)


def resnet(n, a, b, c):
    """Weights of 6 n + 1 convolutions of 3 x 3, scale and bias for each filter."""
    last = 2 * n - 1
    kernels = 3 * a + 2 * n * a**2 + a * b + last * b**2 + b * c + last * c**2
    return 9 * kernels + 2 * ((2 * n + 1) * a + 2 * n * b + 2 * n * c)


def wide_resnet():
    """With projections, which have a normalisation as well."""
    return resnet(5, 96, 192, 384) + 96 * 192 + 192 * 384 + 2 * (192 + 384)


def sphereface(*repeats):
    """Kernels, biases of the strided, slopes; the linear layer on a map of 7 x 6."""
    widths = (64, 128, 256, 512)
    pairs = list(zip(repeats, widths, strict=True))
    strided = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + sum(widths)
    residual = sum(9 * 2 * n * width**2 for n, width in pairs)
    slopes = sum((1 + 2 * n) * width for n, width in pairs)
    return strided + residual + slopes + 7 * 6 * 512 * 512 + 512


def iresnet(*repeats):
    """Stem; for each stage a first unit, with its projection, and 7 numbers a channel
    beside the kernels of each other unit; the linear layer on a map of 7 x 7."""
    total, before = 9 * 3 * 64 + 3 * 64, 64
    for n, width in zip(repeats, (64, 128, 256, 512), strict=True):
        total += 9 * (before * width + width**2) + 2 * before + 5 * width
        total += before * width + 2 * width
        total += (n - 1) * (9 * 2 * width**2 + 7 * width)
        before = width
    return total + 2 * 512 + (7 * 7 * 512 * 512 + 512) + 512


# Parameters, and for each convolution by the operator its window and filters, as runs
# of (how many, side, filters); the places of stride 2 among them.
BY_HAND = {
    "vgg9": (
        9 * (3 * 128 + 2 * 128**2 + 128 * 192 + 2 * 192**2 + 192 * 256 + 2 * 256**2)
        + 2 * 3 * (128 + 192 + 256)
        + 4 * 4 * 256 * 256,
        [(3, 3, 128), (3, 3, 192), (3, 3, 256), (1, 4, 256)],
        set(),
    ),
    "resnet20": (resnet(3, 16, 32, 64), [(7, 3, 16), (6, 3, 32), (6, 3, 64)], {7, 13}),
    "resnet32": (
        resnet(5, 16, 32, 64),
        [(11, 3, 16), (10, 3, 32), (10, 3, 64)],
        {11, 21},
    ),
    # As torchvision counts it, without its linear layer of 1000 classes.
    "resnet18": (
        11_689_512 - 513_000,
        [(1, 7, 64), (4, 3, 64), (4, 3, 128), (4, 3, 256), (4, 3, 512)],
        {0, 5, 9, 13},
    ),
    "sphereresnet32": (
        wide_resnet(),
        [(11, 3, 96), (10, 3, 192), (10, 3, 384)],
        {11, 21},
    ),
    "dcnet_resnet32": (
        wide_resnet(),
        [(11, 3, 96), (10, 3, 192), (10, 3, 384)],
        {11, 21},
    ),
    "dcnet_resnet18": (
        49 * 3 * 128
        + 9 * (2 * 128**2 + 128 * 256 + 4 * 256**2 + 256 * 512 + 6 * 512**2)
        + 9 * (512 * 1024 + 2 * 1024**2)
        + 2 * (3 * 128 + 5 * 256 + 7 * 512 + 3 * 1024)
        + (2 * 128 + 3 * 256 + 4 * 512 + 2 * 1024),
        [(1, 7, 128), (2, 3, 128), (5, 3, 256), (7, 3, 512), (3, 3, 1024)],
        {0, 3, 8, 15},
    ),
    "sphereface20": (
        sphereface(1, 2, 4, 1),
        [(3, 3, 64), (5, 3, 128), (9, 3, 256), (3, 3, 512)],
        {0, 3, 8, 17},
    ),
    "sphereface64": (
        sphereface(3, 8, 16, 3),
        [(7, 3, 64), (17, 3, 128), (33, 3, 256), (7, 3, 512)],
        {0, 7, 24, 57},
    ),
    "iresnet50": (
        iresnet(3, 4, 14, 3),
        [(7, 3, 64), (8, 3, 128), (28, 3, 256), (6, 3, 512)],
        {2, 8, 16, 44},
    ),
    "iresnet100": (
        iresnet(3, 13, 30, 3),
        [(7, 3, 64), (26, 3, 128), (60, 3, 256), (6, 3, 512)],
        {2, 8, 34, 94},
    ),
}


def test_the_table_is_complete_and_as_published():
    assert set(BACKBONES) == set(BY_HAND)
    parameters = {name: row[0] for name, row in BY_HAND.items()}
    # He et al., Table 6, with the linear layer of ten classes: 0.27M and 0.46M.
    assert parameters["resnet20"] + 650 == 269_722
    assert parameters["resnet32"] + 650 == 464_154
    # insightface's, with the 512 fixed scales that PyTorch counts: 43.59M and 65.16M.
    assert parameters["iresnet50"] + 512 == 43_590_848
    assert parameters["iresnet100"] + 512 == 65_156_160


@pytest.mark.parametrize("name", BACKBONES)
def test_a_row_of_the_table(name):
    parameters, runs, strided = BY_HAND[name]
    spy = Spy()
    network = nnx.eval_shape(
        lambda: Backbone(*BACKBONES[name], conv=spy, rngs=nnx.Rngs(0))
    )
    state = nnx.state(network, nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters
    windows = [(side, filters) for n, side, filters in runs for _ in range(n)]
    found = [(settings["kernel_size"][0], args[1]) for args, settings in spy.made]
    assert found == windows
    strides = [settings["strides"] for _, settings in spy.made]
    expected = [(2, 2) if i in strided else (1, 1) for i in range(len(windows))]
    assert strides == expected


# With one unit in each stage: maps that the convolutions give, as runs of (how many,
# map), and the dimension of the embedding.
MAPS = {
    "vgg9": ([(1, (32, 32)), (1, (16, 16)), (1, (8, 8)), (1, (1, 1))], 256),
    "resnet20": ([(3, (32, 32)), (2, (16, 16)), (2, (8, 8))], 64),
    "resnet18": (
        [(1, (112, 112)), (2, (56, 56)), (2, (28, 28)), (2, (14, 14)), (2, (7, 7))],
        512,
    ),
    "sphereresnet32": ([(3, (32, 32)), (2, (16, 16)), (2, (8, 8))], 384),
    "dcnet_resnet32": ([(3, (32, 32)), (2, (16, 16)), (2, (8, 8))], 384),
    "dcnet_resnet18": (
        [(1, (112, 112)), (2, (56, 56)), (3, (28, 28)), (3, (14, 14)), (3, (7, 7))],
        1024,
    ),
    "sphereface20": (
        [(3, (56, 48)), (3, (28, 24)), (3, (14, 12)), (3, (7, 6))],
        512,
    ),
    "iresnet50": (
        [(2, (112, 112)), (2, (56, 56)), (2, (28, 28)), (2, (14, 14)), (1, (7, 7))],
        512,
    ),
}


def trace(design):
    """The shape of the embeddings of 2 x 3 images, and the maps on the way."""
    spy = Spy()
    network = nnx.eval_shape(lambda: Backbone(*design, conv=spy, rngs=nnx.Rngs(0)))
    images = jax.ShapeDtypeStruct((2, 3, *design.input_shape), jnp.float32)
    out = nnx.eval_shape(lambda network, x: network(x), network, images)
    assert out.shape == (2, 3, network.features)
    return network.features, spy.maps


def shallow(design):
    """With one unit in each stage."""
    stages = tuple(dataclasses.replace(units, repeats=1) for units in design.stages)
    return design._replace(stages=stages)


@pytest.mark.parametrize("name", MAPS)
def test_the_maps_of_a_row(name):
    runs, features = MAPS[name]
    expected = [side for n, side in runs for _ in range(n)]
    assert trace(shallow(BACKBONES[name])) == (features, expected)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("vgg9", (1, 1)),
        ("resnet20", (7, 3)),
        ("dcnet_resnet18", (1, 1)),
        ("sphereface20", (2, 1)),
    ],
)
def test_images_of_odd_sides(name, last):
    _, maps = trace(BACKBONES[name]._replace(input_shape=(25, 11, 1)))
    assert maps[-1] == last


def test_the_operator_is_an_argument_and_projections_are_plain():
    spy = Spy()
    design = BACKBONES["iresnet50"]
    network = nnx.eval_shape(
        lambda: Backbone(
            design.input_shape,
            design.stages[:2],
            "conv",
            8,
            conv=spy,
            dtype=jnp.bfloat16,
            param_dtype=jnp.float16,
            rngs=nnx.Rngs(0),
        )
    )
    assert len(spy.made) == 1 + 2 * 3 + 1
    names = {"kernel_size", "strides", "padding", "use_bias", "kernel_init"}
    for _, settings in spy.made:
        assert set(settings) == names | {"dtype", "param_dtype", "rngs"}
        assert settings["dtype"] == jnp.bfloat16
        assert settings["param_dtype"] == jnp.float16
    shortcuts = [unit.shortcut for unit in network.stages[1].units]
    assert [len(shortcut) for shortcut in shortcuts] == [2, 0, 0]
    assert type(shortcuts[0][0]) is nnx.Conv
    assert shortcuts[0][0].kernel.shape == (1, 1, 64, 64)
    assert shortcuts[0][0].strides == (2, 2)


@pytest.mark.parametrize("conv", [sx.layers.SphereConv, TANH], ids=["sphere", "tanh"])
@pytest.mark.parametrize("name", MAPS)
def test_a_row_takes_a_decoupled_operator(name, conv):
    design, spy = shallow(BACKBONES[name]), Spy()
    network = nnx.eval_shape(lambda: Backbone(*design, conv=conv, rngs=nnx.Rngs(0)))
    nnx.eval_shape(lambda: Backbone(*design, conv=spy, rngs=nnx.Rngs(0)))
    layers = [layer for _, layer in nnx.iter_modules(network)]
    decoupled = [x for x in layers if isinstance(x, sx.layers.DecoupledConv)]
    assert len(decoupled) == len(spy.made)
    images = jax.ShapeDtypeStruct((2, *design.input_shape), jnp.float32)
    out = nnx.eval_shape(lambda network, x: network(x), network, images)
    assert out.shape == (2, network.features)


def test_how_the_weights_of_the_face_networks_start():
    """Near the identity without normalisation, as published: else it would explode."""
    faces = BACKBONES["sphereface20"]
    strided, residual = faces.stages[:2]
    assert strided.use_bias
    assert not residual.use_bias
    he, normal = BACKBONES["resnet20"].stages[1], BACKBONES["iresnet50"].stages[1]

    @jax.jit
    def deviations(key):
        kinds = strided, residual, he, normal
        return [jnp.std(units.kernel_init(key, (3, 3, 16, 64))) for units in kinds]

    expected = [1 / 12, 0.01, 2**0.5 / 12, 0.1]
    assert deviations(jax.random.key(0)) == pytest.approx(expected, rel=0.03)
