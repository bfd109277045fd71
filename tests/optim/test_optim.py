"""Transforms of the length and direction of neurons, and of orthogonality."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests.optim.transforms import PROTOTYPES, applied, draw, lengths, make, run, start


def test_scaling_of_zero_neurons_is_zero_for_every_power():
    params, ones = {"kernel": jnp.zeros((3, 1))}, {"kernel": jnp.ones((3, 1))}
    for power in (-1.0, 0.0, 2):
        new, _ = run(sx.optim.scale_by_neuron_norm(power), ones, params)
        np.testing.assert_array_equal(new["kernel"], np.zeros((3, 1)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_params_stay_on_the_sphere(dtype):
    transform = optax.chain(
        optax.adam(0.1), sx.optim.keep_params_on_sphere(2.0, neurons=PROTOTYPES)
    )
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), draw(1))

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(params, state, params)
            return (applied(params, updates), state), ()

        return jax.lax.scan(step, (params, transform.init(params)), length=20)[0][0]

    rows = np.asarray(train(params)["head"]["prototypes"], np.float64)
    np.testing.assert_allclose(lengths(rows), 2.0, rtol=2 * float(jnp.finfo(dtype).eps))


def test_a_neuron_moved_to_the_origin_stays():
    params = {"kernel": jnp.array([[3.0, 1.0], [0.0, 1.0]])}
    updates = {"kernel": jnp.array([[-3.0, 2.0], [0.0, 3.0]])}
    new, _ = run(sx.optim.keep_params_on_sphere(), updates, params)
    moved = applied(params, new)["kernel"]
    np.testing.assert_allclose(moved, [[3.0, 0.6], [0.0, 0.8]], rtol=1e-6)


def test_params_return_to_the_sphere_in_every_third_step():
    transform = sx.optim.keep_params_on_sphere(every=3)
    params, update = {"kernel": jnp.array([[3.0], [4.0]])}, jnp.array([[3.0], [4.0]])
    (step, state), found = start(transform, params), []
    for _ in range(6):
        updates, state = step({"kernel": update}, state, params)
        params = applied(params, updates)
        found.append(float(jnp.linalg.norm(params["kernel"])))
    np.testing.assert_allclose(found, [10, 15, 1, 6, 11, 1], rtol=1e-6)


def test_tangent_steps_lengthen_to_second_order_only():
    params, updates = draw(1), draw(0)
    new, _ = run(make("project_gradients_to_tangent"), updates, params)
    w, u = params["head"]["prototypes"], np.asarray(new["head"]["prototypes"])
    np.testing.assert_allclose(
        lengths(w + u) ** 2, lengths(w) ** 2 + lengths(u) ** 2, rtol=1e-5
    )


@pytest.mark.usefixtures("x64")
def test_power_two_turns_neurons_by_an_angle_that_their_length_does_not_change():
    kernel, target = np.random.default_rng(0).normal(size=(2, 4, 1))

    @jax.jit
    def turned(scale, power):
        params = {"kernel": scale * kernel}
        grads = jax.grad(lambda p: sx.sphere.angle(p["kernel"].T, target.T).sum())(
            params
        )
        transform = sx.optim.scale_by_neuron_norm(power)
        updates, _ = transform.update(grads, transform.init(params), params)
        new = applied(params, optax.tree.scale(-0.1, updates))
        return sx.sphere.angle(new["kernel"].T, kernel.T)[0]

    np.testing.assert_allclose(turned(1.0, 2.0), turned(5.0, 2.0), rtol=1e-9)
    assert turned(1.0, 1.0) > 4.0 * turned(5.0, 1.0)


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


@pytest.mark.parametrize(
    ("match", "hyperparams"),
    [
        ("radius must be positive, got 0.0", {"radius": 0.0}),
        ("every must be a whole number, 1 or more, got 0", {"every": 0}),
        ("every must be a whole number, 1 or more, got 2.5", {"every": 2.5}),
    ],
)
def test_hyperparams_out_of_range(match, hyperparams):
    with pytest.raises(ValueError, match=match):
        sx.optim.keep_params_on_sphere(**hyperparams)


def test_errors_of_the_penalty_reach_the_user():
    unknown: Any = "hard"
    transform = sx.optim.add_orthogonality_gradient(0.1, kind=unknown)
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="kind must be one of"):
        transform.update(params, transform.init(params), params)


so, SGD = sx.optim, optax.sgd(0.1)
# Wrong kinds of arguments, and what their errors teach.
WRONG: list[tuple[Any, str]] = [
    (lambda: so.scale_by_neuron_norm("1"), "power must be a number, got '1'"),
    (lambda: so.keep_params_on_sphere("1"), "radius must be a number, got '1'"),
    (lambda: so.keep_params_on_sphere(every="2"), "every must be a number, got '2'"),
    (lambda: so.add_energy_gradient("1.0"), "weight must be .* schedule.*, got '1.0'"),
    (lambda: so.add_energy_gradient({"a": "1"}), "weight at 'a' must be a number"),
    (lambda: so.add_energy_gradient(1.0, power="log"), "power must be .*, got 'log'"),
    (lambda: so.add_orthogonality_gradient(1.0, key=0), "key must be .*, got 0"),
    (lambda: so.add_penalty_gradient(1.0, 2.0), "penalty must be a function"),
    (lambda: so.add_penalty_gradient(1.0, len, key=0), "key must be a random key"),
    (
        lambda: so.decoupled("adam", 0.1, SGD),
        "optimizer must be .*, got 'adam'",
    ),
    (
        lambda: so.decoupled_energy(SGD, "0.1", 1.0),
        "learning_rate must be a number, or",
    ),
    (lambda: so.riemannian_sgd("0.1"), "learning_rate must be a number, or a schedule"),
    (lambda: so.riemannian_sgd(0.1, momentum="0.9"), "momentum must be a number"),
    (lambda: so.riemannian_adam(0.1, b1=None), "b1 must be a number, got None"),
    (lambda: so.riemannian_adam(0.1, others="sgd"), "others must be an optimizer"),
    (lambda: so.orthogonal_descent(None), "learning_rate must be a number, or"),
    (lambda: so.orthogonal_descent(0.1, others=0.1), "others must be an optimizer"),
]


@pytest.mark.parametrize(("call", "match"), WRONG)
def test_arguments_of_the_wrong_kind(call, match):
    with pytest.raises(TypeError, match=match):
        call()
