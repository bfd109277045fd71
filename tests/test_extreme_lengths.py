"""Vectors of extreme length, in all functions that depend on directions only.

Scaling by a power of two is exact and keeps directions: values must equal those at
ordinary lengths, and gradients must be the inverse multiples.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx


def integers(seed, *shape):
    """Small integers, which are exact in float16 at every scale below."""
    return np.random.default_rng(seed).integers(-7, 8, shape).astype(np.float32)


X, Y, Z = integers(0, 8, 4), integers(1, 8, 4), integers(2, 8, 4)
IMAGES, KERNEL = integers(3, 2, 6, 3), integers(4, 3, 3, 4)
LABELS = np.arange(8) % 4
SPHERE, TANH = sx.operators.Sphere(), sx.operators.Tanh()
COSINE, LINEAR = sx.operators.Cosine(), sx.operators.LinearAngle()


def conv(function, angular):
    return lambda x, w: sx.operators.decoupled_conv(
        x, w, magnitude=function, angular=angular
    )


def dense(function, angular):
    return lambda x, w: sx.operators.decoupled_dense(
        x, w.T, magnitude=function, angular=angular
    )


# Functions of the directions of two arrays of vectors, and two such arrays.
OF_DIRECTIONS = {
    "sphere.normalize": (lambda x, y: sx.sphere.normalize(x), X, Y),
    "sphere.direction": (lambda x, y: sx.sphere.direction(x), X, Y),
    "sphere.cosine_similarity": (sx.sphere.cosine_similarity, X, Y),
    "sphere.inner_products": (
        lambda x, y: sx.sphere.inner_products(x, y, *map(sx.sphere.length, (x, y))),
        X,
        Y,
    ),
    "sphere.angle": (sx.sphere.angle, X, Y),
    "sphere.project_to_tangent": (
        lambda x, y: sx.sphere.project_to_tangent(x, jnp.asarray(Z, x.dtype)),
        X,
        Y,
    ),
    "sphere.exp_map": (
        lambda x, y: sx.sphere.exp_map(x, jnp.asarray(Z / 8, x.dtype)),
        X,
        Y,
    ),
    "sphere.log_map": (sx.sphere.log_map, X, Y),
    "sphere.retract": (
        lambda x, y: sx.sphere.retract(x, jnp.asarray(Z / 8, x.dtype)),
        X,
        Y,
    ),
    "sphere.parallel_transport": (
        lambda x, y: sx.sphere.parallel_transport(x, y, jnp.asarray(Z, x.dtype)),
        X,
        Y,
    ),
    "operators.decoupled_dense[cosine]": (dense(SPHERE, COSINE), X, Y),
    "operators.decoupled_dense[linear]": (dense(SPHERE, LINEAR), X, Y),
    "operators.decoupled_conv[cosine]": (conv(SPHERE, COSINE), IMAGES, KERNEL),
    "operators.decoupled_conv[linear]": (conv(SPHERE, LINEAR), IMAGES, KERNEL),
    "metrics.angular_visual_hardness": (
        lambda x, y: sx.metrics.angular_visual_hardness(x, y, LABELS),
        X,
        Y,
    ),
    "metrics.angular_fisher_score": (
        lambda x, y: sx.metrics.angular_fisher_score(x, LABELS, num_classes=4),
        X,
        Y,
    ),
    "metrics.class_angles": (
        lambda x, y: sx.metrics.class_angles(x, LABELS, num_classes=4)[1:],
        X,
        Y,
    ),
    "losses.angles_to_dominant": (
        lambda x, y: sx.losses.angles_to_dominant(y.reshape(4, 2, 4), x, LABELS),
        X,
        Y,
    ),
    "losses.margin_softmax": (
        lambda x, y: sx.losses.margin_softmax(x, y, LABELS, sx.margins.ArcFace()),
        X,
        Y,
    ),
    "losses.margin_softmax[blocks]": (
        lambda x, y: sx.losses.margin_softmax(
            x, y, LABELS, sx.margins.ArcFace(), block_size=4
        ),
        X,
        Y,
    ),
    "losses.prototypical_logits": (
        lambda x, y: sx.losses.prototypical_logits(
            x, y, LABELS, num_classes=4, on_sphere=True
        ),
        X,
        Y,
    ),
    "losses.imprint": (lambda x, y: sx.losses.imprint(y[:4], x, LABELS), X, Y),
    "losses.nt_xent": (lambda x, y: sx.losses.nt_xent(x, LABELS), X, Y),
    "distributions.VonMisesFisher": (
        lambda x, y: sx.distributions.VonMisesFisher(y, 2.0).log_prob(x),
        X,
        Y,
    ),
    "distributions.fit": (lambda x, y: sx.distributions.fit(x), X, Y),
}
# Exponents of the scales of both arrays, also one array against the other's extreme.
SCALES = {
    "float32": [(-123, -123), (-60, 60), (100, -100), (122, 122), (122, 0)],
    "bfloat16": [(-123, -123), (122, 122)],
    "float16": [(-24, 0), (0, -24), (-16, -16), (13, 13)],
}
TOLERANCE = {"float32": 2e-5, "bfloat16": 4e-2, "float16": 1e-2}


def value_and_gradients(function):
    def scalar(x, y):
        out = function(x, y)
        return sum(
            jnp.sum(z.astype(jnp.float32) * np.cos(np.arange(z.size)).reshape(z.shape))
            for z in jax.tree.leaves(out)
        ), out

    def both(x, y):
        (_, out), grads = jax.value_and_grad(scalar, (0, 1), has_aux=True)(x, y)
        return out, grads

    return jax.jit(both)


# bfloat16 has the range of float32, and clips its gradients as float16 does: one row of
# each package shows that the two go together.
IN_BFLOAT16 = (
    "sphere.normalize",
    "operators.decoupled_conv[linear]",
    "metrics.class_angles",
    "losses.margin_softmax[blocks]",
)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, dtype) for name in OF_DIRECTIONS for dtype in ("float32", "float16")),
        *((name, "bfloat16") for name in IN_BFLOAT16),
    ],
)
def test_values_and_gradients_scale_with_the_vectors(name, dtype):
    dtype = jnp.dtype(dtype)
    function, *arrays = OF_DIRECTIONS[name]
    run = value_and_gradients(function)
    tolerance = TOLERANCE[dtype.name]
    value, gradients = run(*(jnp.asarray(a, dtype) for a in arrays))
    largest = float(jnp.finfo(dtype).max)
    for powers in SCALES[dtype.name]:
        scaled = [
            jnp.asarray(a.astype(np.float64) * 2.0**p, dtype)
            for a, p in zip(arrays, powers, strict=True)
        ]
        found, scaled_gradients = run(*scaled)
        for a, b in zip(*map(jax.tree.leaves, (found, value)), strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        for gradient, ordinary, power in zip(
            scaled_gradients, gradients, powers, strict=True
        ):
            exact = np.asarray(ordinary, np.float64) * 2.0**-power
            expected = np.clip(exact, -largest, largest)
            # Below the smallest normal number there are no digits.
            noise = 4 * tolerance * np.abs(exact).max()
            noise += 32.0 * float(jnp.finfo(dtype).tiny)
            difference = np.abs(np.asarray(gradient, np.float64) - expected)
            is_clipped = np.abs(expected) + noise >= largest
            assert np.all(np.isfinite(difference)), powers
            assert np.all((difference <= noise) | is_clipped), (powers, gradient, exact)


@pytest.mark.parametrize("dtype", SCALES)
def test_lengths_scale_with_the_vectors(dtype):
    """Lengths are multiplied by the scale, and their gradients stay as they are."""
    run = value_and_gradients(lambda x, y: sx.sphere.length(x))
    exact = np.linalg.norm(X.astype(np.float64), axis=-1)
    _, (gradient, _) = run(jnp.asarray(X, dtype), Y)
    for power, _ in SCALES[dtype]:
        scaled = jnp.asarray(X.astype(np.float64) * 2.0**power, dtype)
        value, (found, _) = run(scaled, Y)
        np.testing.assert_allclose(value, exact * 2.0**power, rtol=1e-6)
        np.testing.assert_array_equal(found, gradient)


@pytest.mark.parametrize("scale", [0.0, 2.0**-120, 1.0, 2.0**120])
def test_constants_of_a_program(scale):
    """The compiler evaluates them, and might do so in another order."""
    x = jnp.concatenate([scale * X, 0.0 * X[:1]])
    expected = sx.sphere.normalize(x), sx.sphere.cosine_similarity(x, x)
    found = jax.jit(
        lambda: (sx.sphere.normalize(x), sx.sphere.cosine_similarity(x, x))
    )()
    assert np.all(np.isfinite(expected[0]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected
    )


def test_infinite_vectors_are_loud():
    x = jnp.array([[jnp.inf, 1.0], [3.0, 4.0]])
    assert np.all(np.isnan(sx.sphere.normalize(x)[0]))
    assert np.isnan(sx.sphere.angle(x[0], x[1]))
    assert np.all(np.isnan(sx.sphere.cosine_similarity(x, x)[0]))
    np.testing.assert_allclose(sx.sphere.normalize(x)[1], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_many_vectors_are_as_accurate_as_few(scale):
    """Arrays of this size take another branch in the computation of lengths."""
    x = np.random.default_rng(0).normal(size=(2, 64))
    w = np.random.default_rng(1).normal(size=(2**16 + 1, 64))
    w[7] *= scale
    cosines = sx.sphere.cosine_similarity(x.astype("f4"), w.astype("f4"))
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1)
    np.testing.assert_allclose(cosines, x @ w.T / lengths, atol=1e-6)
