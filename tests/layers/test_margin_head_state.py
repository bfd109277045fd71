"""The margin head: running states, draws, sub-centers, margins of classes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from tests import reference
from tests.layers.draws import MODES, draw_batch

sm, sl = sx.margins, sx.layers


def make_head(margin, **options):
    return sl.MarginHead(5, 4, margin=margin, scale=8.0, rngs=nnx.Rngs(0), **options)


def batch():
    x, _, labels = draw_batch()
    return jnp.asarray(x, jnp.float32), jnp.asarray(labels)


def angles_of(head, x, labels):
    w = np.asarray(head.prototypes[...])
    return reference.angles(np.asarray(x), w)[np.arange(len(x)), labels]


@pytest.mark.parametrize("graph", MODES)
def test_the_state_moves_in_a_compiled_training_step(graph):
    x, labels = batch()
    head = make_head(sm.CurricularFace())
    optimizer = nnx.Optimizer(head, optax.sgd(0.0), wrt=nnx.Param)
    traces = []

    @nnx.jit(graph=graph)
    def step(head, optimizer, x, labels):
        traces.append(1)
        loss, gradients = nnx.value_and_grad(
            lambda head: head.loss(x, labels), graph=graph
        )(head)
        optimizer.update(head, gradients)
        return loss

    mean = np.cos(angles_of(head, x, labels)).mean()
    for count in (1, 2, 3):
        step(head, optimizer, x, labels)
        expected = mean * (1 - 0.99**count)
        np.testing.assert_allclose(head.margin.t, expected, rtol=1e-5)
    assert len(traces) == 1


def test_the_state_stands_still_in_evaluation():
    x, labels = batch()
    head = make_head(sm.AdaFace())
    head.eval()
    head.loss(x, labels)
    assert float(head.margin.mean) == 20.0
    head.train()
    head.loss(x, labels)
    lengths = np.linalg.norm(np.asarray(x), axis=1)
    np.testing.assert_allclose(
        head.margin.mean, 0.99 * 20 + 0.01 * lengths.mean(), rtol=1e-6
    )


def test_a_margin_that_draws_takes_its_key_from_the_call():
    x, labels = batch()
    head = make_head(sm.ElasticFace())
    losses = [float(head.loss(x, labels, key=jax.random.key(i))) for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ValueError, match="give the loss a key"):
        head.loss(x, labels)


def test_subcenters_predict_by_the_nearest_and_train():
    x, labels = batch()
    head = make_head(sm.ArcFace(), subcenters=3)
    w = head.prototypes[...]
    assert w.shape == (4, 3, 5)
    cosines = sx.losses.subcenter_cosines(x, w)
    np.testing.assert_allclose(head(x), 8 * cosines, rtol=1e-6, atol=1e-6)
    head.normalize = "prototypes"
    lengths = jnp.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(head(x), lengths * cosines, rtol=1e-5, atol=1e-6)
    head.normalize = "both"
    expected = sx.losses.margin_softmax(x, w, labels, sm.ArcFace(), scale=8.0)
    np.testing.assert_allclose(head.loss(x, labels), expected, rtol=1e-6)
    lengths = jnp.linalg.norm(make_head(sm.ArcFace(), subcenters=500).prototypes[...])
    np.testing.assert_allclose(lengths**2 / 2000, 1.0, rtol=0.1)


def test_margins_of_classes_are_those_of_the_labels():
    x, labels = batch()
    by_class = jnp.array([0.1, 0.2, 0.3, 0.6])
    head = make_head(sm.ArcFace(margin=by_class), per_class_margin=True)
    expected = sx.losses.margin_softmax(
        x, head.prototypes[...], labels, sm.ArcFace(margin=by_class[labels]), scale=8.0
    )
    np.testing.assert_allclose(head.loss(x, labels), expected, rtol=1e-6)
    # A margin of one value for all.
    head.margin = sm.ArcFace(margin=0.3)
    plain = make_head(sm.ArcFace(margin=0.3))
    np.testing.assert_allclose(head.loss(x, labels), plain.loss(x, labels), rtol=1e-6)


def test_margins_of_classes_survive_a_running_state():
    x, labels = batch()
    by_class = jnp.array([0.1, 0.2, 0.3, 0.6])
    head = make_head(sm.CurricularFace(margin=by_class), per_class_margin=True)
    head.loss(x, labels)
    np.testing.assert_array_equal(head.margin.margin, by_class)
    mean = np.cos(angles_of(head, x, labels)).mean()
    np.testing.assert_allclose(head.margin.t, 0.01 * mean, rtol=1e-5)


def test_a_margin_of_one_batch_is_not_kept_for_the_next():
    x, labels = batch()
    head = make_head(sm.ArcFace())
    for margin in (sm.CosFace(margin=jnp.ones(6)), sm.ArcFace(margin=jnp.ones(4))):
        with pytest.raises(ValueError, match=r"must be scalars.*belongs to its batch"):
            head.margin = margin
        with pytest.raises(ValueError, match="must be scalars"):
            make_head(margin)
    with pytest.raises(ValueError, match=r"\[num_classes\], here \(4,\).*got shape"):
        make_head(sm.CosFace(margin=jnp.ones(6)), per_class_margin=True)
    # What a function of the user's makes of its leaves is its own affair.
    bends = sm.Psi(lambda angle, c: jnp.cos(angle) - c[0] - c[1] * angle, jnp.ones(2))
    assert np.isfinite(make_head(bends).loss(x, labels))


def test_the_loss_and_the_state_through_linen():
    x, labels = batch()
    linen: Any = nnx.bridge.to_linen(
        sl.MarginHead, 5, 4, margin=sm.AdaFace(), scale=8.0
    )
    variables = linen.init(jax.random.key(0), x)
    loss = linen.apply(variables, x, labels, nnx_method="loss")
    head = make_head(sm.AdaFace())
    head.prototypes[...] = variables["params"]["prototypes"]
    np.testing.assert_allclose(loss, head.loss(x, labels), rtol=1e-6)
    _, state = linen.apply(
        variables, x, labels, nnx_method="loss", mutable=["MarginState"]
    )
    moved = state["MarginState"]["margin_state"]
    np.testing.assert_allclose(moved.mean, head.margin.mean, rtol=1e-6)
    assert float(moved.mean) != 20.0
