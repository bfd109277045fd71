"""The published networks: their sizes by hand, the operator as their argument."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import BACKBONES, TABLE_2_1, Backbone
from tests.networks.parts import TANH, Spy


def resnet(n, a, b, c):
    """Weights of 6 n + 1 convolutions of 3 x 3, scale and bias for each filter."""
    last = 2 * n - 1
    kernels = 3 * a + 2 * n * a**2 + a * b + last * b**2 + b * c + last * c**2
    return 9 * kernels + 2 * ((2 * n + 1) * a + 2 * n * b + 2 * n * c)


def wide_resnet():
    """With projections, which have a normalization as well."""
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


# Parameters; for each convolution by the operator its window and filters, as runs of
# (how many, side, filters); the places of stride 2 among them. For L-Softmax: weights
# of the convolutions; 3 = scale, bias and slope for each of their filters; the linear
# layer, then scale and bias of its normalization.
BY_HAND = {
    "mnist_2d": (
        25 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
        + 3 * (2 * 32 + 2 * 64 + 2 * 128)
        + (4 * 4 * 128 * 2 + 2 * 2),  # 799,844
        [(2, 5, 32), (2, 5, 64), (2, 5, 128)],
        set(),
    ),
    "mnist": (
        9 * (1 * 64 + 9 * 64 * 64) + 3 * (10 * 64) + (4 * 4 * 64 * 256 + 2 * 256),
        [(10, 3, 64)],
        set(),
    ),
    "cifar10": (
        9 * (3 * 64 + 4 * 64 * 64 + 64 * 96 + 3 * 96 * 96 + 96 * 128 + 3 * 128 * 128)
        + 3 * (5 * 64 + 4 * 96 + 4 * 128)
        + (4 * 4 * 128 * 256 + 2 * 256),
        [(5, 3, 64), (4, 3, 96), (4, 3, 128)],
        set(),
    ),
    "cifar100": (
        9 * (3 * 96 + 4 * 96 * 96 + 96 * 192 + 3 * 192 * 192)
        + 9 * (192 * 384 + 3 * 384 * 384)
        + 3 * (5 * 96 + 4 * 192 + 4 * 384)
        + (4 * 4 * 384 * 512 + 2 * 512),
        [(5, 3, 96), (4, 3, 192), (4, 3, 384)],
        set(),
    ),
    "lfw": (
        9 * (3 * 64 + 4 * 64 * 64 + 64 * 256 + 11 * 256 * 256)
        + 3 * (5 * 64 + 12 * 256)
        + (7 * 6 * 256 * 512 + 2 * 512),
        [(5, 3, 64), (12, 3, 256)],
        {0},
    ),
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
    "iresnet18": (
        iresnet(2, 2, 2, 2),
        [(5, 3, 64), (4, 3, 128), (4, 3, 256), (4, 3, 512)],
        {2, 6, 10, 14},
    ),
    "iresnet34": (
        iresnet(3, 4, 6, 3),
        [(7, 3, 64), (8, 3, 128), (12, 3, 256), (6, 3, 512)],
        {2, 8, 16, 28},
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
    "iresnet200": (
        iresnet(6, 26, 60, 6),
        [(13, 3, 64), (52, 3, 128), (120, 3, 256), (12, 3, 512)],
        {2, 14, 66, 186},
    ),
}
DESIGNS = {**TABLE_2_1, **BACKBONES}


def test_the_tables_are_complete_and_as_published():
    assert set(DESIGNS) == set(BY_HAND)
    parameters = {name: row[0] for name, row in BY_HAND.items()}
    assert parameters["mnist_2d"] == 799_844
    # He et al., Table 6, with the linear layer of ten classes: 0.27M and 0.46M.
    assert parameters["resnet20"] + 650 == 269_722
    assert parameters["resnet32"] + 650 == 464_154
    # insightface's, with the 512 fixed scales that PyTorch counts.
    counts = {n: parameters[f"iresnet{n}"] + 512 for n in (18, 34, 50, 100, 200)}
    assert counts == {
        18: 24_025_600,
        34: 34_139_328,
        50: 43_590_848,
        100: 65_156_160,
        200: 118_833_920,
    }
    # Filters and number of convolutions of L-Softmax, Table 1.
    filters = {
        name: [(stage.features, stage.repeats) for stage in column.stages]
        for name, column in TABLE_2_1.items()
    }
    assert filters == {
        "mnist_2d": [(32, 2), (64, 2), (128, 2)],
        "mnist": [(64, 1), (64, 3), (64, 3), (64, 3)],
        "cifar10": [(64, 1), (64, 4), (96, 4), (128, 4)],
        "cifar100": [(96, 1), (96, 4), (192, 4), (384, 4)],
        "lfw": [(64, 1), (64, 4), (256, 4), (256, 4), (256, 4)],
    }


class Operator(nnx.Conv):
    """A convolution that is not a projection."""


@pytest.mark.parametrize("name", DESIGNS)
def test_parameters_windows_and_strides(name):
    parameters, runs, strided = BY_HAND[name]
    design = DESIGNS[name]
    repeats = [stage.repeats for stage in design.stages]
    # All units of a stage but its first are alike, so that two of them are enough.
    stages = tuple(
        dataclasses.replace(stage, repeats=min(stage.repeats, 2))
        for stage in design.stages
    )
    design = design._replace(stages=stages)
    network = nnx.eval_shape(lambda: Backbone(*design, conv=Operator, rngs=nnx.Rngs(0)))
    modules = []
    for block, number in zip(network.stages, repeats, strict=True):
        modules += [block.units[0], *[block.units[-1]] * (number - 1)]
    modules.append(network.embedding)
    states = [nnx.state(module, nnx.Param) for module in modules]
    assert sum(leaf.size for leaf in jax.tree.leaves(states)) == parameters
    convs: list[nnx.Conv] = [
        layer
        for module in modules
        for _, layer in nnx.iter_modules(module)
        if isinstance(layer, Operator)
    ]
    windows = [(side, filters) for n, side, filters in runs for _ in range(n)]
    assert [(x.kernel_size[0], x.out_features) for x in convs] == windows
    expected = [(2, 2) if i in strided else (1, 1) for i in range(len(windows))]
    assert [x.strides for x in convs] == expected
    for conv in convs:
        side = conv.kernel_size[0]
        around = side // 2 if side % 2 else 0  # an even window is the whole map
        assert conv.padding == ((around, around),) * 2


# With one unit in each stage, which leaves all sizes of maps: the maps that the
# convolutions give, as runs of (how many, map), and the dimension of the embedding. The
# deeper networks of a family have the same.
MAPS = {
    "mnist_2d": ([(1, (28, 28)), (1, (14, 14)), (1, (7, 7))], 2),
    "mnist": ([(2, (28, 28)), (1, (14, 14)), (1, (7, 7))], 256),
    "cifar10": ([(2, (32, 32)), (1, (16, 16)), (1, (8, 8))], 256),
    "cifar100": ([(2, (32, 32)), (1, (16, 16)), (1, (8, 8))], 512),
    "lfw": ([(2, (56, 48)), (1, (28, 24)), (1, (14, 12)), (1, (7, 6))], 512),
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
    "sphereface20": ([(3, (56, 48)), (3, (28, 24)), (3, (14, 12)), (3, (7, 6))], 512),
    "iresnet50": (
        [(2, (112, 112)), (2, (56, 56)), (2, (28, 28)), (2, (14, 14)), (1, (7, 7))],
        512,
    ),
}


def trace(design, conv):
    """A network, and the shape of its embeddings of 2 x 3 images."""
    network = nnx.eval_shape(lambda: Backbone(*design, conv=conv, rngs=nnx.Rngs(0)))
    images = jax.ShapeDtypeStruct((2, 3, *design.input_shape), jnp.float32)
    out = nnx.eval_shape(lambda network, x: network(x), network, images)
    assert out.shape == (2, 3, network.features)
    return network


def shallow(design):
    """With one unit in each stage."""
    stages = tuple(dataclasses.replace(stage, repeats=1) for stage in design.stages)
    return design._replace(stages=stages)


@pytest.mark.parametrize("name", MAPS)
def test_maps(name):
    runs, features = MAPS[name]
    spy = Spy()
    assert trace(shallow(DESIGNS[name]), spy).features == features
    assert spy.maps == [side for n, side in runs for _ in range(n)]


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
    spy = Spy()
    trace(shallow(DESIGNS[name])._replace(input_shape=(25, 11, 1)), spy)
    assert spy.maps[-1] == last


def test_another_size_of_a_column():
    column = TABLE_2_1["cifar10"]._replace(features=2)
    network = nnx.eval_shape(lambda: Backbone(*column, rngs=nnx.Rngs(0)))
    assert network.embedding.linear.kernel.shape == (4 * 4 * 128, 2)
    stages = column.stages
    network = nnx.eval_shape(lambda: Backbone((48, 64, 1), stages, 3, rngs=nnx.Rngs(0)))
    assert network.embedding.linear.kernel.shape == (6 * 8 * 128, 3)


# One design for each kind of unit and embedding, and both kinds of operator.
@pytest.mark.parametrize(
    ("name", "conv"),
    [
        ("mnist", TANH),
        ("vgg9", sx.layers.SphereConv),
        ("resnet20", TANH),
        ("sphereresnet32", sx.layers.SphereConv),
        ("dcnet_resnet18", TANH),
        ("sphereface20", sx.layers.SphereConv),
        ("iresnet50", TANH),
    ],
)
def test_the_operator_is_that_of_all_convolutions_but_projections(name, conv):
    network = trace(shallow(DESIGNS[name]), conv)
    layers = [layer for _, layer in nnx.iter_modules(network)]
    decoupled = [x for x in layers if isinstance(x, sx.layers.DecoupledConv)]
    assert len(decoupled) == sum(n for n, _ in MAPS[name][0])
    plain = [x for x in layers if type(x) is nnx.Conv]
    assert all(x.kernel_size == (1, 1) for x in plain)


def test_how_the_weights_start():
    """Near the identity without normalization, as published: else it would explode."""
    faces = BACKBONES["sphereface20"].stages
    plain, residual = (
        nnx.eval_shape(lambda s=stage: s.unit(4, 64, rngs=nnx.Rngs(0)))
        for stage in faces[:2]
    )
    assert plain.conv.bias is not None
    assert residual.first.conv.bias is None
    stages = (
        faces[0],
        faces[1],
        BACKBONES["resnet20"].stages[1],
        BACKBONES["iresnet50"].stages[1],
    )

    @jax.jit
    def deviations():
        units = [stage.unit(16, 64, rngs=nnx.Rngs(0)) for stage in stages]
        convs = [getattr(unit, "first", unit).conv for unit in units]
        return [jnp.std(conv.kernel[...]) for conv in convs]

    expected = [1 / 12, 0.01, 2**0.5 / 12, 0.1]
    assert deviations() == pytest.approx(expected, rel=0.03)


def test_the_last_layer_of_iresnet_starts_as_in_pytorch():
    """Weights and biases are uniform within one over the root of the fan-in."""
    embedding = sx.networks.FaceEmbedding((2, 2, 16), 512, rngs=nnx.Rngs(0))
    for values in jax.tree.leaves(nnx.state(embedding.linear)):
        assert jnp.max(jnp.abs(values)) == pytest.approx(1 / 8, rel=0.01)
        assert jnp.std(values) == pytest.approx(1 / 8 / 3**0.5, rel=0.06)
