"""Learning rates against their formulas, and what decays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.common import schedules

STEPS, EPOCHS, RATE = 120, 12, 0.1


def polynomial(t, w):
    return RATE * (1 - (t - w) / (STEPS - w)) ** 2


def cosine(t, w):
    return RATE * (1 + np.cos(np.pi * (t - w) / (STEPS - w))) / 2


def step(t, w):
    return RATE * 0.1 ** np.sum(t >= np.array([60, 90, 115]))


@pytest.mark.parametrize("warmup", [0.0, 2.5])
@pytest.mark.parametrize("falling", [polynomial, cosine, step])
def test_rates(falling, warmup):
    rate = schedules.learning_rate(
        falling.__name__, RATE, STEPS, EPOCHS, warmup=warmup, drops=(6, 9, 11.5)
    )
    w = round(warmup * STEPS / EPOCHS)
    expected = [RATE * t / w if t < w else falling(t, w) for t in range(STEPS)]
    found = jax.vmap(rate)(jnp.arange(STEPS))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("decays_all", [True, False])
def test_optimizers(name, decays_all):
    """Two steps by PyTorch's formulas: decay is a part of the gradient, or apart."""
    mu, decay, lr = 0.9, 0.3, 0.05
    optimizer = schedules.optimizer(
        name,
        optax.constant_schedule(lr),
        momentum=mu,
        weight_decay=decay,
        decays_all=decays_all,
    )
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    state, moved = optimizer.init(params), params
    for _ in range(2):
        updates, state = optimizer.update(params, state, moved)  # the gradient
        stepped: Any = optax.apply_updates(moved, updates)
        moved = stepped
    for key, gradient in params.items():
        w, v, s = np.float64(gradient), 0.0, 0.0
        g, wd = w, decay * (decays_all or key == "kernel")
        for t in (1, 2):
            if name == "sgd":
                v = mu * v + g + wd * w
                w = w - lr * v
            else:
                v, s = 0.9 * v + 0.1 * g, 0.999 * s + 0.001 * g**2
                root = np.sqrt(s / (1 - 0.999**t)) + 1e-8
                w = w - lr * (v / (1 - 0.9**t) / root + wd * w)
        np.testing.assert_allclose(moved[key], w, rtol=1e-5)
