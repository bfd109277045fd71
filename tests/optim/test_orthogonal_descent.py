"""Descent on orthogonal matrices: its steps, its drift, what it composes with."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx

descent = sx.optim.orthogonal_descent


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def frame(seed, m, n):
    return np.linalg.qr(draw(seed, m, n))[0]


def definition(r, g, m, *, rate, beta, step):
    """One step as it is written, of one matrix."""
    m = beta * m - g
    hat = m @ r.T - r @ (r.T @ m @ r.T) / 2
    w = hat - hat.T
    m, a, eye = w @ r, min(rate, 1 / np.linalg.norm(w)), np.eye(len(r))
    if step == "exact":
        return np.linalg.solve(eye - a / 2 * w, (eye + a / 2 * w) @ r), m
    y = r + a * m
    for _ in range(2):
        y = r + a / 2 * w @ (r + y)
    return y, m


@pytest.mark.parametrize("step", ["exact", "released"])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3)])
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(step, shape):
    transform = descent(
        optax.linear_schedule(0.25, 0.75, 2), momentum=0.8, step=step, polish=False
    )
    params = {"block": np.stack([frame(0, *shape), frame(1, *shape)])}
    update, state = jax.jit(transform.update), transform.init(params)
    expected, m = params["block"], np.zeros((2, *shape))
    for count, rate in enumerate((0.25, 0.5, 0.75)):
        grads = {"block": draw(count, 2, *shape)}
        updates, state = update(grads, state, params)
        params: Any = optax.apply_updates(params, updates)
        rows = zip(expected, grads["block"], m, strict=True)
        pairs = [definition(*row, rate=rate, beta=0.8, step=step) for row in rows]
        expected, m = (np.stack(x) for x in zip(*pairs, strict=True))
        np.testing.assert_allclose(params["block"], expected, atol=1e-12)
        np.testing.assert_allclose(state.momentum["block"], m, atol=1e-12)


def drift(steps, **hyperparams):
    """Largest entry of ``R' R - I`` after so many steps to a target that turns."""
    transform = descent(0.2, **hyperparams)
    target = jnp.asarray(frame(2, 16, 16), jnp.float32)

    @jax.jit
    def train(r):
        def step(carry, key):
            r, state = carry
            grad = r - target + jax.random.normal(key, r.shape)
            updates, state = transform.update(grad, state, r)
            return (optax.apply_updates(r, updates), state), ()

        keys = jax.random.split(jax.random.key(0), steps)
        return jax.lax.scan(step, (r, transform.init(r)), keys)[0][0]

    r = np.asarray(train(jnp.eye(16)), np.float64)
    return np.abs(r.T @ r - np.eye(16)).max()


def test_ten_thousand_steps():
    assert drift(10_000) <= 1e-5
    assert drift(10_000, step="released", polish=False) >= 0.1


@pytest.mark.parametrize("step", ["exact", "released"])
def test_it_finds_the_nearest_rotation(step):
    """The minimum of |R - A| over rotations, by the SVD (Procrustes)."""
    u, _, v = np.linalg.svd(np.eye(5) + 0.1 * draw(3, 5, 5))
    a = jnp.asarray(u @ np.diag([3.0, 2.0, 1.5, 1.0, 0.5]) @ v, jnp.float32)
    transform = descent(0.1, step=step)

    @jax.jit
    def train(r):
        def advance(carry, _):
            r, state = carry
            updates, state = transform.update(r - a, state, r)
            return (optax.apply_updates(r, updates), state), ()

        return jax.lax.scan(advance, (r, transform.init(r)), length=400)[0][0]

    assert np.linalg.det(u @ v) > 0
    np.testing.assert_allclose(train(jnp.eye(5)), u @ v, atol=1e-4)


def test_it_composes():
    params = {"rotation": jnp.eye(3), "bias": jnp.ones(3)}
    labels = {"rotation": "orthogonal", "bias": "free"}
    hyperparams: dict[str, Any] = {"learning_rate": 0.1, "momentum": 0.5}
    injected = optax.inject_hyperparams(descent, static_args={"step", "polish"})
    transform = optax.partition(
        {"orthogonal": injected(**hyperparams), "free": optax.sgd(1.0)}, labels
    )
    grads = {"rotation": jnp.float32(draw(4, 3, 3)), "bias": jnp.ones(3)}
    update = jax.jit(partial(transform.update, value=1.0))
    with jax.numpy_dtype_promotion("strict"):
        updates, state = update(grads, transform.init(params), params)
        updates, _ = update(grads, state, params)
    alone = descent(**hyperparams, mask={"rotation": True, "bias": False})
    expected, state = alone.update(grads, alone.init(params), params)
    expected: Any = alone.update(grads, state, params)[0]
    np.testing.assert_allclose(updates["rotation"], expected["rotation"], atol=1e-6)
    np.testing.assert_array_equal(updates["bias"], -jnp.ones(3))
    # By SGD, of rate 0.1 and momentum 0.5, in the second step.
    np.testing.assert_allclose(expected["bias"], np.full(3, -0.15))


def test_zero_gradients_and_dtypes():
    params = {"rotation": jnp.eye(3, dtype=jnp.bfloat16)}
    transform = descent(0.1)
    state: Any = transform.init(params)
    zeros = optax.tree.zeros_like(params)
    updates, after = jax.jit(transform.update)(zeros, state, params)
    assert updates["rotation"].dtype == jnp.bfloat16
    assert after.momentum["rotation"].dtype == jnp.float32
    np.testing.assert_array_equal(updates["rotation"], np.zeros((3, 3)))
    assert jax.tree.structure(state) == jax.tree.structure(after)
