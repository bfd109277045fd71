"""The orthogonality penalty in a chain: its sign, its schedule, its keys, its heads."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests.optim.transforms import applied, draw, make, run, start


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.adam(0.05)])
def test_the_documented_place_in_a_chain_lowers_the_penalty(optimizer):
    transform = optax.chain(sx.optim.add_orthogonality_gradient(0.1), optimizer)
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)))}

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            grads = optax.tree.zeros_like(params)
            updates, state = transform.update(grads, state, params)
            values = optax.tree.get(state, "values")
            return (applied(params, updates), state), values["kernel"]

        return jax.lax.scan(step, (params, transform.init(params)), length=100)[1]

    values = train(params)
    assert values[0] > 10.0
    assert values[-1] < 0.1


@pytest.mark.usefixtures("x64")
def test_values_are_the_penalties_before_the_step():
    params = draw(1, np.float64)
    _, state = run(make("add_orthogonality_gradient"), draw(0, np.float64), params)
    w = params["head"]["prototypes"]
    value = np.sum((w @ w.T - np.eye(5)) ** 2)
    np.testing.assert_allclose(state.values["head/prototypes"], value, rtol=1e-6)


def test_weight_may_be_a_schedule():
    make = sx.optim.add_orthogonality_gradient
    params, zeros = {"kernel": 2 * jnp.eye(2)}, {"kernel": jnp.zeros((2, 2))}
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    injected = optax.inject_hyperparams(make)(weight=schedule)
    for transform in (make(schedule), injected):
        step, state = start(transform, params)
        for weight in (0.0, 0.25, 0.5):
            new, state = step(zeros, state, params)
            np.testing.assert_allclose(new["kernel"], weight * 24 * np.eye(2))


@pytest.mark.usefixtures("x64")
def test_the_spectral_norm_draws_anew_in_each_step_and_leaf():
    hyperparams = {"weight": 0.1, "kind": "spectral", "key": jax.random.key(7)}
    inject = optax.inject_hyperparams(
        sx.optim.add_orthogonality_gradient, static_args={"iterations", "key"}
    )
    transform = inject(**hyperparams)
    w = np.random.default_rng(0).normal(size=(4, 6))
    params = {"a": {"kernel": w.T}, "b": {"kernel": w.T}}
    zeros = jax.tree.map(np.zeros_like, params)
    (step, state), seen = start(transform, params), []
    for _ in range(2):
        new, state = step(zeros, state, params)
        values = optax.tree.get(state, "values")
        seen += [float(value) for value in values.values()]
        excess = np.linalg.norm(w @ w.T - np.eye(4), 2)
        moved = w - 0.01 * np.asarray(new["a"]["kernel"]).T
        assert np.linalg.norm(moved @ moved.T - np.eye(4), 2) < excess
    assert len(set(seen)) == 4
    assert max(seen) <= excess


def test_heads_are_sets_of_their_own():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 2, 3))  # [features, heads, head_features]
    query = NeuronDimensions(index_axis=2, vector_axis=0)
    transform = sx.optim.add_orthogonality_gradient(0.1, neurons=query)
    params, zeros = {"query": kernel}, {"query": np.zeros_like(kernel)}
    new, state = run(transform, zeros, params)
    total = 0.0
    for head in range(2):
        w = kernel[:, head].T
        excess = w @ w.T - np.eye(3)
        total += np.sum(excess**2)
        np.testing.assert_allclose(
            new["query"][:, head], 0.4 * (excess @ w).T, rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(state.values["query"], total, rtol=1e-5)
