"""GA-softmax: the definition, its continuation, and what it contains."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

so, sm = sx.operators, sx.margins


def staircase(g, phi):
    """A function of [0, pi], continued by as many copies as are needed."""
    turns = np.floor(phi / np.pi)
    return g(phi - np.pi * turns) - 2 * turns


def paper_sigmoid(theta, k=0.3):
    q = np.pi / (2 * k)
    left = (1 + np.exp(-q)) / (1 - np.exp(-q))
    return left * (1 - np.exp(theta / k - q)) / (1 + np.exp(theta / k - q))


ANGULARS = {
    "linear": (so.LinearAngle(), lambda a: 1 - 2 * a / np.pi, None),
    "cosine": (so.Cosine(), np.cos, np.cos),
    "sigmoid": (so.Sigmoid(k=0.3), paper_sigmoid, None),
    "square": (so.SquareCosine(), *2 * (lambda a: np.cos(a) * np.abs(np.cos(a)),)),
}


def make(name, m):
    """The margin, its psi and its eta in NumPy."""
    angular, g, repeated = ANGULARS[name]

    def psi(angle):
        return g(m * angle) if repeated is None else staircase(g, m * angle)

    return sm.GeneralizedAngular(m=m, angular=angular), psi, g


@pytest.mark.parametrize("m", [1, 1.6, 4])
@pytest.mark.parametrize("name", ANGULARS)
@pytest.mark.usefixtures("x64")
def test_psi_and_eta(name, m):
    margin, psi, eta = make(name, m)
    angles = np.linspace(0, np.pi, 1001)
    np.testing.assert_allclose(margin(jnp.asarray(angles)), psi(angles), atol=1e-12)
    cosines = jnp.asarray(np.cos(angles))[None]
    np.testing.assert_allclose(
        margin.negatives(cosines, jnp.array([0.3]))[0], eta(angles), atol=1e-7
    )
    # Falls all the way, by no more than its steepest: no jump where copies meet.
    steps = np.diff(margin(jnp.asarray(angles)))
    assert np.all(steps <= 1e-12)
    assert np.all(steps >= -m * np.diff(angles) * 1.8)
    if m > 1:
        assert np.all(psi(angles[1:]) < eta(angles[1:]) + 1e-2)
    slopes = jax.vmap(jax.grad(margin))(jnp.asarray(angles[1:-1:7] + 1e-4))
    at = angles[1:-1:7] + 1e-4
    numerical = (psi(at + 1e-6) - psi(at - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes, numerical, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "normalize"),
    [*((name, "prototypes") for name in ANGULARS), ("linear", "both")],
)
@pytest.mark.usefixtures("x64")
def test_loss_and_gradients_are_those_of_the_definition(name, normalize):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(5, 4)), rng.normal(size=(6, 4))
    labels = rng.integers(0, 6, 5)
    margin, psi, eta = make(name, 3)
    scale = dict(scale=8.0) if normalize == "both" else {}
    loss = partial(
        sx.losses.margin_softmax, margin=margin, normalize=normalize, **scale
    )
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, w, labels)

    def definition(x, w):
        return reference.margin_softmax(
            x, w, labels, psi, eta, scale=8.0, normalize=normalize
        ).mean()

    np.testing.assert_allclose(value, definition(x, w), rtol=1e-11)
    numerical = reference.numerical_gradient(lambda x: definition(x, w), x)
    np.testing.assert_allclose(gradients[0], numerical, rtol=1e-6, atol=1e-8)
    numerical = reference.numerical_gradient(lambda w: definition(x, w), w)
    np.testing.assert_allclose(gradients[1], numerical, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_containments():
    angles = jnp.linspace(0, jnp.pi, 401)
    for m in (1, 2, 3.5, 4):
        cosine = sm.GeneralizedAngular(m=m, angular=so.Cosine())
        # Real m too: SphereFace's last piece is cut off where the copies meet.
        np.testing.assert_allclose(
            cosine(angles), sm.SphereFace(m=m)(angles), atol=1e-9
        )
        assert not cosine.modifies_negatives
    # Li-ArcFace adds where this multiplies, on the same function.
    linear = sm.GeneralizedAngular(m=1, angular=so.LinearAngle())
    other = sm.LiArcFace(margin=0.0)
    np.testing.assert_allclose(linear(angles), other(angles), atol=1e-12)
    cosines = jnp.cos(angles)[None]
    np.testing.assert_allclose(
        linear.negatives(cosines, angles[:1]),
        other.negatives(cosines, angles[:1]),
        atol=1e-7,
    )
    assert linear.modifies_negatives


def test_leaves():
    margin = sm.GeneralizedAngular(m=3, angular=so.Sigmoid(k=0.4))
    assert jax.tree.leaves(margin) == [3.0, 0.4]
    jax.tree.map(lambda _: object(), margin)
    each = sm.GeneralizedAngular(
        m=jnp.array([1.0, 2.0]), angular=so.Sigmoid(k=jnp.array([0.2, 0.4]))
    )
    angles, cosines = (
        jnp.array([0.7, 0.9]),
        jnp.array([[0.1, 0.5, 1.0], [0.2, -1.0, 0]]),
    )
    for i, (m, k) in enumerate([(1.0, 0.2), (2.0, 0.4)]):
        own = sm.GeneralizedAngular(m=m, angular=so.Sigmoid(k=k))
        np.testing.assert_allclose(each(angles)[i], own(angles)[i], rtol=1e-6)
        others = own.negatives(cosines, angles)[i]
        np.testing.assert_allclose(
            each.negatives(cosines, angles)[i], others, rtol=1e-6
        )


def test_gradients_are_finite_at_the_ends():
    for angular, *_ in ANGULARS.values():
        margin = sm.GeneralizedAngular(m=4, angular=angular)
        slopes = jax.vmap(jax.grad(margin))(jnp.array([0.0, jnp.pi / 4, jnp.pi]))
        cosines = jnp.array([[1.0, -1.0, 0.0, 1.0 + 1e-6]])
        others = jax.grad(lambda c, m=margin: m.negatives(c, jnp.ones(1)).sum())(
            cosines
        )
        assert np.isfinite(slopes).all()
        assert np.isfinite(others).all()


def test_errors_teach():
    with pytest.raises(ValueError, match=r"GeneralizedAngular: m must lie in \[1, inf"):
        sm.GeneralizedAngular(m=0.5)
    for wrong in (so.Cosine, "cosine", jnp.cos):
        with pytest.raises(TypeError, match=r"must be a sphax.operators.Angular"):
            sm.GeneralizedAngular(angular=wrong)  # pyright: ignore[reportArgumentType]
