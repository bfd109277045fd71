"""Moments of optimizers whose params were reset."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx

sr: Any = sx.reparam


def test_moments_of_partitioned_optimizers_are_reset(key):
    params = {"a": {"kernel": jnp.ones((8, 4))}, "bias": jnp.ones(3)}
    training = sr.stochastic_orthogonal()
    free, frozen = training.init(key, params)
    optimizer = optax.partition(
        {True: optax.trace(0.9), False: optax.trace(0.5)}, sr.rotation_mask
    )
    gradients = jax.tree.map(jnp.ones_like, free)
    _, state = optimizer.update(gradients, optimizer.init(free), free)
    _, _, was_reset = training.advance(key, free, frozen)
    reset = sr.reset_moments(optimizer, state, was_reset)
    assert jax.tree.structure(reset) == jax.tree.structure(state)
    rotations, others = (
        reset.inner_states[group].inner_state for group in (True, False)
    )
    assert not np.any(rotations.trace["a"]["kernel"].left)
    np.testing.assert_array_equal(others.trace["bias"], 1.0)
