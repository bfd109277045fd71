"""Descent on a regularizer beside an optimizer."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from tests.optim.transforms import close, square


def test_the_optimizer_does_not_see_what_is_decoupled():
    """Its updates and its state are those that it has alone."""
    params, adam = (
        {"kernel": jnp.ones((2, 2))},
        optax.adam(optax.constant_schedule(0.1)),
    )
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    descent = sx.optim.add_penalty_gradient(square, 0.5)
    both = sx.optim.decoupled(adam, schedule, descent)
    state: Any = both.init(params)
    state_alone = adam.init(params)
    rng = np.random.default_rng(0)
    for rate in (1.0, 0.75, 0.5):
        grads = {"kernel": jnp.asarray(rng.normal(size=(2, 2)), jnp.float32)}
        new, state = both.update(grads, state, params)
        alone, state_alone = adam.update(grads, state_alone, params)
        descent_step = optax.tree.scale(-0.5 * rate, params)
        close(new, optax.tree.add(alone, descent_step))
        close(state.optimizer, state_alone)


def test_decoupled_steps_are_added_in_float32():
    """A step that is lost beside a larger update in bfloat16 is not lost alone."""
    params = {"kernel": jnp.full((2, 2), 1.0 + 2**-7, jnp.bfloat16)}
    transform = sx.optim.decoupled(
        optax.identity(), 1.0, sx.optim.add_penalty_gradient(square, 3.0)
    )
    update = {"kernel": jnp.full((2, 2), 3.0, jnp.bfloat16)}
    new: Any = transform.update(update, transform.init(params), params)[0]
    assert new["kernel"].dtype == jnp.bfloat16
    # 3 (1 + 2^-7) has one bit more than bfloat16; so has the difference, then exact.
    np.testing.assert_array_equal(
        np.float32(new["kernel"]), np.full((2, 2), -3 * 2**-7)
    )
