"""Transforms by the length and the direction of neurons."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
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
