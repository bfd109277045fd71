"""Units and embeddings against NumPy."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from sphax.networks import (
    ConvEmbedding,
    ConvUnit,
    FaceEmbedding,
    ImprovedResidualUnit,
    LinearEmbedding,
    MeanEmbedding,
    NormalizedEmbedding,
    ResidualUnit,
    SphereFaceUnit,
    Stage,
)
from tests.networks.parts import (
    call,
    call_in_both_modes,
    conv_unit,
    convolve,
    draw_images,
    make,
    normalized,
    pool,
)


def projection(x, unit, stride, train):
    if "shortcut" not in unit:
        return x
    return conv_unit(x, unit["shortcut"], stride, train, None)


def residual(x, unit, stride, train):
    y = conv_unit(x, unit["first"], stride, train, "relu")
    y = conv_unit(y, unit["second"], 1, train, None)
    return np.maximum(y + projection(x, unit, stride, train), 0.0)


def dcnet(x, unit, stride, train):
    y = conv_unit(x, unit["first"], stride, train)
    y = conv_unit(y, unit["second"], 1, train, None)
    return y + projection(x, unit, stride, train)


def improved(x, unit, stride, train):
    y = conv_unit(normalized(x, unit["norm"], train), unit["first"], 1, train)
    y = conv_unit(y, unit["second"], stride, train, None)
    return y + projection(x, unit, stride, train)


def sphereface(x, unit, stride, train):
    y = conv_unit(x, unit["first"], stride, train)
    y = conv_unit(y, unit["second"], 1, train)
    padded = np.zeros_like(y)
    padded[..., : x.shape[-1]] = x[:, ::stride, ::stride]
    return padded + y


UNITS = {
    "conv": (conv_unit, ConvUnit, dict(use_bias=True, kernel_size=5)),
    "residual": (residual, ResidualUnit, {}),
    "dcnet": (dcnet, ResidualUnit, dict(activation="prelu", rectify=False)),
    "improved": (improved, ImprovedResidualUnit, {}),
    "padding": (sphereface, SphereFaceUnit, dict(shortcut="padding")),
}


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.usefixtures("x64")
def test_a_unit_is_its_definition(kind):
    reference, unit, options = UNITS[kind]
    unit = functools.partial(unit, **options)
    stages = (Stage(3, 2, unit=unit, stride=2, pool=None),)
    design = (6, 5, 2), stages, None, MeanEmbedding
    network, values = make(design, param_dtype=jnp.float64)
    images = draw_images(3, (6, 5, 2))
    outputs = call_in_both_modes(network, jnp.asarray(images))
    for output, train in zip(outputs, (False, True), strict=True):
        x = images
        for i, stride in enumerate((2, 1)):
            x = reference(x, values["stages"][0]["units"][i], stride, train)
        assert x.shape == (3, 3, 3, 3)
        np.testing.assert_allclose(output, x.mean((1, 2)), rtol=1e-9, atol=1e-9)


def linear(x, layer):
    x = x.reshape(len(x), -1)
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def face(x, layers, train):
    x = linear(normalized(x, layers["first_norm"], train), layers["linear"])
    assert "scale" not in layers["last_norm"]
    return normalized(x, {"scale": 1.0} | layers["last_norm"], train)


def lsoftmax(x, layers, train):
    assert "bias" not in layers["linear"]
    return normalized(linear(x, layers["linear"]), layers["norm"], train)


EMBEDDINGS = {
    "mean": (lambda x, layers, train: x.mean((1, 2)), MeanEmbedding, None),
    "mean, linear": (
        lambda x, layers, train: linear(x.mean((1, 2)), layers["linear"]),
        MeanEmbedding,
        4,
    ),
    "conv": (
        lambda x, layers, train: np.einsum(
            "nhwc,hwco->no", x, layers["conv"]["kernel"]
        ),
        ConvEmbedding,
        4,
    ),
    "linear": (
        lambda x, layers, train: linear(x, layers["linear"]),
        LinearEmbedding,
        4,
    ),
    "normalized": (lsoftmax, NormalizedEmbedding, 4),
    "face": (face, FaceEmbedding, 4),
}


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.usefixtures("x64")
def test_an_embedding_is_its_definition(kind):
    reference, embedding, features = EMBEDDINGS[kind]
    unit = functools.partial(ConvUnit, use_norm=False, activation="relu")
    design = (4, 3, 2), (Stage(3, unit=unit, pool=3),), features, embedding
    network, values = make(design, param_dtype=jnp.float64)
    assert network.features == (features or 3)
    images = draw_images(5, (4, 3, 2))
    outputs = call_in_both_modes(network, jnp.asarray(images))
    x = conv_unit(images, values["stages"][0]["units"][0], 1, True, "relu")
    # Windows of three: four rows are padded below, three columns on either side.
    pooled = [x[:, 2 * i : 2 * i + 3].max(1) for i in range(2)]
    starts = (slice(0, 2), slice(1, 3))
    x = np.stack([np.stack([p[:, s].max(1) for s in starts], 1) for p in pooled], 1)
    for output, train in zip(outputs, (False, True), strict=True):
        expected = reference(x, values.get("embedding", {}), train)
        np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_a_network_with_pooling_is_its_definition():
    wide = functools.partial(ConvUnit, kernel_size=5)
    stages = (Stage(3, 2, stride=2), Stage(4, unit=wide, pool=None))
    network, values = make(((10, 7, 2), stages, 3), param_dtype=jnp.float64)
    images = draw_images(5, (10, 7, 2))
    outputs = call_in_both_modes(network, jnp.asarray(images))
    first, second = (stage["units"] for _, stage in sorted(values["stages"].items()))
    for output, train in zip(outputs, (False, True), strict=True):
        x = conv_unit(images, first[0], 2, train)
        x = pool(conv_unit(x, first[1], 1, train))
        x = conv_unit(x, second[0], 1, train)
        expected = lsoftmax(x, values["embedding"], train)
        np.testing.assert_allclose(output, expected, rtol=1e-9)


def test_padding_by_hand():
    unit = functools.partial(SphereFaceUnit, shortcut="padding")
    stages = (Stage(3, unit=unit, stride=2, pool=None),)
    network, _ = make(((3, 3, 1), stages, 12, ConvEmbedding))
    network.stages[0].units[0].first.conv.kernel[...] = jnp.zeros((3, 3, 1, 3))
    # An identity for the 2 x 2 x 3 values of the map.
    network.embedding.conv.kernel[...] = jnp.eye(12).reshape(2, 2, 3, 12)
    images = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    expected = [[1, 0, 0, 3, 0, 0, 7, 0, 0, 9, 0, 0]]
    np.testing.assert_array_equal(call(network, images), expected)


def test_convolve_by_hand():
    """The reference itself: a shift, a stride."""
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    right = np.zeros((3, 3, 1, 1))
    right[1, 2] = 1.0
    shifted = [[1, 2, 0], [4, 5, 0], [7, 8, 0]]
    np.testing.assert_array_equal(convolve(x, right, 1)[0, ..., 0], shifted)
    np.testing.assert_array_equal(convolve(x, right, 2)[0, ..., 0], [[1, 0], [7, 0]])
