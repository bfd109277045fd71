"""Batches without examples: an empty result, 0 with zero gradient, or an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

X, W = np.ones((0, 4), np.float32), np.eye(3, 4, dtype=np.float32)
LABELS = np.zeros(0, np.int32)
IMAGES, KERNEL = np.ones((0, 5, 4), np.float32), np.ones((3, 4, 3), np.float32)
FUNCTIONS = {"magnitude": sx.operators.Tanh(), "angular": sx.operators.LinearAngle()}

# Functions of parameters, which get zero gradient from an empty batch.
OF_BATCHES = {
    "sphere.cosine_similarity": (lambda w: sx.sphere.cosine_similarity(X, w), W),
    "sphere.normalize": (lambda w: sx.sphere.normalize(w[:0]), W),
    "sphere.length": (lambda w: sx.sphere.length(w[:, :0]), W),
    "sphere.direction": (lambda w: sx.sphere.direction(w[:0]), W),
    "sphere.inner_products": (lambda w: sx.sphere.inner_products(X, w), W),
    "sphere.arcsin": (lambda w: sx.sphere.arcsin(w[:0]), W),
    "operators.rotary": (lambda w: sx.operators.rotary(w[:0], 1), W),
    "sphere.angle": (lambda w: sx.sphere.angle(w[:0], X), W),
    "sphere.log_map": (lambda w: sx.sphere.log_map(w[:0], X), W),
    "margins.margin_logits": (
        lambda w: sx.margins.margin_logits(w[:0], LABELS, sx.margins.ArcFace()),
        W,
    ),
    "metrics.angular_visual_hardness": (
        lambda w: sx.metrics.angular_visual_hardness(X, w, LABELS),
        W,
    ),
    "metrics.angular_fisher_score": (
        lambda w: sx.metrics.angular_fisher_score(w[:0], LABELS, num_classes=3),
        W,
    ),
    "operators.decoupled_dense": (
        lambda w: sx.operators.decoupled_dense(X, w.T, **FUNCTIONS),
        W,
    ),
    "operators.decoupled_conv": (
        lambda k: sx.operators.decoupled_conv(IMAGES, k, **FUNCTIONS),
        KERNEL,
    ),
    "operators.decoupled_conv_transpose": (
        lambda k: sx.operators.decoupled_conv_transpose(IMAGES, k, **FUNCTIONS),
        KERNEL,
    ),
    "operators.skew_convolution": (
        lambda k: sx.operators.skew_convolution(IMAGES[..., :3], k[:, :3]),
        KERNEL,
    ),
    "operators.cayley_convolution": (
        lambda k: sx.operators.cayley_convolution(IMAGES, k),
        KERNEL,
    ),
    "operators.group_sort": (lambda w: sx.operators.group_sort(w[:0]), W),
    "operators.space_to_depth": (
        lambda k: sx.operators.space_to_depth(k[:, :0], (3,)),
        KERNEL,
    ),
    "metrics.certified_radius": (
        lambda w: sx.metrics.certified_radius(X, LABELS, prototypes=w),
        np.ones((4, 3), np.float32),
    ),
    "losses.margin_softmax": (
        lambda w: sx.losses.margin_softmax(X, w, LABELS, sx.margins.ArcFace()),
        W,
    ),
    "sphere.inverse_stereographic": (
        lambda w: sx.sphere.inverse_stereographic(w[:0]),
        W,
    ),
    "sphere.angle_to_north_pole": (lambda w: sx.sphere.angle_to_north_pole(w[:0]), W),
    "losses.sphere_gan_critic": (
        lambda w: sx.losses.sphere_gan_critic(w[:0], X),
        W,
    ),
    "losses.angles_to_dominant": (
        lambda w: sx.losses.angles_to_dominant(w[:, None], X, LABELS),
        W,
    ),
    "distributions.VonMisesFisher": (
        lambda w: sx.distributions.VonMisesFisher(w[0], 2.0).log_prob(X),
        W,
    ),
    "distributions.fit": (lambda w: sx.distributions.fit(w[:0]).concentration, W),
}
# Host code, which raises an error, and the argument that the error names.
OF_HOST = {
    "roc": (lambda: sx.metrics.roc(X[:, 0], LABELS > 0), "scores"),
    "cllr": (lambda: sx.metrics.cllr(X[:, 0], LABELS > 0), "llr"),
    "bootstrap": (
        lambda: sx.metrics.bootstrap(
            sx.metrics.roc_auc, X[:, 0], LABELS > 0, np.zeros((0, 2), int)
        ),
        "scores",
    ),
    "cmc": (lambda: sx.metrics.cmc(X, LABELS, np.arange(4)), "scores"),
    "recall_at_k": (lambda: sx.metrics.recall_at_k(X, LABELS), "embeddings"),
    "blufr": (lambda: sx.metrics.blufr(X, LABELS, []), "embeddings"),
    "find_mates": (lambda: sx.metrics.find_mates(X, LABELS, W, LABELS), "probes"),
    "nearest": (lambda: sx.metrics.nearest(W, X, 1), "references"),
    "pair_scores": (lambda: sx.metrics.pair_scores(X, LABELS), "embeddings"),
    "pool_templates": (
        lambda: sx.metrics.pool_templates(X, LABELS, LABELS),
        "embeddings",
    ),
    "verification_accuracy": (
        lambda: sx.metrics.verification_accuracy(X[:, 0], LABELS > 0, LABELS),
        "scores",
    ),
}


@pytest.mark.parametrize("name", OF_BATCHES)
def test_no_examples(name):
    function, parameters = OF_BATCHES[name]
    value, pull_back = jax.vjp(function, jnp.asarray(parameters))
    np.testing.assert_array_equal(np.sum(np.asarray(value)), 0.0)
    (gradient,) = pull_back(jnp.ones_like(value))
    np.testing.assert_array_equal(gradient, np.zeros_like(parameters))


@pytest.mark.parametrize("name", OF_HOST)
def test_nothing_to_measure(name):
    function, called = OF_HOST[name]
    with pytest.raises(ValueError, match=f"{called} must .*not.* empty"):
        function()
