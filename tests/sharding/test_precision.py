"""Products of bfloat16 and float16 at many classes, and at angles that become zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

CLASSES, FEATURES, BATCH = 100_000, 32, 16
SCALE, MARGIN = 64.0, 0.35
# Gradients of float16 are too small without a factor, as in any training with it.
FACTOR = {"bfloat16": 1.0, "float16": 4096.0}
DTYPES = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
FORMS = pytest.mark.parametrize(
    ("block_size", "devices"), [(None, 1), (12_500, 1), (None, 4), (12_500, 4)]
)


def loss_on(devices):
    """The loss with classes and examples split over so many devices."""
    mesh = jax.make_mesh((devices,), ("class",), devices=jax.devices()[:devices])
    axes = {"class_axis": "class", "batch_axis": "class"}
    return partial(sx.sharding.margin_softmax, mesh=mesh, **axes)


@pytest.fixture(scope="module")
def batch():
    """Embeddings near their prototypes or not, and values that both dtypes have."""
    draw = np.random.default_rng(0)
    prototypes = draw.normal(size=(CLASSES, FEATURES))
    labels = draw.integers(CLASSES, size=BATCH)
    noise = draw.normal(size=(BATCH, FEATURES))
    nearness = np.linspace(0.0, 2.0, BATCH)[:, None]
    embeddings = nearness * prototypes[labels] + noise
    return *(np.round(8.0 * x) / 8.0 for x in (embeddings, prototypes)), labels


@pytest.fixture(scope="module")
def expected(batch):
    """Loss and gradients of CosFace in float64."""
    embeddings, prototypes, labels = batch
    x_length, w_length = (
        np.linalg.norm(x, axis=-1, keepdims=True) for x in (embeddings, prototypes)
    )
    x, w = embeddings / x_length, prototypes / w_length
    cosines, every = x @ w.T, np.arange(BATCH)
    logits = SCALE * cosines
    logits[every, labels] -= SCALE * MARGIN
    largest = logits.max(-1, keepdims=True)
    exponentials = np.exp(logits - largest)
    total = exponentials.sum(-1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) + largest[:, 0] - logits[every, labels])
    error = exponentials / total
    error[every, labels] -= 1.0
    error *= SCALE / BATCH
    to_x, to_w = error @ w, error.T @ x
    # Only what is orthogonal to a vector changes its direction.
    to_x -= (to_x * x).sum(-1, keepdims=True) * x
    to_w -= (to_w * w).sum(-1, keepdims=True) * w
    return loss, to_x / x_length, to_w / w_length


def cosine(a, b):
    a, b = np.asarray(a, np.float64).ravel(), b.ravel()
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@DTYPES
@FORMS
def test_a_hundred_thousand_classes(batch, expected, dtype, block_size, devices):
    embeddings, prototypes, labels = batch

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(embeddings, prototypes):
        return FACTOR[dtype] * loss_on(devices)(
            embeddings,
            prototypes,
            labels,
            sx.margins.CosFace(MARGIN),
            scale=SCALE,
            block_size=block_size,
        )

    operands = (jnp.asarray(x, dtype) for x in (embeddings, prototypes))
    value, gradients = loss(*operands)
    assert value.dtype == jnp.float32
    assert abs(value / FACTOR[dtype] - expected[0]) < 2e-2
    for gradient, by_hand in zip(gradients, expected[1:], strict=True):
        assert gradient.dtype == dtype
        assert cosine(gradient, by_hand) > 0.999


@DTYPES
@pytest.mark.parametrize(("block_size", "devices"), [(None, 1), (2, 1), (None, 2)])
def test_embeddings_may_arrive_at_their_prototypes(dtype, block_size, devices):
    labels = jnp.arange(8) % 6
    draw = np.random.default_rng(1)
    start = tuple(jnp.asarray(draw.normal(size=(n, 8)), jnp.float32) for n in (8, 6))

    def loss(params):
        return loss_on(devices)(
            params[0].astype(dtype),
            params[1].astype(dtype),
            labels,
            sx.margins.ArcFace(),
            scale=4.0,
            block_size=block_size,
            has_aux=True,
        )

    def step(params, rate):
        (value, aux), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        params = jax.tree.map(lambda x, g: x - rate * g, params, gradients)
        params = jax.tree.map(sx.sphere.normalize, params)
        return params, (value, aux.angle, jax.tree.map(jnp.max, gradients))

    # With a margin, the pull does not fade as the angle does, but the steps do.
    rates = jnp.geomspace(1.0, 1e-3, 1000)
    params, found = jax.jit(partial(jax.lax.scan, step))(start, rates)
    for leaf in jax.tree.leaves((params, found)):
        assert np.isfinite(leaf).all()
    angles = found[1]
    assert (angles.min(0) < 5e-3).all()
    assert (angles == 0.0).any()
