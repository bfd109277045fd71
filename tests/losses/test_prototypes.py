"""Fixed prototypes, poles, and prototypes of episodes, beyond their battery."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax import losses
from tests.losses.objectives.prototypes import OF_SUPPORT, episode_logits
from tests.reference import directions

RNG = np.random.default_rng(0)
X, SUPPORT = RNG.normal(size=(2, 3, 5)), RNG.normal(size=(len(OF_SUPPORT), 5))


@pytest.mark.usefixtures("x64")
def test_the_slope_of_the_squared_cosine_distance():
    """2 (1 - cos) sin: none at the prototype and at its antipode, exact near both."""
    pole, labels = np.eye(1, 2), np.zeros(1, int)

    def cost(angle):
        x = jnp.stack([jnp.cos(angle), jnp.sin(angle)])[None]
        return losses.hyperspherical_prototype(x, pole, labels)

    step = jax.jit(jax.value_and_grad(cost))
    for angle in (1e-6, 1e-3, 0.5, 2.0, 3.0):
        distance = 2 * np.sin(angle / 2) ** 2
        value, slope = step(angle)
        assert float(value) == pytest.approx(distance**2, rel=1e-9)
        assert float(slope) == pytest.approx(2 * distance * np.sin(angle), rel=1e-9)
    for angle, expected in ((0.0, 0.0), (np.pi, 4.0)):
        value, slope = step(angle)
        assert float(value) == pytest.approx(expected, abs=1e-12)
        assert abs(slope) < 1e-12


@pytest.mark.usefixtures("x64")
def test_values_are_the_inverse_of_targets():
    """At embeddings whose cosines are the scaled targets, the loss is 0."""
    low, high = np.array([-1.0, 2.0, 0.0]), np.array([3.0, 2.5, 9.0])
    shares = np.array([[0.1, 0.9, 0.4], [1.0, 0.0, 1.0]])  # the second is at a corner
    targets = low + shares * (high - low)
    for radius, reached in ((None, 1 / np.sqrt(3)), (0.3, 0.3)):
        wanted = reached * (2 * shares - 1)
        rest = np.sqrt(np.maximum(0, 1 - (wanted**2).sum(1)))
        x = 7 * np.stack([*wanted.T, rest, 0 * rest], axis=1)
        options: Any = dict(low=low, high=high, radius=radius)
        values = losses.polar_values(x, 2 * np.eye(3, 5), **options)
        np.testing.assert_allclose(values, targets, atol=1e-12)
        loss = losses.polar_regression(x, np.eye(3, 5), targets, **options)
        assert float(loss) < 1e-25
    middle = losses.polar_values(np.zeros((1, 5)), np.eye(3, 5), low=low, high=high)
    np.testing.assert_allclose(middle[0], (low + high) / 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("on_sphere", [False, True])
def test_logits_of_an_episode(on_sphere):
    """Of queries with several axes, a class without support, and a masked support."""
    labels = np.array(OF_SUPPORT)
    run = jax.jit(
        lambda x, support, labels, where: losses.prototypical_logits(
            x,
            support,
            labels,
            num_classes=5,
            on_sphere=on_sphere,
            support_where=where,
        )
    )
    where = np.arange(8) != 2
    dirty = np.where(where[:, None], SUPPORT, np.nan)
    found = run(X, dirty, labels, where)
    scale = 10.0 if on_sphere else 1.0
    kept = SUPPORT[where], labels[where]
    expected = episode_logits(X.reshape(6, 5), *kept, scale, on_sphere=on_sphere)
    np.testing.assert_allclose(found[..., :4], expected.reshape(2, 3, 4), rtol=1e-11)
    # Never predicted, however far the others are.
    np.testing.assert_array_equal(found[..., 4], np.finfo(np.float64).min)
    weights = np.where(labels == 1, 2.0, 1.0)
    weighted = run(X, SUPPORT, labels, weights)
    np.testing.assert_allclose(weighted, run(X, SUPPORT, labels, np.ones(8)))
    for wrong in (-1, 5):
        unknown = np.where(np.arange(8) == 0, wrong, labels)
        assert np.isnan(run(X, SUPPORT, unknown, np.ones(8))[..., :4]).all()


def test_a_query_of_a_class_without_support_never_trains_silently():
    def loss(x, support, where):
        labels = jnp.array([0, 4])
        return losses.prototypical(
            x, labels, support, np.array(OF_SUPPORT), num_classes=5, where=where
        )

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    x, support = X[0, :2].astype(np.float32), SUPPORT.astype(np.float32)
    value, gradients = step(x, support, np.array([True, True]))
    assert np.isnan(value)
    assert all(np.isnan(gradient).any() for gradient in gradients)
    value, gradients = step(x, support, np.array([True, False]))
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.usefixtures("x64")
def test_imprinted_rows():
    w, x = RNG.normal(size=(5, 4)), RNG.normal(size=(7, 4))
    labels = np.array([1, 1, 4, 4, 4, 0, 3])
    x[6] = 0.0  # no direction: its class keeps its row
    x[5] = np.nan
    where = np.array([1.0, 3.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    found = np.asarray(losses.imprint(w, x, labels, where=where))
    np.testing.assert_array_equal(found[[0, 2, 3]], w[[0, 2, 3]])
    u = directions(x[:4])
    expected = directions(np.stack([u[0] + 3 * u[1], u[2] + u[3]]))
    np.testing.assert_allclose(found[[1, 4]], expected, rtol=1e-12)
    for wrong in (-1, 5):
        unknown = np.where(np.arange(7) == 0, wrong, labels)
        assert np.isnan(losses.imprint(w, x, unknown, where=where)).all()
    np.testing.assert_array_equal(losses.imprint(w, x[:0], labels[:0]), w)
    half = losses.imprint(w.astype(np.float16), x[:4], labels[:4])
    assert half.dtype == np.float16
    slope = jax.jit(jax.grad(lambda x: losses.imprint(w, x, labels[:3])[1, 0]))(x[:3])
    assert np.abs(slope[:2]).min() > 0
    np.testing.assert_array_equal(slope[2], 0.0)


def test_heads_learn_classes_by_imprinting():
    """A cosine layer and a head predict a class that they were not trained on."""
    x, labels = jnp.asarray(directions(SUPPORT[:3]), jnp.float32), jnp.array([2, 2, 2])
    layer = sx.layers.CosineLinear(5, 3, rngs=nnx.Rngs(0))
    rows = losses.imprint(sx.neurons.to_rows(layer.kernel[...]), x, labels)
    layer.kernel[...] = rows.T
    head = sx.layers.MarginHead(5, 3, margin=sx.margins.NoMargin(), rngs=nnx.Rngs(0))
    head.prototypes[...] = losses.imprint(head.prototypes[...], x, labels)
    mean = jnp.mean(x, axis=0, keepdims=True)
    assert jnp.argmax(layer(mean)) == jnp.argmax(head(mean)) == 2
    np.testing.assert_allclose(layer(mean)[0, 2], 1.0, rtol=1e-6)
