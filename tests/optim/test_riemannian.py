"""SGD and Adam on spheres and orthonormal frames: steps, optima, what they keep."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx

HYPERPARAMS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.8},
    "adam": {"b1": 0.8, "b2": 0.9, "eps": 1e-3},
}
MAKE: dict[str, Callable] = {
    "sgd": sx.optim.riemannian_sgd,
    "adam": sx.optim.riemannian_adam,
}
each_method = pytest.mark.parametrize("method", MAKE)
each_manifold = pytest.mark.parametrize("manifold", ["sphere", "orthogonal"])


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def tangent(w, u, manifold):
    """Rows ``w``; each a point, or all together a frame."""
    if manifold == "sphere":
        return u - np.sum(u * w, 1, keepdims=True) * w / np.sum(w * w, 1, keepdims=True)
    return u - (w @ u.T + u @ w.T) / 2 @ w


def retracted(w, u, manifold):
    if manifold == "sphere":
        new = w + u
        lengths = (np.linalg.norm(x, axis=1, keepdims=True) for x in (w, new))
        return next(lengths) * new / next(lengths)
    left, _, right = np.linalg.svd(w + u, full_matrices=False)
    return left @ right


def transported(w, new, u, manifold):
    if manifold == "orthogonal":
        return tangent(new, u, manifold)
    moved = []
    for p, q, v in zip(w, new, u, strict=True):
        # The rotation of the plane of p and q that takes p to q, as a matrix.
        p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
        k = np.outer(q, p) - np.outer(p, q)
        moved.append((np.eye(len(p)) + k + k @ k / (1 + p @ q)) @ v)
    return np.stack(moved)


def definition(method, manifold, w, slopes, rate):
    mu, nu = np.zeros_like(w), 0.0
    for step, gradient in enumerate(slopes, 1):
        g = tangent(w, gradient, manifold)
        if method == "sgd":
            mu = 0.8 * mu + g
            ahead = mu
        else:
            axis = 1 if manifold == "sphere" else (0, 1)
            mu = 0.8 * mu + 0.2 * g
            nu = 0.9 * nu + 0.1 * np.sum(g * g, axis, keepdims=True)
            root = np.sqrt(nu / (1 - 0.9**step)) + 1e-3
            ahead = mu / (1 - 0.8**step) / root
        new = retracted(w, -rate * ahead, manifold)
        w, mu = new, transported(w, new, mu, manifold)
    return w


def start(manifold):
    kernel = draw(0, 5, 3)
    return kernel if manifold == "sphere" else np.linalg.qr(kernel)[0]


@each_method
@each_manifold
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(method, manifold):
    transform = MAKE[method](0.3, manifold=manifold, **HYPERPARAMS[method])
    params: Any = {"kernel": start(manifold), "bias": np.ones(3)}
    state, update = transform.init(params), jax.jit(transform.update)
    slopes = draw(1, 3, 5, 3)
    # For a constant slope of 1, by SGD with momentum 0.8, or by Adam.
    of_bias = {"sgd": (1.0, 1.8, 2.44), "adam": (1 / 1.001,) * 3}[method]
    for slope, size in zip(slopes, of_bias, strict=True):
        updates, state = update({"kernel": slope, "bias": np.ones(3)}, state, params)
        np.testing.assert_allclose(updates["bias"], np.full(3, -0.3 * size))
        params = {**params, "kernel": params["kernel"] + updates["kernel"]}
    expected = definition(method, manifold, start(manifold).T, slopes.mT, 0.3).T
    np.testing.assert_allclose(params["kernel"], expected, rtol=1e-10, atol=1e-12)


@each_method
@each_manifold
def test_it_finds_the_known_optimum_and_stays_on_the_manifold(method, manifold):
    """Rayleigh quotients: the top eigenvector, or the span of the top three."""
    values = np.array([5.0, 4.0, 3.0, 1.0, 0.5])
    basis = np.linalg.qr(draw(2, 5, 5))[0]
    matrix = jnp.asarray((basis * values) @ basis.T, jnp.float32)
    schedule = optax.cosine_decay_schedule(0.1, 400)
    transform = MAKE[method](schedule, manifold=manifold)

    def loss(params):
        kernel = params["kernel"]
        square = jnp.sum(kernel * (matrix @ kernel), 0) / jnp.sum(kernel**2, 0)
        return -jnp.sum(square)

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), ()

        carry = params, transform.init(params)
        return jax.lax.scan(step, carry, length=400)[0][0]

    kernel = jnp.asarray(start(manifold), jnp.float32)
    after = np.asarray(train({"kernel": kernel})["kernel"], np.float64)
    best = 12.0 if manifold == "orthogonal" else 15.0
    np.testing.assert_allclose(-loss({"kernel": after}), best, rtol=1e-3)
    if manifold == "orthogonal":
        np.testing.assert_allclose(after.T @ after, np.eye(3), atol=1e-6)
    else:
        lengths = np.linalg.norm(start(manifold), axis=0)
        np.testing.assert_allclose(np.linalg.norm(after, axis=0), lengths, rtol=1e-5)


@each_method
@each_manifold
def test_it_composes_and_keeps_dtypes(method, manifold):
    params = {"kernel": jnp.bfloat16(start(manifold)), "bias": jnp.ones(3)}
    grads = {"kernel": jnp.bfloat16(draw(3, 5, 3)), "bias": jnp.ones(3)}
    plain = MAKE[method](0.1, manifold=manifold)
    # In bfloat16, b2 would be 1.
    injected = optax.inject_hyperparams(
        MAKE[method], static_args={"manifold"}, hyperparam_dtype=jnp.float32
    )(0.1, manifold=manifold)
    found = []
    for transform in (plain, optax.masked(injected, {"kernel": True, "bias": False})):
        state = transform.init(params)
        update = jax.jit(partial(transform.update, value=1.0))
        updates, after = update(grads, state, params)
        assert updates["kernel"].dtype == jnp.bfloat16
        assert jax.tree.structure(state) == jax.tree.structure(after)
        found.append(np.asarray(updates["kernel"], np.float32))
    np.testing.assert_allclose(*found, atol=1e-2)


@each_method
def test_zero_neurons_and_zero_gradients_stay(method):
    transform = MAKE[method](0.1)
    params = {"kernel": jnp.array([[0.0, 3.0], [0.0, 4.0]])}
    grads = {"kernel": jnp.array([[1.0, 0.0], [1.0, 0.0]])}
    updates, state = jax.jit(transform.update)(grads, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.zeros((2, 2)), atol=1e-6)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
