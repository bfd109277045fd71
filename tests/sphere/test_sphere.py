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


def cosines(x, w):
    return reference.directions(x) @ reference.directions(w).T


# Functions of vectors [2, 3, 5] and rows [4, 5], their definitions in NumPy, and
# whether the result is in float32 at least, rather than in the dtype of the vectors.
DEFINITIONS = {
    "normalize": (
        lambda x, w: sx.sphere.normalize(x),
        lambda x, w: reference.directions(x),
        False,
    ),
    "direction": (
        lambda x, w: sx.sphere.direction(x),
        lambda x, w: reference.directions(x),
        True,
    ),
    "length": (
        lambda x, w: sx.sphere.length(x),
        lambda x, w: np.linalg.norm(x, axis=-1),
        True,
    ),
    "inverse_stereographic": (
        lambda x, w: sx.sphere.inverse_stereographic(x),
        lambda x, w: (
            np.concatenate([2 * x, np.sum(x * x, -1, keepdims=True) - 1], axis=-1)
            / (np.sum(x * x, -1, keepdims=True) + 1)
        ),
        False,
    ),
    "angle_to_north_pole": (
        lambda x, w: sx.sphere.angle_to_north_pole(x),
        lambda x, w: np.pi - 2 * np.arctan(np.linalg.norm(x, axis=-1)),
        True,
    ),
    "cosine_similarity": (sx.sphere.cosine_similarity, cosines, False),
    "inner_products": (sx.sphere.inner_products, lambda x, w: x @ w.T, True),
    "inner_products[x]": (
        lambda x, w: sx.sphere.inner_products(x, w, sx.sphere.length(x)),
        lambda x, w: reference.directions(x) @ w.T,
        True,
    ),
    "inner_products[w]": (
        lambda x, w: sx.sphere.inner_products(x, w, None, sx.sphere.length(w)),
        lambda x, w: x @ reference.directions(w).T,
        True,
    ),
    "inner_products[x, w]": (
        lambda x, w: sx.sphere.inner_products(x, w, *map(sx.sphere.length, (x, w))),
        cosines,
        True,
    ),
    # Away from the ends, where the gradient is zero by definition.
    "arcsin": (
        lambda x, w: sx.sphere.arcsin(0.2 * x),
        lambda x, w: np.arcsin(np.clip(0.2 * x, -1, 1)),
        False,
    ),
    "angle": (
        lambda x, w: sx.sphere.angle(x[..., None, :], w),
        lambda x, w: np.arccos(cosines(x, w)),
        True,
    ),
}


def weights_of(values):
    """Different ones, so that the gradient of a weighted sum is that of each value."""
    return np.cos(np.arange(np.size(values))).reshape(np.shape(values))


@jax.jit
def every_value_and_gradient(x, w):
    """Values of every function, and the gradients of their weighted sums."""

    def sums(x, w):
        values = {name: call(x, w) for name, (call, *_) in DEFINITIONS.items()}
        totals = {
            name: jnp.sum(value.astype(jnp.float32) * weights_of(value))
            for name, value in values.items()
        }
        return totals, values

    _, pull_back, values = jax.vjp(sums, x, w, has_aux=True)
    one_hot = jnp.eye(len(DEFINITIONS), dtype=jnp.float32)
    names = list(DEFINITIONS)
    return values, jax.vmap(
        lambda row: pull_back({name: row[i] for i, name in enumerate(names)})
    )(one_hot)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_are_those_of_the_definition(dtype):
    x, w = (jnp.asarray(draw(i, *s), dtype) for i, s in enumerate([(2, 3, 5), (4, 5)]))
    values, gradients = every_value_and_gradient(x, w)
    exact = [np.asarray(v, np.float64) for v in (x, w)]
    for i, (name, (_, definition, is_wide)) in enumerate(DEFINITIONS.items()):
        found, expected = values[name], definition(*exact)
        assert found.shape == expected.shape, name
        assert found.dtype == (jnp.float32 if is_wide else dtype), name
        # Wide results have the rounding of float32, at lengths of up to 4.
        tolerance = 4e-6 if is_wide else TOLERANCE[dtype]
        np.testing.assert_allclose(
            np.asarray(found, np.float64), expected, atol=tolerance, err_msg=name
        )
        for gradient, slope in zip(
            (gradients[0][i], gradients[1][i]), slopes(definition, *exact), strict=True
        ):
            assert gradient.dtype == dtype, name
            tolerance = 4 * TOLERANCE[dtype] * max(1.0, np.abs(slope).max())
            np.testing.assert_allclose(
                np.asarray(gradient, np.float64), slope, atol=tolerance, err_msg=name
            )


