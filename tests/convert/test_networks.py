"""Networks of files: what PyTorch computes of them, and the way back."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import (
    BACKBONES,
    Backbone,
    ConvUnit,
    FaceEmbedding,
    ImprovedResidualUnit,
    Stage,
)
from tests.convert.torch_networks import FILE, NETWORKS, SMALL, draw, draw_images
from tests.networks.parts import make

EXPECTED = json.loads(FILE.read_text())
READERS = {name: reader for name, (_, reader) in NETWORKS.items()}
WRITERS: dict[str, Any] = {
    name: getattr(sx.convert, reader.__name__.replace("from", "to"))
    for name, reader in READERS.items()
}
WIDTHS = (4, 5, 6, 7)


def faces(repeats=(1, 2, 1, 1), shape=(32, 48, 3), widths=WIDTHS, **options):
    """The design of a small IResNet."""
    unit = ImprovedResidualUnit
    stages = [
        Stage(width, n, unit=unit, stride=2, pool=None)
        for width, n in zip(widths, repeats, strict=True)
    ]
    embedding = functools.partial(FaceEmbedding, **options)
    return shape, (Stage(widths[0], pool=None), *stages), 3, embedding


def arrays_of(name):
    return draw(EXPECTED[name]["shapes"])


def given(name, **options):
    """A network for arrays that need one, since their maps are not square."""
    if name != "iresnet":
        return None
    return make(faces(use_scale=True, **options))[0]


@nnx.jit
def embed(network, images):
    return network(images, use_running_average=True)


@pytest.mark.parametrize("name", READERS)
def test_embeddings_are_those_of_pytorch(name):
    arrays = arrays_of(name)
    network = READERS[name](arrays, given(name))
    expected = np.array(EXPECTED[name]["embeddings"])
    assert np.abs(expected).max() < 5
    found = embed(network, jnp.asarray(draw_images(2, SMALL[name])))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    written = WRITERS[name](network)
    counts = {x for x in written if x.endswith(".num_batches_tracked")}
    layers = {x.rpartition(".")[0] for x in arrays if x.endswith("running_var")}
    assert counts == {f"{layer}.num_batches_tracked" for layer in layers}
    assert written.keys() - counts == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(written[key], array)
        assert written[key].dtype == array.dtype
    again = READERS[name](written, given(name))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(network))


@pytest.mark.parametrize("name", ["iresnet", "sfnet"])
def test_opensphere_s_iresnet_is_insightface_s(name):
    arrays = arrays_of(name)
    network = sx.convert.from_opensphere(arrays, given(name))
    written = sx.convert.to_opensphere(network)
    assert arrays.keys() <= written.keys()


def test_a_network_that_is_given_keeps_its_options_and_arrays():
    network = given("iresnet", dropout_rate=0.4)
    assert network is not None
    network.eval()
    before = nnx.state(network, nnx.Param)
    found = sx.convert.from_insightface(arrays_of("iresnet"), network)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(network, nnx.Param), before)
    # Dropout is off in the mode that is kept.
    np.testing.assert_allclose(
        nnx.jit(lambda net, x: net(x))(found, draw_images(2, SMALL["iresnet"])),
        EXPECTED["iresnet"]["embeddings"],
        rtol=1e-5,
        atol=1e-5,
    )
    half = make(faces(use_scale=True), param_dtype=jnp.bfloat16)[0]
    found = sx.convert.from_insightface(arrays_of("iresnet"), half)
    dtypes = {x.dtype for x in jax.tree.leaves(nnx.state(found, nnx.Param))}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    assert found.embedding.last_norm.var[...].dtype == jnp.float32


def test_scales_and_biases_that_one_side_does_not_have():
    arrays = arrays_of("iresnet")
    plain = make(faces())[0]
    with pytest.raises(ValueError, match=r"features.weight.*use_scale=True"):
        sx.convert.from_insightface(arrays, plain)
    arrays["features.weight"][:] = 1.0
    network = sx.convert.from_insightface(arrays, plain)
    np.testing.assert_array_equal(
        sx.convert.to_insightface(network)["features.weight"], np.ones(3)
    )
    # A square one is made without them too.
    square = make(faces(shape=(32, 32, 3)))[0]
    made = sx.convert.from_insightface(sx.convert.to_insightface(square))
    assert made.embedding.last_norm.scale is None
    unit = functools.partial(ImprovedResidualUnit, shortcut="padding")
    shape, stages, features, _ = faces()
    first = Stage(4, unit=unit, stride=2, pool=None)
    design = shape, (stages[0], first, *stages[2:]), features, FaceEmbedding
    network = make(design)[0]
    with pytest.raises(ValueError, match=r"without scale and bias.*use_bias=False"):
        sx.convert.to_adaface(network)
    network.embedding.last_norm.bias[...] = jnp.zeros(3)
    written = sx.convert.to_adaface(network)
    found = sx.convert.from_adaface(written, make(design)[0])
    np.testing.assert_array_equal(found.embedding.last_norm.bias[...], np.zeros(3))


def test_published_sizes_are_known():
    """By the number of units."""
    repeats = [stage.repeats for stage in BACKBONES["iresnet34"].stages[1:]]
    network = make(faces(repeats, (16, 16, 1), (1, 1, 2, 2)))[0]
    arrays = sx.convert.to_insightface(network)
    made = sx.convert.from_insightface(arrays)
    assert [len(stage.units) for stage in made.stages[1:]] == repeats
    for units, size in (
        ((2, 2, 2, 2), "IResNet-18"),
        ((2, 1, 1, 1), "of 2, 1, 1, 1 u"),
    ):
        other = make(faces(units, (16, 16, 1), (1, 1, 2, 2)))[0]
        with pytest.raises(ValueError, match=f"those of an IResNet-34, .*{size}"):
            sx.convert.from_insightface(arrays, other)


def without(arrays, *names):
    return {name: x for name, x in arrays.items() if name not in names}


SFNET = arrays_of("sfnet")
ADAFACE = arrays_of("adaface")
IRESNET = arrays_of("iresnet")
WRONG: list[tuple[Any, Any, str]] = [
    (without(SFNET, "layer3.1.bn2.bias"), None, r"all arrays of an SFNet-10, lack l"),
    (SFNET | {"head.weight": np.ones(2)}, None, r"and no others, got head.weight"),
    (SFNET | {"fc.bias": np.ones(4)}, None, r"fc.bias of shape \(3,\), .*got \(4,\)"),
    (without(SFNET, "layer2.0.conv1.weight"), None, r"must have layer2.0.conv1.weight"),
    (SFNET | {"fc.bias": np.arange(3)}, None, "must be floating, got int64 for fc.bi"),
    ({"backbone": SFNET}, None, "must be floating, got object for backbone; .* flat"),
    ({}, None, "must have layer1.0.conv1.weight, got no names"),
    ({"w": np.ones((2, 3))}, None, "got w. For the arrays of a head, give a MarginH"),
    (IRESNET, None, "must be given where maps are not square, got fc.weight for 6 po"),
    (SFNET, make(faces())[0], "must be an SFNet of opensphere, of ResidualUnit and"),
    (SFNET, nnx.Linear, "must be a sphax.networks.Backbone or a sphax.layers.Margin"),
    (
        ADAFACE,
        None,
        r"must have layer1.0.conv1.weight, got body.0.* sx.convert.from_adaface rea",
    ),
]


@pytest.mark.parametrize(("tensors", "module", "message"), WRONG)
def test_arrays_that_are_not_read(tensors, module, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sx.convert.from_opensphere(tensors, module)


def test_a_network_that_would_compute_something_else():
    adaface = ADAFACE | {"output_layer.3.weight": draw({"fc": (3, 7 * 6)})["fc"]}
    with pytest.raises(
        ValueError, match=r"_Padding\(stride=2\) at stages/1/units/0/sh"
    ):
        sx.convert.from_adaface(adaface, make(faces((2, 1, 1, 1)))[0])
    shape, stages, features, embedding = faces(use_scale=True)
    rectified = functools.partial(ConvUnit, activation="relu")
    for i, stage, message in (
        (4, Stage(7, unit=ImprovedResidualUnit, pool=None), r"strides=\(2, 2\)"),
        (4, Stage(7, unit=ImprovedResidualUnit, stride=2, pool=2), "pool=None"),
        (0, Stage(4, unit=rectified, pool=None), r"stages/0/units/0, .*'relu'\)"),
    ):
        changed = [*stages[:i], stage, *stages[i + 1 :]]
        network = make((shape, changed, features, embedding))[0]
        with pytest.raises(ValueError, match=message):
            sx.convert.from_insightface(IRESNET, network)
    tanh = functools.partial(
        sx.layers.DecoupledConv,
        magnitude=sx.operators.Tanh(),
        angular=sx.operators.Cosine(),
    )
    network = make(faces(), conv=tanh)[0]
    with pytest.raises(
        ValueError, match="at stages/0/units/0/conv, .*, got DecoupledConv"
    ):
        sx.convert.to_insightface(network)
    sphereface = BACKBONES["sphereface20"]._replace(input_shape=(16, 16, 1))
    network = make(sphereface)[0]
    with pytest.raises(ValueError, match=r"ConvUnit\(activation='relu'\) at stages/0/"):
        sx.convert.to_opensphere(network)
    network = nnx.eval_shape(lambda: Backbone(*BACKBONES["resnet18"], rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="got a network of ConvUnit, MeanEmbedding, R"):
        sx.convert.to_insightface(network)
