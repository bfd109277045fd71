"""Moves over the orthogonal group and over frames."""

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
    q = frame(6, 3)
    u = np.asarray(so.project_to_tangent(q, draw(4, 6, 3)))
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
