"""OFT: the bound, and training in half precision."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from tests.reparam.draws import draw, perturbed

sr: Any = sx.reparam


def test_a_bound_holds_neurons_near_those_given(key):
    tuning = sr.oft(block_size=None, bound=0.1)
    free, frozen = tuning.init(key, {"kernel": draw(6, 50)})
    apply = jax.jit(tuning.apply)
    far, old = (
        apply(perturbed(free, 1, 100.0), frozen)["kernel"],
        frozen["kernel"].kernel,
    )
    cosines = np.sum(far * old, 0) / np.sum(np.square(old), 0)
    angles = np.arccos(np.minimum(cosines, 1.0))
    limit = 2 * np.arctan(0.1 / 2**0.5)
    assert 0.7 * limit < np.max(angles) < limit + 1e-4
    assert np.all(np.abs(apply(perturbed(free, 1, 1e-3), frozen)["kernel"] - old) < 0.1)
    gradient = jax.jit(
        jax.grad(lambda free: jnp.sum(tuning.apply(free, frozen)["kernel"] ** 3))
    )(free)
    assert np.all(np.isfinite(gradient["kernel"].left))
    assert np.any(gradient["kernel"].left)


def test_rotations_of_bfloat16_kernels_train_as_those_of_float32(key):
    """Steps that are small beside a raw array count, as rounding would not let them."""
    given, inputs = draw(16, 8), draw(64, 16, seed=2)
    turn = sx.orthogonal.cayley(0.1 * draw(16, 16, seed=3))
    tuning, adam = sr.oft(block_size=None), optax.adam(5e-3)

    @partial(jax.jit, static_argnums=0)
    def train(dtype):
        params = {"kernel": given.astype(dtype)}
        free, frozen = tuning.init(key, params)
        outputs = inputs @ turn @ params["kernel"].astype(jnp.float32)

        def loss(free):
            # The rotation itself, without the rounding of the kernel that it makes.
            exact = {"kernel": frozen["kernel"]._replace(kernel=params["kernel"] * 1.0)}
            exact = jax.tree.map(lambda x: x.astype(jnp.float32), exact)
            kernel = tuning.apply(free, exact)["kernel"]
            return jnp.mean((inputs @ kernel - outputs) ** 2)

        def step(carry, _):
            free, state = carry
            value, gradient = jax.value_and_grad(loss)(free)
            updates, state = adam.update(gradient, state, free)
            return (optax.apply_updates(free, updates), state), value

        return jax.lax.scan(step, (free, adam.init(free)), length=400)[1]

    losses = train(jnp.bfloat16)
    assert losses[0] > 1.0
    assert losses[-1] < 1e-3 * losses[0]
