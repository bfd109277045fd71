"""Retractions, tangents and generators of the orthogonal group and of frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

so = sx.orthogonal
ORDERS = {so.qr_retraction: 1, so.polar_retraction: 2, so.cayley_retraction: 2}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def frame(m, n):
    return np.linalg.qr(draw(0, m, n))[0]


@pytest.mark.parametrize("shape", [(4, 4), (6, 3)])
@pytest.mark.usefixtures("x64")
def test_tangents_are_projections(shape):
    q, x = frame(*shape), draw(1, *shape)
    u = np.asarray(so.project_to_tangent(q, x))
    np.testing.assert_allclose(q.T @ u, -u.T @ q, atol=1e-12)
    np.testing.assert_allclose(so.project_to_tangent(q, u), u, atol=1e-12)
    # What was taken away is orthogonal to every tangent.
    other = np.asarray(so.project_to_tangent(q, draw(2, *shape)))
    np.testing.assert_allclose(np.vdot(x - u, other), 0.0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_generators_are_skew_and_give_the_tangent_part():
    q, x = frame(6, 3), draw(1, 6, 3)
    w = np.asarray(so.tangent_generator(q, x))
    np.testing.assert_array_equal(w, -w.T)
    np.testing.assert_allclose(w @ q, so.project_to_tangent(q, x), atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 3), (7, 3), (9, 1)])
@pytest.mark.usefixtures("x64")
def test_cayley_retraction_is_that_of_the_definition(shape):
    """For m <= 2 n by the inverse of an m x m matrix, else by that of a smaller one."""
    q, x, eye = frame(*shape), draw(1, *shape), np.eye(shape[0])
    half = (x - q @ (q.T @ x) / 2) @ q.T
    w = half - half.T
    expected = np.linalg.inv(eye - w / 2) @ (eye + w / 2) @ q
    np.testing.assert_allclose(so.cayley_retraction(q, x), expected, atol=1e-12)


def test_cayley_retraction_of_tall_frames_makes_no_large_matrix():
    aval = jax.ShapeDtypeStruct((500, 2), jnp.float32)
    step = jax.grad(lambda q, u: so.cayley_retraction(q, u).sum(), argnums=(0, 1))
    assert "500,500" not in str(jax.make_jaxpr(step)(aval, aval))


@pytest.mark.parametrize("size", [1e-30, 1e3, 1e30])
def test_cayley_retraction_of_tall_frames_at_every_step_size(size):
    q, u = frame(9, 3).astype(np.float32), (size * draw(5, 9, 3)).astype(np.float32)
    new, slope = jax.jit(
        lambda u: (
            so.cayley_retraction(q, u),
            jax.grad(lambda u: so.cayley_retraction(q, u)[0, 0])(u),
        )
    )(u)
    np.testing.assert_allclose(new.T @ new, np.eye(3), atol=1e-5)
    assert np.all(np.isfinite(slope))


def test_retractions_are_those_of_their_maps():
    """So what holds of the maps at singular points holds of the retractions."""
    q, u = frame(6, 3).astype(np.float32), draw(5, 6, 3).astype(np.float32)
    for retraction, function in (
        (so.polar_retraction, so.lowdin),
        (so.qr_retraction, so.gram_schmidt),
    ):
        np.testing.assert_array_equal(retraction(q, u), function(q + u))


@pytest.mark.parametrize("retraction", ORDERS)
@pytest.mark.usefixtures("x64")
def test_retractions_agree_with_the_geodesic_to_their_order(retraction):
    q, move = frame(4, 4), jax.jit(retraction)
    s = draw(3, 4, 4)
    s = s - s.T
    angles, vectors = np.linalg.eigh(-1j * s)

    def gap(t):
        turn = np.real((vectors * np.exp(1j * t * angles)) @ vectors.conj().T)
        new = np.asarray(move(q, t * q @ s))
        np.testing.assert_allclose(new.T @ new, np.eye(4), atol=1e-12)
        return np.linalg.norm(new - q @ turn)

    order = np.log2(gap(0.02) / gap(0.01))
    assert abs(order - ORDERS[retraction] - 1) < 0.2


@pytest.mark.parametrize("retraction", ORDERS)
@pytest.mark.usefixtures("x64")
def test_retractions_of_frames(retraction):
    q = frame(7, 3)
    u = np.asarray(so.project_to_tangent(q, draw(4, 7, 3)))
    new, speed = jax.jit(
        lambda t: jax.jvp(lambda t: retraction(q, t * u), (t,), (1.0,))
    )(0.0)
    np.testing.assert_allclose(new, q, atol=1e-12)
    np.testing.assert_allclose(speed, u, atol=1e-10)
    far = np.asarray(retraction(q, 10 * u))
    np.testing.assert_allclose(far.T @ far, np.eye(3), atol=1e-12)


def test_errors_teach():
    with pytest.raises(ValueError, match=r"tangent must have the shape of q, \(3, 2\)"):
        so.cayley_retraction(jnp.eye(3, 2), jnp.ones((2, 2)))
    with pytest.raises(TypeError, match="x must be floating"):
        so.project_to_tangent(jnp.eye(2), jnp.eye(2, dtype=int))
