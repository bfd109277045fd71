"""Polar factor: any shape, any rank, and what it maximizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.orthogonal.definitions import draw, gram_schmidt, lowdin

polar_factor = jax.jit(sx.orthogonal.polar_factor, static_argnames="tolerance")


@pytest.mark.parametrize("shape", [(2, 7, 4), (4, 7), (5, 5), (1, 3)])
@pytest.mark.usefixtures("x64")
def test_it_is_that_of_the_svd(shape):
    a = draw(0, *shape)
    u, _, v = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose(polar_factor(a), u @ v, rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_its_gradient_is_that_of_finite_differences():
    a, w = draw(1, 4, 3), draw(2, 4, 3)
    gradient = jax.grad(lambda a: jnp.vdot(w, polar_factor(a)))(a)
    expected = reference.numerical_gradient(lambda a: np.vdot(w, lowdin(a)), a)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_singular_values_from_the_tolerance_on_become_one():
    n = 32
    left, right = gram_schmidt(draw(3, n, n)), gram_schmidt(draw(4, n, n))

    def found(values, **options):
        a = jnp.float32((left * values) @ right.T)
        return np.asarray(polar_factor(a, **options), np.float64)

    exact = left @ right.T
    # Of every singular value, wherever it is: none becomes small on the way.
    np.testing.assert_allclose(found(np.linspace(0.1, 1.0, n)), exact, atol=1e-6)
    spectrum = np.geomspace(7.0, 7.0 * 4e-4, n)
    np.testing.assert_allclose(found(spectrum), exact, atol=5e-6)
    spectrum = np.geomspace(1.0, 1.1e-6, n)
    q = found(spectrum, tolerance=1e-6)
    np.testing.assert_allclose(q.T @ q, np.eye(n), atol=2e-6)
    # Zero stays zero, but for rounding over the tolerance.
    q = found(np.arange(n) < 3.0, tolerance=1e-2)
    rounding = 4.0 * float(jnp.finfo(jnp.float32).eps) / 1e-2
    np.testing.assert_allclose(q, left[:, :3] @ right[:, :3].T, atol=rounding)


def test_zero_and_the_ends_of_the_range():
    for size in (1e38, 1e-36):
        q = polar_factor(jnp.full((2, 3), size))
        np.testing.assert_allclose(q, np.full((2, 3), 6**-0.5), rtol=1e-6)
    zero = jnp.zeros((2, 3))
    np.testing.assert_array_equal(polar_factor(zero), zero)
    slope = jax.grad(lambda a: jnp.sum(polar_factor(a)))(zero)
    np.testing.assert_array_equal(slope, zero)
    assert polar_factor(jnp.zeros((4, 0, 3))).shape == (4, 0, 3)


WRONG = [
    ((jnp.ones(3),), {}, ValueError, r"a must be \[..., m, n\], got shape \(3,\)"),
    ((jnp.ones((3, 3), int),), {}, TypeError, "a must be floating"),
    ((jnp.eye(3),), {"tolerance": 1.0}, ValueError, "tolerance must lie in .0, 1., g"),
    ((jnp.eye(3),), {"tolerance": "1"}, TypeError, "tolerance must be a number.*'1'"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "match"), WRONG)
def test_errors_teach(arguments, options, error, match):
    with pytest.raises(error, match=match):
        sx.orthogonal.polar_factor(*arguments, **options)
