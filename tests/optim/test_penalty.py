"""Any penalty: its weights, its layers, its steps, what it draws and remembers.

With one whose gradient is plain, the neurons themselves.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests.optim.transforms import close, run, square


def first_update(transform, params) -> Any:
    """Updates for gradients that are zero."""
    zeros = optax.tree.zeros_like(params)
    return transform.update(zeros, transform.init(params), params)[0]


LAYERS: Any = {
    name: {"kernel": np.full((2, 2), 1.0)} for name in ("a", "b", "c", "head")
}


@pytest.mark.parametrize(
    ("weight", "reduce", "added"),
    [
        (8.0, "mean", {"a": 2, "b": 2, "c": 2, "head": 2}),
        (8.0, "sum", {"a": 8, "b": 8, "c": 8, "head": 8}),
        ({"": 6.0, "head": 10.0}, "mean", {"a": 2, "b": 2, "c": 2, "head": 10}),
        ({"": 6.0, "head": 10.0}, "sum", {"a": 6, "b": 6, "c": 6, "head": 10}),
        (
            {"": lambda step: 1.0 + step, "a/kernel": 5.0, "head": {"kernel": 0.0}},
            "sum",
            {"a": 5, "b": 1, "c": 1, "head": 0},
        ),
    ],
)
def test_weights_by_path(weight, reduce, added):
    transform = sx.optim.add_penalty_gradient(square, weight, reduce=reduce)
    new = first_update(transform, LAYERS)
    expected = {name: {"kernel": np.full((2, 2), x)} for name, x in added.items()}
    close(new, expected)


def test_a_mask_leaves_layers_out_of_the_mean():
    masks = {name: name in ("a", "b") for name in LAYERS}
    weight = {"": 8.0, "head": 10.0}  # what is masked may have one
    transform = sx.optim.add_penalty_gradient(square, weight, mask=masks)
    new = first_update(transform, LAYERS)
    for name, mask in masks.items():
        np.testing.assert_array_equal(new[name]["kernel"], np.full((2, 2), 4.0 * mask))


def test_every_third_step_has_three_times_the_gradient():
    plain = partial(sx.optim.add_penalty_gradient, square, 0.5, reduce="sum")
    injected = optax.inject_hyperparams(
        sx.optim.add_penalty_gradient, static_args=("penalty", "at_least")
    )
    transforms = [plain(every=3), injected(square, 0.5, reduce="sum", every=3)]
    params = {"kernel": jnp.ones((2, 2))}
    zeros = optax.tree.zeros_like(params)
    for transform in transforms:
        step, state, added, values = jax.jit(transform.update), None, [], []
        state: Any = transform.init(params)
        for number in range(5):
            of_step = {"kernel": (1.0 + number) * params["kernel"]}
            new, state = step(zeros, state, of_step)
            added.append(float(new["kernel"][0, 0]))
            values.append(float(optax.tree.get(state, "values")["kernel"]))
        assert added == [1.5, 0.0, 0.0, 6.0, 0.0]
        assert values == [2.0, 2.0, 2.0, 32.0, 32.0]


def draws(rows, key):
    return jax.random.normal(key) + 0.5 * jnp.sum(rows**2)


def test_draws_depend_on_the_step_the_leaf_and_the_key_in_the_state():
    def run_on(transform, state, steps):
        seen = []
        for _ in range(steps):
            _, state = transform.update(LAYERS, state, LAYERS)
            seen += [float(value) for value in state.values.values()]
        return seen, state

    first, second = (
        sx.optim.add_penalty_gradient(draws, 1.0, key=jax.random.key(seed))
        for seed in (0, 1)
    )
    all_draws, _ = run_on(first, first.init(LAYERS), 3)
    assert len(set(all_draws)) == 3 * len(LAYERS)
    _, state = run_on(first, first.init(LAYERS), 1)
    resumed, _ = run_on(second, state, 2)  # whatever key it was made with
    assert resumed == all_draws[len(LAYERS) :]


def test_a_key_goes_through_all_that_transforms_compose_with():
    add = sx.optim.add_penalty_gradient(draws, 1.0, key=jax.random.key(0))
    chain = optax.chain(add, optax.sgd(0.1))
    steps = optax.MultiSteps(chain, every_k_schedule=2)
    grads, state = optax.tree.zeros_like(LAYERS), steps.init(LAYERS)
    for _ in range(2):
        new, state = jax.jit(steps.update)(grads, state, LAYERS)
    mean = {"kernel": np.full((2, 2), -0.1 / 4)}
    close(new, dict.fromkeys(LAYERS, mean))
    key = optax.tree.get(state, "key")
    assert jax.random.key_data(key).tolist() == [0, 0]

    model = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    before = np.asarray(model.kernel[...])
    partition = optax.partition({"all": chain}, lambda params: "all")
    optimizer = nnx.Optimizer(model, partition, wrt=nnx.Param)
    optimizer.update(model, optax.tree.zeros_like(nnx.state(model, nnx.Param)))
    np.testing.assert_allclose(model.kernel[...], 0.9 * before, rtol=1e-6)


class Poles:
    """A stateful penalty, written as a class for its options."""

    def __init__(self, pull):
        self.pull = pull

    def init(self, rows, key):
        return jnp.zeros(rows.shape[1]) if key is None else jax.random.normal(key)

    def apply(self, rows, state, key):
        del key
        return self.pull * jnp.sum((rows - state[None]) ** 2) / 2, state + 1.0


@pytest.mark.parametrize("every", [1, 3])
def test_a_stateful_penalty_remembers_for_each_set_and_only_in_its_steps(every):
    """The state after k steps is k; the gradient is of the rows at a fixed state."""
    poles = Poles(2.0)
    penalty = sx.optim.StatefulPenalty(poles.init, poles.apply)
    query = {"query": NeuronDimensions(index_axis=2, vector_axis=0)}
    transform = sx.optim.add_penalty_gradient(
        penalty, 0.5, reduce="sum", every=every, neurons=query
    )
    params = {"query": jnp.ones((3, 2, 4)), "kernel": jnp.ones((5, 4))}
    state: Any = transform.init(params)
    update = jax.jit(transform.update)
    shapes = {name: x.shape for name, x in state.penalty_state.items()}
    assert shapes == {"kernel": (1, 5), "query": (2, 3)}
    for step in range(4):
        new, state = update(optax.tree.zeros_like(params), state, params)
        taken = step // every + 1
        is_due = step % every == 0
        added = 0.5 * every * 2.0 * (1.0 - (taken - 1)) * is_due
        close(new, jax.tree.map(lambda x, a=added: a * x, params))
        for x in jax.tree.leaves(state.penalty_state):
            np.testing.assert_array_equal(x, np.full(x.shape, taken))


def test_the_first_state_draws_for_each_leaf_and_set():
    poles = Poles(1.0)
    penalty = sx.optim.StatefulPenalty(poles.init, poles.apply)
    heads = {"a": NeuronDimensions(batch_axis=0), "b": NeuronDimensions(batch_axis=0)}
    params = {name: jnp.ones((2, 3, 4)) for name in heads}
    key = jax.random.key(0)
    state: Any = sx.optim.add_penalty_gradient(
        penalty, 1.0, key=key, neurons=heads
    ).init(params)
    assert len({float(x) for leaf in state.penalty_state.values() for x in leaf}) == 4


def test_polarization_remembers_its_poles():
    """Two steps with remembered poles are one with twice the steps of the poles."""

    def penalty(steps):
        return sx.optim.StatefulPenalty(
            lambda rows, key: jnp.eye(1, rows.shape[1]),
            lambda rows, poles, key: sx.energy.polarization(
                rows, poles, steps=steps, momentum=0.0
            ),
        )

    kernel = np.random.default_rng(0).normal(size=(4, 6))
    params, found = {"kernel": jnp.asarray(kernel, jnp.float32)}, []
    for steps in (1, 2):
        transform = sx.optim.add_penalty_gradient(penalty(steps), 1.0)
        state: Any = transform.init(params)
        update = jax.jit(transform.update)
        for _ in range(2 // steps):
            new, state = update(optax.tree.zeros_like(params), state, params)
        found.append((new, state.values, state.penalty_state))
    close(*found, rtol=1e-5, atol=1e-5)


def test_an_energy_penalty_is_the_energy_of_rows():
    """Also as a penalty, where arrays and numbers are one power."""
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for power in (2.0, jnp.float32(2.0)):
        penalty = sx.energy.energy_penalty(power=power, half_space=True)
        expected = sx.energy.hyperspherical_energy(rows, power=2.0, half_space=True)
        np.testing.assert_allclose(penalty(rows), expected, rtol=1e-6)
        add = sx.optim.add_penalty_gradient(penalty, 0.3, at_least=2)
        named = sx.optim.add_energy_gradient(0.3, power=2.0, half_space=True)
        params = {"kernel": rows.T, "alone": {"kernel": np.ones((3, 1))}}
        first, second = (run(tx, params, params) for tx in (add, named))
        close(first, second)
