"""Invalid arguments: errors that name them and say what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

X, W, LABELS = jnp.ones((4, 3)), jnp.eye(3), jnp.arange(4) % 3
EIGHT_BITS = jnp.ones((4, 3), jnp.float8_e4m3fn)
NO_FEATURES = jnp.ones((4, 0))
ARC = sx.margins.ArcFace()
FUNCTIONS = {"magnitude": sx.operators.Tanh(), "angular": sx.operators.Cosine()}

# Functions of vectors [4, 3] alone, and the name of this argument.
OF_VECTORS = {
    "sphere.normalize": (sx.sphere.normalize, "x"),
    "sphere.cosine_similarity": (lambda x: sx.sphere.cosine_similarity(x, x), "x"),
    "sphere.angle": (lambda x: sx.sphere.angle(x, x), "x"),
    "sphere.exp_map": (lambda x: sx.sphere.exp_map(x, x), "point"),
    "metrics.angular_visual_hardness": (
        lambda x: sx.metrics.angular_visual_hardness(x, x[:3], LABELS),
        "embeddings",
    ),
    "metrics.class_angles": (
        lambda x: sx.metrics.class_angles(x, LABELS, num_classes=3),
        "embeddings",
    ),
    "metrics.recall_at_k": (
        lambda x: sx.metrics.recall_at_k(x, np.asarray(LABELS)),
        "embeddings",
    ),
    "metrics.find_mates": (
        lambda x: sx.metrics.find_mates(x, LABELS, x, LABELS),
        "probes",
    ),
    "metrics.nearest": (lambda x: sx.metrics.nearest(x, x, 1), "queries"),
    "operators.decoupled_dense": (
        lambda x: sx.operators.decoupled_dense(x, x.T, **FUNCTIONS),
        "inputs",
    ),
    "operators.decoupled_conv": (
        lambda x: sx.operators.decoupled_conv(x, x.T[None], **FUNCTIONS),
        "inputs",
    ),
    "operators.rotary": (lambda x: sx.operators.rotary(x, 0), "x"),
    "losses.margin_softmax": (
        lambda x: sx.losses.margin_softmax(x, x[:3], LABELS, ARC),
        "embeddings",
    ),
    "energy.hyperspherical_energy": (sx.energy.hyperspherical_energy, "points"),
    "distributions.fit": (sx.distributions.fit, "points"),
}


@pytest.mark.parametrize("name", OF_VECTORS)
def test_invalid_vectors(name):
    function, called = OF_VECTORS[name]
    with pytest.raises(TypeError, match=f"{called} must be float16.* float8_e4m3fn; "):
        function(EIGHT_BITS)
    with pytest.raises(ValueError, match=rf"{called} must (have vectors|be \[n, f)"):
        function(NO_FEATURES)


@pytest.mark.parametrize(
    ("function", "called"),
    [
        (lambda x: sx.sphere.normalize(x), "x"),
        (lambda x: sx.losses.ring(X, 1.0, weight=x), "weight"),
        (lambda x: sx.losses.margin_softmax(X, W, LABELS, ARC, scale=x), "scale"),
        (lambda x: sx.losses.ring(X, 1.0, where=x), "where"),
        (lambda x: sx.energy.hyperspherical_energy(X, power=x), "power"),
        (lambda x: sx.margins.ArcFace(margin=x), "ArcFace: margin"),
        (lambda x: sx.operators.Ball(rho=x), "Ball: rho"),
    ],
)
def test_strings(function, called):
    with pytest.raises(TypeError, match=f"{called} must be .*got '1.0'"):
        function("1.0")


@pytest.mark.parametrize(
    "function",
    [
        lambda key: sx.sphere.sample_uniform(key, (3, 4)),
        lambda key: sx.losses.margin_softmax(
            X, W, LABELS, sx.margins.ElasticFace(), key=key
        ),
        lambda key: sx.energy.group_projections(6, 2, key=key),
        lambda key: sx.energy.random_projections(key, 4, p=2, count=3),
        lambda key: sx.orthogonal.random_orthogonal(key, (3, 3)),
    ],
)
def test_numbers_are_not_keys(function):
    with pytest.raises(TypeError, match=r"key must be a random key.*key\(0\), got 0"):
        function(0)
    function(jax.random.key(0))
    function(jax.random.PRNGKey(0))


@pytest.mark.parametrize(
    ("function", "called"),
    [
        (
            lambda n: sx.losses.margin_softmax(X, W, LABELS, ARC, block_size=n),
            "block_size",
        ),
        (
            lambda n: sx.metrics.angular_visual_hardness(X, W, LABELS, block_size=n),
            "block_size",
        ),
        (lambda n: sx.metrics.class_angles(X, LABELS, num_classes=n), "num_classes"),
    ],
)
def test_sizes_are_static(function, called):
    with pytest.raises(TypeError, match=f"{called} .*static_argnames='{called}'"):
        jax.jit(function)(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda where: sx.losses.margin_softmax(X, W, LABELS, ARC, where=where),
        lambda where: sx.losses.ring(X, 1.0, where=where),
        lambda where: sx.metrics.angular_fisher_score(
            X, LABELS, num_classes=3, where=where
        ),
        lambda where: sx.energy.hyperspherical_energy(X, where=where),
    ],
)
def test_negative_weights(function):
    weights = np.array([1.0, -0.5, 1.0, 1.0], np.float32)
    for where in (weights, jnp.asarray(weights)):
        with pytest.raises(ValueError, match=r"where must not be negative, got -0.5"):
            function(where)
    assert jnp.isnan(jax.jit(function)(weights))
