"""POET and S-OPT: rotations that are merged into the neurons and redrawn."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from tests.reparam.draws import draw, params_of, perturbed

sr: Any = sx.reparam


REDRAWN = {
    "s-opt": sr.stochastic_orthogonal(fraction=0.4),
    "poet": sr.poet(block_size=5, method="cayley"),
    "poet, subset": sr.poet(block_size=3, sampling="subset", method="cayley"),
}
FIXED = {"one block": sr.orthogonal(neuron_init="given")}


@pytest.mark.parametrize("name", [*FIXED, *REDRAWN])
def test_advance_merges_and_redraws(name, key):
    training = (FIXED | REDRAWN)[name]
    free, frozen = training.init(key, params_of())
    free = perturbed(free, 1)
    before, (new, merged, was_reset) = jax.jit(
        lambda free, frozen: (
            training.apply(free, frozen),
            training.advance(jax.random.key(1), free, frozen),
        )
    )(free, frozen)
    assert jax.tree.structure(new) == jax.tree.structure(free)
    assert jax.tree.structure(merged) == jax.tree.structure(frozen)
    after = training.merge(new, merged)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), after, before)
    is_redrawn = name in REDRAWN
    assert [bool(x) for x in jax.tree.leaves(was_reset["conv"]["kernel"])] == [
        is_redrawn for _ in jax.tree.leaves(free["conv"]["kernel"])
    ]
    assert not was_reset["conv"]["bias"]
    if is_redrawn:
        old, now = frozen["conv/kernel"], merged["conv/kernel"]
        assert not np.array_equal(old.left, now.left)
        assert len(np.unique(now.left)) == now.left.size
        assert not np.any(new["conv"]["kernel"].left)
        np.testing.assert_allclose(now.kernel, before["conv"]["kernel"], atol=1e-5)


def trainer(training, target, rate):
    """A step and the end of a cycle, of plain descent on a distance."""
    adam = optax.adam(rate)

    def loss(free, frozen):
        kernel = training.apply(free, frozen)["kernel"]
        return jnp.sum((kernel - target) ** 2)

    def step(free, frozen, state):
        value, gradient = jax.value_and_grad(loss)(free, frozen)
        updates, state = adam.update(gradient, state, free)
        return optax.apply_updates(free, updates), frozen, state, value

    def advance(key, free, frozen, state):
        free, frozen, was_reset = training.advance(key, free, frozen)
        return free, frozen, sr.reset_moments(adam, state, was_reset)

    return adam, step, advance


def test_a_run_that_resumes_within_a_cycle_is_the_same_bit_by_bit(key):
    training = sr.poet(block_size=3)
    adam, step, advance = trainer(training, draw(6, 4, seed=1), 0.05)
    step, advance = jax.jit(step), jax.jit(advance)

    def run(carry, first, last):
        for i in range(first, last):
            if i and i % 4 == 0:
                carry = advance(jax.random.fold_in(key, i), *carry)
            *carry, _ = step(*carry)
        return carry

    free, frozen = training.init(key, {"kernel": draw(6, 4)})
    start = free, frozen, adam.init(free)
    whole = run(start, 0, 11)
    saved = jax.tree.map(np.array, run(start, 0, 6))
    jax.tree.map(np.testing.assert_array_equal, run(saved, 6, 11), whole)


def test_stochastic_rotations_reach_every_rotation(key):
    v = draw(6, 6)
    target = sx.orthogonal.random_orthogonal(key, (6, 6), special=True) @ v
    training = sr.stochastic_orthogonal(fraction=0.5, neuron_init="given")
    rate = optax.exponential_decay(0.05, 2000, 0.3)
    adam, step, advance = trainer(training, target, rate)

    def inner(carry, _):
        *carry, value = step(*carry)
        return tuple(carry), value

    def cycle(carry, key):
        carry, values = jax.lax.scan(inner, carry, length=40)
        free, frozen, state = advance(key, *carry)
        return (free, frozen, state), values[-1]

    free, frozen = training.init(key, {"kernel": v})
    carry = free, frozen, adam.init(free)
    _, values = jax.jit(partial(jax.lax.scan, cycle))(carry, jax.random.split(key, 150))
    assert values[0] > 1.0  # one subset does not
    assert values[-1] < 1e-3 * values[0]
