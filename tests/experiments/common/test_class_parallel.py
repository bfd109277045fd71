"""A class-parallel step against a plain one, in parts, and with sampled classes."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from experiments.common import class_parallel, class_recipes

CLASSES, STEPS = 1_000, 4


class Network(nnx.Module):
    """A linear layer: what it does to an image does not depend on the others."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(48, 8, rngs=rngs)
        self.features = 8

    def __call__(self, images, use_running_average=None):
        return self.linear(images.reshape(*images.shape[:-3], 48))


@dataclasses.dataclass(frozen=True)
class Recipe(class_recipes.Recipe):
    """Of that network."""

    def make_network(self, rngs):
        """The network."""
        return Network(rngs)


def recipe(**changes):
    return Recipe(
        batch=32, epochs=1, precision="float32", scale=8.0, image_size=4, **changes
    )


def batch(setting):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 4, 4, 3), np.uint8)
    labels = rng.integers(0, CLASSES, 32, np.int32)
    labels[:2] = 0, CLASSES - 1
    return class_parallel.share(setting, images), class_parallel.share(setting, labels)


def run(number, **changes):
    setting, initial = class_parallel.begin(recipe(**changes), CLASSES, STEPS)
    first = state = initial(0)
    first = jax.tree.map(np.array, first)
    images, labels = batch(setting)
    metrics: Any = {}
    for _ in range(number):
        state, metrics = class_parallel.step(setting, state, images, labels)
    return setting, first, state, metrics


def plain_step(first, images, labels):
    """A step on one device, by the definitions."""
    linear = first.network["network"]["linear"]
    kernel, bias = linear["kernel"], linear["bias"]
    (prototypes,) = jax.tree.leaves(first.head)

    def loss_of(params):
        network, w = params
        x = (images.reshape(32, 48) / 127.5 - 1.0) @ network["kernel"]
        x = x + network["bias"][None]
        margin = sx.margins.ArcFace(margin=0.5, beyond="pure")
        return sx.losses.margin_softmax(
            x, w[:CLASSES], labels, margin, scale=8.0, gradient="detached"
        )

    params = {"kernel": kernel[...], "bias": bias[...]}, prototypes
    loss, (network, w) = jax.value_and_grad(loss_of)(params)
    length = optax.tree.norm(network)
    network = jax.tree.map(lambda g: g * jnp.minimum(1.0, 5.0 / length), network)
    # Decay of 5e-4, momentum at rest, learning rate 0.1.
    return loss, *(
        jax.tree.map(lambda p, g: p - 0.1 * (g + 5e-4 * p), *each)
        for each in zip(params, (network, w), strict=True)
    )


def test_a_step_is_that_of_one_device():
    setting, first, state, metrics = run(1)
    loss, network, prototypes = jax.jit(plain_step)(first, *batch(setting))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for name, expected in network.items():
        found = state.network["network"]["linear"][name][...]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    (found,) = jax.tree.leaves(state.head)
    np.testing.assert_allclose(found, prototypes, rtol=1e-5, atol=1e-6)
    assert found.shape == (1_024, 8)
    assert not np.any(np.asarray(found)[CLASSES:])
    assert int(state.step) == 1
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)


def test_prototypes_and_their_momentum_are_split_and_all_else_is_whole():
    setting, _, state, _ = run(1)
    split = jax.tree.leaves((state.head, state.optimizers[1]))
    assert {x.sharding.shard_shape(x.shape) for x in split if x.ndim} == {(128, 8)}
    whole = jax.tree.leaves((state.network, state.optimizers[0], state.rest))
    assert all(x.is_fully_replicated for x in whole)
    embedded = class_parallel.embed(
        setting, state, 3, lambda i: np.full((4, 4, 3), i, np.uint8)
    )
    ((numbers, embeddings),) = embedded
    np.testing.assert_array_equal(numbers, [0, 1, *[2] * 30])
    assert embeddings.shape == (32, 2, 8)
    # An image of one color is its own mirror image.
    np.testing.assert_allclose(embeddings[:, 0], embeddings[:, 1], rtol=1e-6)


def test_a_batch_in_parts_is_the_whole_batch():
    _, _, whole, metrics = run(3)
    _, _, parts, in_parts = run(3, accumulate=4)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for name, value in metrics.items():
        np.testing.assert_allclose(in_parts[name], value, rtol=1e-4)


@pytest.mark.parametrize(("untouched", "subcenters"), [("dense", 1), ("frozen", 2)])
def test_only_sampled_prototypes_have_a_gradient(untouched, subcenters):
    options: dict[str, Any] = dict(untouched=untouched, subcenters=subcenters)
    options |= dict(sample_rates=(0.25,), momentum=0.5)
    setting, first, state, metrics = run(1, **options, weight_decay=1e-9)
    moved = np.any(_rows(state) != _rows(first), axis=-1).reshape(1_024, -1).any(1)
    # A quarter of the 128 of each device.
    np.testing.assert_array_equal(moved.reshape(8, 128).sum(1), 32)
    assert moved[np.asarray(batch(setting)[1])].all()
    assert not moved[CLASSES:].any()
    assert int(metrics["lost"]) == 0
    assert np.isfinite(metrics["loss"])


def _rows(state):
    return np.asarray(*jax.tree.leaves(state.head))


def test_cosines_to_the_centers_of_the_own_class():
    setting, _, state, _ = run(0, subcenters=2)
    labels = np.arange(32)
    x = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    found = class_parallel.cosines_to_centers(setting, state, x, labels)
    centers = _rows(state)[:32]
    lengths = np.linalg.norm(centers, axis=-1) * np.linalg.norm(x, axis=-1)[:, None]
    expected = np.einsum("nf,nkf->nk", x, centers) / lengths
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        (
            dict(accumulate=8),
            CLASSES,
            "--batch must be a multiple of the number of dev",
        ),
        (
            dict(sample_rates=(0.5,)),
            800,
            "--sample-rates must be at most 0.143 for 800 id",
        ),
    ],
)
def test_what_does_not_fit_the_devices_is_refused(changes, classes, message):
    def trace():
        setting, initial = class_parallel.begin(recipe(**changes), classes, STEPS)
        step = partial(class_parallel.step, setting)
        jax.eval_shape(step, initial(0), *batch(setting))

    with pytest.raises(ValueError, match=message):
        trace()


def test_costs_of_a_network():
    _, found = class_parallel.costs_of(recipe(), CLASSES, 8)
    # The linear layer and, with 128 rows of each device, the products of the head.
    products = 3 * 2 * 48 * 8 * 4 + 6 * 32 * 128 * 8
    assert found.flops == pytest.approx(products, rel=0.05)
