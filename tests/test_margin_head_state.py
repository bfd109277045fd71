"""The margin head: running states, draws, sub-centres, smoothed labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from tests import reference
from tests.test_layers import MODES, draw

sm, sl = sx.margins, sx.layers


def make_head(margin, **options):
    return sl.MarginHead(5, 4, margin=margin, scale=8.0, rngs=nnx.Rngs(0), **options)


def batch():
    x, _, labels = draw()
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
    np.testing.assert_allclose(
        head(x), 8 * sx.losses.subcenter_cosines(x, w), rtol=1e-6, atol=1e-6
    )
    expected = sx.losses.margin_softmax(x, w, labels, sm.ArcFace(), scale=8.0)
    np.testing.assert_allclose(head.loss(x, labels), expected, rtol=1e-6)
    lengths = jnp.linalg.norm(make_head(sm.ArcFace(), subcenters=500).prototypes[...])
    np.testing.assert_allclose(lengths**2 / 2000, 1.0, rtol=0.1)


def test_smoothed_labels_reach_the_loss():
    x, labels = batch()
    head = make_head(sm.CosFace(), label_smoothing=0.1)
    expected = sx.losses.margin_softmax(
        x,
        head.prototypes[...],
        labels,
        sm.CosFace(),
        scale=8.0,
        label_smoothing=0.1,
    )
    np.testing.assert_allclose(head.loss(x, labels), expected, rtol=1e-6)


def test_errors_teach():
    with pytest.raises(ValueError, match="MarginHead: subcenters must be a positive"):
        make_head(sm.ArcFace(), subcenters=0)
    with pytest.raises(ValueError, match="sub-centres need normalize"):
        sl.MarginHead(
            5,
            4,
            margin=sm.NoMargin(),
            normalize="none",
            subcenters=2,
            rngs=nnx.Rngs(0),
        )
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\)"):
        make_head(sm.ArcFace(), label_smoothing=1.5)