def slopes(definition, x, w):
    """Gradients of the weighted sum of the definition, numerically."""

    def total(x, w):
        values = definition(x, w)
        return np.sum(weights_of(values) * values)

    return (
        reference.numerical_gradient(lambda v: total(v, w), x),
        reference.numerical_gradient(lambda v: total(x, v), w),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_rows(dtype):
    """A row of zeros has the value of the definition, and no gradient through it."""
    x, w = (jnp.asarray(draw(i, *s), dtype) for i, s in enumerate([(2, 3, 5), (4, 5)]))
    values, gradients = every_value_and_gradient(x.at[0, 1].set(0), w.at[2].set(0))
    for i, name in enumerate(DEFINITIONS):
        value = np.asarray(values[name], np.float64)
        at_zero = math.pi / 2 if name == "angle" else 0.0
        if name in ("inverse_stereographic", "angle_to_north_pole"):
            continue  # zero is the south pole, which has a test of its own
        np.testing.assert_allclose(value[0, 1], at_zero, rtol=1e-6, err_msg=name)
        if value.shape[-1] == len(w):
            np.testing.assert_allclose(value[..., 2], at_zero, rtol=1e-6, err_msg=name)
        of_x, of_w = gradients[0][i], gradients[1][i]
        assert np.all(np.isfinite(of_x)), name
        assert np.all(np.isfinite(of_w)), name
        # The gradient of vectors whose direction counts.
        if name not in ("arcsin", "inner_products", "inner_products[w]"):
            assert np.all(of_x[0, 1] == 0), name
        if name not in ("inner_products", "inner_products[x]"):
            assert np.all(of_w[2] == 0), name


def test_arcsin_at_its_ends():
    inside = 1.0 - 1e-3
    x = jnp.array([-1.0, 1.0, 1.01, -1.01, inside])
    values, slopes = jax.vmap(jax.value_and_grad(sx.sphere.arcsin))(x)
    right = math.pi / 2
    np.testing.assert_allclose(values[:4], [-right, right, right, -right], rtol=1e-7)
    np.testing.assert_array_equal(slopes[:4], np.zeros(4))
    np.testing.assert_allclose(slopes[4], 1 / math.sqrt(1 - inside**2), rtol=1e-4)
    # Without a floor, and with one above the squared sine.
    steep = jnp.float32(1.0 - 2.0**-23)
    assert jax.grad(sx.sphere.arcsin)(steep, 0.0) > 1e3
    assert jax.grad(sx.sphere.arcsin)(x[4], 1e-2) == 0.0


angle_and_gradient = jax.jit(jax.value_and_grad(sx.sphere.angle))


@pytest.mark.parametrize("theta", [0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("from_pi", [False, True])
def test_angle_keeps_its_digits(theta, from_pi):
    x = jnp.array([3.0, 0.0, 0.0])
    y = jnp.array([math.cos(theta), math.sin(theta), 0.0]) * (-2.0 if from_pi else 2.0)
    exact = mpmath.atan2(mpmath.mpf(float(y[1])), mpmath.mpf(float(y[0])))
    value, gradient = angle_and_gradient(x, y)
    np.testing.assert_allclose(float(value), abs(float(exact)), rtol=3e-7)
    # The tangent at x is an axis: the gradient is exact however small the angle.
    expected = [0.0, -math.copysign(1 / 3, float(y[1])) if theta else 0.0, 0.0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_angles_between_zero_vectors():
    x, zero = jnp.array([1.0, 2.0]), jnp.zeros(2)
    function = jax.jit(jax.value_and_grad(sx.sphere.angle, (0, 1)))
    for pair in [(x, zero), (zero, x), (zero, zero)]:
        value, gradients = function(*pair)
        assert float(value) == pytest.approx(math.pi / 2)
        assert all(np.all(np.asarray(gradient) == 0) for gradient in gradients)


def test_nan_is_not_taken_for_zero():
    x = jnp.array([jnp.nan, 1.0])
    assert np.isnan(float(sx.sphere.length(x)))
    assert np.isnan(float(sx.sphere.arcsin(x)[0]))
    assert np.isnan(np.asarray(sx.sphere.normalize(x))).all()
    assert np.isnan(float(sx.sphere.angle(x, jnp.ones(2))))


@pytest.mark.usefixtures("x64")
def test_derivatives_against_finite_differences():
    """Forward and reverse, and once more; one program for all functions."""
    x, y, w = (jnp.asarray(draw(i, *s)) for i, s in enumerate([(3, 4), (3, 4), (5, 4)]))

    @jax.jit
    def every(x, y, w):
        lengths = sx.sphere.length(x), sx.sphere.length(w)
        return (
            *lengths,
            sx.sphere.normalize(x),
            sx.sphere.angle(x, y),
            sx.sphere.cosine_similarity(x, w),
            sx.sphere.inner_products(x, w, None, lengths[1]),
            sx.sphere.arcsin(0.2 * x),
            sx.sphere.log_map(x, y),
            sx.sphere.exp_map(x, y),
            sx.sphere.retract(x, y),
            sx.sphere.parallel_transport(x, y, y),
        )

    check_grads(every, (x, y, w), order=2)


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


@pytest.mark.parametrize(("n", "d"), [(11_000, 3), (8_000, 9), (1_000, 33)])
def test_many_vectors_are_projected_at_one_point(n, d):
    """Sizes at which jaxlib 0.10.2 computed other sums on CPUs (jax issue 39103)."""
    rng = np.random.default_rng(0)
    p, v = rng.normal(size=d), rng.normal(size=(n, d))
    unit = p / np.linalg.norm(p)
    with jax.numpy_rank_promotion("allow"):
        project = jax.jit(sx.sphere.project_to_tangent)
        found = project(p.astype(np.float32), v.astype(np.float32))
    expected = v - (v @ unit)[:, None] * unit
    np.testing.assert_allclose(found, expected, atol=5e-6)


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
    with pytest.raises(ValueError, match=r"x must have vectors .* got shape \(\)"):
        sx.sphere.length(jnp.ones(()))
    with pytest.raises(TypeError, match="w must have the dtype of x"):
        sx.sphere.cosine_similarity(x, x.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"w must be \[n, d\].*\(2, 4\)"):
        sx.sphere.cosine_similarity(x, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"w must be \[n, d\].*\(2, 4\)"):
        sx.sphere.inner_products(x, jnp.ones((2, 4)))
    with pytest.raises(TypeError, match="x must be floating"):
        sx.sphere.inner_products(jnp.ones((2, 3), int), x)
    with pytest.raises(
        ValueError, match=r"w_lengths must be \(2,\), .*got shape \(3,\)"
    ):
        sx.sphere.inner_products(x, x, None, jnp.ones(3))
    with pytest.raises(TypeError, match="cosines must be floating, got dtype int32"):
        sx.sphere.arcsin(jnp.ones(3, jnp.int32))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0, 1e3, 1e10, 1e30, 1e38])
def test_the_sphere_above_the_plane_at_all_lengths(scale):
    """Against 60 digits: the point, the angle to the pole, and the angle's gradient."""
    q = np.array([0.6, -0.8], np.float32) * np.float32(scale)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(x)) for x in q]
        square = sum(x**2 for x in exact)
        r = mpmath.sqrt(square)
        point = [float(2 * x / (square + 1)) for x in exact]
        point.append(float((square - 1) / (square + 1)))
        angle = float(2 * mpmath.acot(r)) if r else np.pi
        slope = [float(-2 * x / r / (1 + square)) if r else 0.0 for x in exact]
    found = sx.sphere.inverse_stereographic(q)
    # On the equator, the last coordinate is a rounding error.
    noise = 1e-7 if scale == 1.0 else 1e-37
    np.testing.assert_allclose(found, point, rtol=1e-6, atol=noise)
    value, gradient = jax.value_and_grad(sx.sphere.angle_to_north_pole)(q)
    np.testing.assert_allclose(value, angle, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(gradient, slope, rtol=2e-6, atol=1e-37)
    jacobian = jax.jacobian(sx.sphere.inverse_stereographic)(q)
    assert np.all(np.isfinite(jacobian))
    if scale <= 1e-3:  # above the south pole, the plane is twice as large
        np.testing.assert_allclose(jacobian[:2], 2.0 * np.eye(2), atol=1e-5)
