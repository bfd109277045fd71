"""The vision transformer against NumPy, and what it leaves out in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sphax.networks import VISION_TRANSFORMERS, VisionTransformer
from tests.networks.parts import call, call_in_both_modes, draw_images, normalized

# Six tokens; a row and a column are left over.
SHAPE = (7, 5, 2)
SIZES: dict = dict(patch=2, num_heads=2)


def make(depth=2, **options):
    """A network whose parameters are all drawn, of deviation about one half."""
    network = VisionTransformer(
        SHAPE, 4, depth, 3, **SIZES, **options, rngs=nnx.Rngs(0)
    )
    rng = np.random.default_rng(1)
    params = nnx.state(network, nnx.Param)
    drawn = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0.0, 0.5, x.shape), x.dtype), params
    )
    nnx.update(network, drawn)
    values = nnx.state(network, (nnx.Param, nnx.BatchStat))
    return network, jax.tree.map(np.asarray, nnx.to_pure_dict(values))


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def layer_norm(x, norm):
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    return centered / deviation * norm["scale"] + norm["bias"]


def attention(x, block):
    """Head by head, image by image."""
    mixed = np.empty_like(x)
    qkv = dense(x, block["queries_keys_values"])
    q, k, v = np.split(qkv, 3, -1)
    for image in range(len(x)):
        for head in (slice(0, 2), slice(2, 4)):
            scores = q[image, :, head] @ k[image, :, head].T / np.sqrt(2.0)
            weights = np.exp(scores)
            weights /= weights.sum(-1, keepdims=True)
            mixed[image, :, head] = weights @ v[image, :, head]
    return dense(mixed, block["out"])


def reference(images, values, train):
    places = [(i, j) for i in (0, 2, 4) for j in (0, 2)]
    cut = np.stack([images[:, i : i + 2, j : j + 2] for i, j in places], 1)
    kernel = values["patches"]["kernel"]
    x = np.einsum("ntijc,ijcd->ntd", cut, kernel) + values["patches"]["bias"]
    x = x + values["positions"]
    for _, block in sorted(values["blocks"].items()):
        x = x + attention(layer_norm(x, block["norm_1"]), block)
        hidden = dense(layer_norm(x, block["norm_2"]), block["wide"])
        x = x + dense(np.clip(hidden, 0.0, 6.0), block["narrow"])
    x = layer_norm(x, values["norm"]).reshape(len(x), -1)
    for i in (1, 2):
        norm = values[f"norm_{i}"]
        x = normalized(dense(x, values[f"linear_{i}"]), norm, train, 2e-5)
    return x


@pytest.mark.usefixtures("x64")
def test_it_is_its_definition():
    whole: dict = dict(drop_path_rate=0.0, mask_rate=0.0)
    network, values = make(**whole, param_dtype=jnp.float64)
    images = draw_images(5, SHAPE)
    outputs = call_in_both_modes(network, jnp.asarray(images))
    for output, train in zip(outputs, (False, True), strict=True):
        np.testing.assert_allclose(output, reference(images, values, train), rtol=1e-9)


def test_a_masked_token_reaches_nothing():
    network, _ = make(mask_rate=0.4, drop_path_rate=0.0)
    graphdef, state = nnx.split(network)
    images = jnp.asarray(draw_images(20, SHAPE), jnp.float32)

    @jax.jit
    @jax.grad
    def gradient(images):
        return jnp.sum(nnx.merge(graphdef, state, copy=True)(images) ** 3)

    cut = np.asarray(gradient(images))[:, :6, :4].reshape(20, 3, 2, 2, 2, 2)
    is_used = np.any(cut != 0.0, axis=(2, 4, 5)).reshape(20, 6)
    # int(6 * 0.6) tokens of each image, not the same ones.
    np.testing.assert_array_equal(is_used.sum(1), 3)
    assert is_used.any(0).all()
    assert len({tuple(row) for row in is_used}) > 5


def test_modes():
    network, _ = make(depth=3, drop_path_rate=0.6)
    rates = [getattr(block.drop_path, "rate", 0.0) for block in network.blocks]
    assert rates == pytest.approx([0.0, 0.3, 0.6])
    images = jnp.asarray(draw_images(6, SHAPE), jnp.float32)
    trained = call(network, images)
    assert np.abs(trained - call(network, images)).max() > 1e-2
    network.eval()
    evaluated = call(network, images)
    np.testing.assert_array_equal(call(network, images), evaluated)
    network.train()
    np.testing.assert_allclose(
        call_in_both_modes(network, images)[0], evaluated, rtol=1e-5
    )


def test_half_precision_is_of_the_products_in_blocks():
    options: dict = dict(drop_path_rate=0.0, mask_rate=0.0)
    images = jnp.asarray(draw_images(6, SHAPE), jnp.float32)
    half, exact = (make(dtype=d, **options)[0] for d in (jnp.bfloat16, None))
    outputs = call(half, images)
    assert outputs.dtype == jnp.float32
    assert outputs.shape == (6, 3)
    np.testing.assert_allclose(outputs, call(exact, images), atol=0.2)
    assert np.any(np.asarray(outputs) != call(exact, images))


def test_published_sizes():
    """Patches, positions, the mask's token, blocks, the last normalization and head."""
    counts = {}
    for name, sizes in VISION_TRANSFORMERS.items():
        network = nnx.eval_shape(
            lambda s=sizes: VisionTransformer(*s, rngs=nnx.Rngs(0))
        )
        leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
        counts[name] = sum(leaf.size for leaf in leaves)
        images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)
        out = nnx.eval_shape(lambda network, x: network(x), network, images)
        assert out.shape == (2, 512)

    def by_hand(width, depth):
        block = 4 * width + 12 * width**2 + (1 + 4 + 1) * width
        first = (9 * 9 * 3 + 1) * width + 144 * width + width
        last = 2 * width + 144 * width**2 + 2 * width + width * 512 + 2 * 512
        return first + depth * block + last

    assert counts == {
        "vit_t": by_hand(256, 12),
        "vit_s": by_hand(512, 12),
        "vit_b": by_hand(512, 24),
    }


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((7, 5), {}, r"input_shape must be \(height, width, channels\), got"),
        (SHAPE, dict(num_heads=3), "width must be a multiple of num_heads, got 4 and"),
        (SHAPE, dict(mask_rate=1.0), r"mask_rate must be in \[0, 1\), got 1.0"),
        (SHAPE, dict(drop_path_rate=-1), r"drop_path_rate must be in \[0, 1\), got"),
        (SHAPE, dict(patch=6), "patch must be at most the sides .* 6 and 7 x 5"),
        (SHAPE, dict(patch=0), "patch must be a positive integer"),
    ],
)
def test_errors_teach(shape, options, message):
    with pytest.raises(ValueError, match=f"VisionTransformer: {message}"):
        VisionTransformer(shape, 4, 1, 2, **SIZES | options, rngs=nnx.Rngs(0))
