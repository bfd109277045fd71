"""Geometry: values, gradients at and near the singular points, errors."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

import sphax as sx
from tests import reference

DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32]
TOLERANCE = {jnp.float16: 1e-3, jnp.bfloat16: 1e-2, jnp.float32: 1e-6}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_normalize(dtype, batch):
    x = jnp.asarray(draw(0, *batch, 5), dtype)
    unit = sx.sphere.normalize(x)
    assert unit.shape == x.shape
    assert unit.dtype == dtype
    expected = reference.directions(np.asarray(x, np.float64))
    np.testing.assert_allclose(
        np.asarray(unit, np.float64), expected, atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_similarity(dtype):
    x, w = jnp.asarray(draw(0, 2, 3, 5), dtype), jnp.asarray(draw(1, 4, 5), dtype)
    cosines = sx.sphere.cosine_similarity(x, w)
    assert cosines.dtype == dtype
    expected = np.cos(
        reference.angles(
            np.asarray(x, np.float64).reshape(6, 5), np.asarray(w, np.float64)
        )
    )
    np.testing.assert_allclose(
        np.asarray(cosines, np.float64).reshape(6, 4), expected, atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("theta", [0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("from_pi", [False, True])
def test_angle_keeps_its_digits(theta, from_pi):
    x = jnp.array([3.0, 0.0, 0.0])
    y = jnp.array([math.cos(theta), math.sin(theta), 0.0]) * (-2.0 if from_pi else 2.0)
    exact = mpmath.atan2(mpmath.mpf(float(y[1])), mpmath.mpf(float(y[0])))
    np.testing.assert_allclose(
        float(sx.sphere.angle(x, y)), abs(float(exact)), rtol=3e-7
    )
    # The tangent at x is an axis: the gradient is exact however small the angle.
    gradient = np.asarray(jax.grad(sx.sphere.angle)(x, y))
    expected = [0.0, -math.copysign(1 / 3, float(y[1])) if theta else 0.0, 0.0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_zero_vectors_are_at_a_right_angle_without_gradient():
    x, zero = jnp.array([1.0, 2.0]), jnp.zeros(2)
    for pair in [(x, zero), (zero, x), (zero, zero)]:
        assert float(sx.sphere.angle(*pair)) == pytest.approx(math.pi / 2)
        for gradient in jax.grad(sx.sphere.angle, (0, 1))(*pair):
            assert np.all(np.asarray(gradient) == 0)
    jacobian = jax.jacrev(sx.sphere.normalize)(zero)
    assert np.all(np.asarray(jacobian) == 0)
    for argument in (0, 1):
        gradient = jax.grad(lambda *a: sx.sphere.cosine_similarity(*a).sum(), argument)
        assert np.all(np.asarray(gradient(zero[None], zero[None])) == 0)


def test_nan_is_not_taken_for_zero():
    x = jnp.array([jnp.nan, 1.0])
    assert np.isnan(np.asarray(sx.sphere.normalize(x))).all()
    assert np.isnan(float(sx.sphere.angle(x, jnp.ones(2))))


@pytest.mark.usefixtures("x64")
def test_derivatives_against_finite_differences():
    x, y, w = (jnp.asarray(draw(i, *s)) for i, s in enumerate([(3, 4), (3, 4), (5, 4)]))
    check_grads(jax.jit(sx.sphere.normalize), (x,), order=2)
    check_grads(jax.jit(sx.sphere.angle), (x, y), order=2)
    check_grads(jax.jit(sx.sphere.cosine_similarity), (x, w), order=2)
    check_grads(jax.jit(sx.sphere.log_map), (x, y), order=2)
    check_grads(jax.jit(sx.sphere.exp_map), (x, y), order=2)
    check_grads(jax.jit(sx.sphere.retract), (x, y), order=1)
    check_grads(jax.jit(sx.sphere.parallel_transport), (x, y, y), order=1)


@pytest.mark.usefixtures("x64")
def test_geodesics_fit_together():
    p = sx.sphere.normalize(jnp.asarray(draw(0, 6, 5)))
    q = sx.sphere.normalize(jnp.asarray(draw(1, 6, 5)))
    velocity = sx.sphere.log_map(p, q)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    close(sx.sphere.exp_map(p, velocity), q)
    close(np.linalg.norm(velocity, axis=1), sx.sphere.angle(p, q))
    close(np.sum(velocity * p, 1), np.zeros(6))
    # The velocity carried to the end is the one of the way back, reversed.
    carried = sx.sphere.parallel_transport(p, q, velocity)
    close(carried, -sx.sphere.log_map(q, p))
    # A tangent across the geodesic keeps its direction.
    across = sx.sphere.project_to_tangent(p, jnp.asarray(draw(2, 6, 5)))
    across = across - jnp.sum(across * velocity, 1, keepdims=True) * velocity / jnp.sum(
        velocity**2, 1, keepdims=True
    )
    close(sx.sphere.parallel_transport(p, q, across), across)
    step = 1e-4 * across
    difference = sx.sphere.retract(p, step) - sx.sphere.exp_map(p, step)
    assert float(jnp.abs(difference).max()) < 1e-11


def test_log_map_at_its_ends():
    p = jnp.array([0.6, 0.8, 0.0])
    assert np.all(np.asarray(sx.sphere.log_map(p, p)) == 0)
    assert np.all(np.asarray(sx.sphere.log_map(p, -p)) == 0)
    # There, it moves with its argument, and only along the sphere.
    jacobian = jax.jacfwd(sx.sphere.log_map, 1)(p, p)
    np.testing.assert_allclose(jacobian, jnp.eye(3) - jnp.outer(p, p), atol=1e-6)


def test_sample_uniform_has_the_moments_of_the_sphere(key):
    points = np.asarray(sx.sphere.sample_uniform(key, (20_000, 4)))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(points.mean(0), np.zeros(4), atol=0.02)
    np.testing.assert_allclose(
        points.T @ points / len(points), np.eye(4) / 4, atol=0.01
    )
    assert sx.sphere.sample_uniform(key, (2, 3), jnp.bfloat16).dtype == jnp.bfloat16


def test_transformations_agree():
    x, w = (
        jnp.asarray(draw(0, 3, 5), jnp.float32),
        jnp.asarray(draw(1, 3, 5), jnp.float32),
    )
    by_rows = jnp.stack([sx.sphere.angle(a, b) for a, b in zip(x, w, strict=True)])
    np.testing.assert_allclose(jax.vmap(sx.sphere.angle)(x, w), by_rows, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(sx.sphere.angle)(x, w), by_rows, rtol=1e-6)
    with jax.numpy_dtype_promotion("strict"):
        sx.sphere.angle(x, w)
        sx.sphere.cosine_similarity(x, w)
        sx.sphere.log_map(x, w)


def test_errors_teach():
    x = jnp.ones((2, 3))
    with pytest.raises(TypeError, match="x must be floating, got dtype int32"):
        sx.sphere.normalize(jnp.ones(3, jnp.int32))
    with pytest.raises(ValueError, match=r"x and y must .* got x \(2, 3\), y \(2, 4\)"):
        sx.sphere.angle(x, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"start and end and tangent must .*\(3, 3\)"):
        sx.sphere.parallel_transport(x, x, jnp.ones((3, 3)))
    with pytest.raises(ValueError, match=r"x must have vectors .* got x \(\)"):
        sx.sphere.normalize(jnp.ones(()))
    with pytest.raises(TypeError, match="w must have the dtype of x"):
        sx.sphere.cosine_similarity(x, x.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"w must be \[n, d\].*\(2, 4\)"):
        sx.sphere.cosine_similarity(x, jnp.ones((2, 4)))
