"""Optimizers of all params: what they do not move themselves goes downhill too."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx

WHOLE: dict[str, Callable[..., Any]] = {
    "sgd": sx.optim.riemannian_sgd,
    "adam": sx.optim.riemannian_adam,
    "descent": sx.optim.orthogonal_descent,
    "pion": sx.optim.pion,
    "spectral_sphere": partial(sx.optim.spectral_sphere, radius="initial"),
    "stiefel_muon": sx.optim.stiefel_muon,
}
STATIC = {
    "sgd": ("manifold",),
    "adam": ("manifold",),
    "descent": ("step", "polish"),
    "pion": ("rotation", "degree", "sides", "moments", "second_moment"),
    "spectral_sphere": ("multiplier", "nesterov"),
    "stiefel_muon": ("direction", "dual_steps", "nesterov"),
}
# Those whose other optimizer is Adam.
ADAM = ("adam", "pion", "spectral_sphere", "stiefel_muon")
each_optimizer = pytest.mark.parametrize("name", WHOLE)


def layer(seed, dtype: Any = jnp.float32) -> dict[str, Any]:
    """A kernel with orthonormal columns, a point of every manifold, and a bias."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(8, 4)))[0]
    return {
        "kernel": jnp.asarray(frame, dtype),
        "bias": jnp.asarray(rng.normal(size=4), dtype),
    }


def first_step(slope, name):
    """The update at rate 0.1: Adam's is a sign."""
    slope = np.asarray(slope, np.float64)
    return -0.1 * (np.sign(slope) if name in ADAM else slope)


@each_optimizer
def test_an_nnx_layer_is_trained_with_its_bias(name):
    model: Any = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
    model.kernel[...] = layer(0)["kernel"]
    optimizer = nnx.Optimizer(model, WHOLE[name](0.05), wrt=nnx.Param)
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(16, 8)), jnp.float32)
    wanted = inputs @ layer(2)["kernel"] + 3.0

    @nnx.jit
    def step(model, optimizer):
        loss, gradients = nnx.value_and_grad(
            lambda model: jnp.mean((model(inputs) - wanted) ** 2)
        )(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    assert np.all(np.asarray(model.bias[...]) > 1.5)  # of 3
    kernel = np.asarray(model.kernel[...], np.float64)
    if name == "spectral_sphere":  # which keeps the largest singular value only
        np.testing.assert_allclose(np.linalg.norm(kernel, 2), 1.0, rtol=1e-5)
    else:
        lengths = np.linalg.norm(kernel, axis=0)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def of_linen(make) -> tuple[Any, Callable]:
    """Params of Linen lie in a dict of collections."""
    return make(0.1), lambda tree: {"params": {"dense": tree}}


def of_partition(make) -> tuple[Any, Callable]:
    groups: dict[Any, Any] = {"on": make(0.1), "off": optax.set_to_zero()}
    labels = {"layer": "on", "rest": "off"}
    return optax.partition(groups, labels), lambda tree: {"layer": tree, "rest": tree}


def of_masked(make) -> tuple[Any, Callable]:
    tx = optax.masked(make(0.1), {"layer": True, "rest": False})
    return tx, lambda tree: {"layer": tree, "rest": tree}


def of_steps(make) -> tuple[Any, Callable]:
    return optax.MultiSteps(make(0.1), 2), lambda tree: tree


COMPOSED = {
    "linen": of_linen,
    "partition": of_partition,
    "masked": of_masked,
    "multi-steps": of_steps,
}


@pytest.mark.parametrize("form", COMPOSED)
@each_optimizer
def test_biases_go_downhill_in_all_that_it_composes_with(name, form):
    transform, contain = COMPOSED[form](WHOLE[name])
    params, slopes = contain(layer(0)), contain(layer(1))
    update, state = jax.jit(transform.update), transform.init(params)
    for _ in range(2 if form == "multi-steps" else 1):
        updates, state = update(slopes, state, params)
    first = {"linen": "params", "multi-steps": None}.get(form, "layer")
    own: Any = updates if first is None else updates[first]
    own = own.get("dense", own)
    expected = first_step(layer(1)["bias"], name)
    np.testing.assert_allclose(own["bias"], expected, rtol=1e-5)
    assert np.max(np.abs(own["kernel"])) > 0.01
    if form == "partition":
        np.testing.assert_array_equal(updates["rest"]["bias"], np.zeros(4))
    if form == "masked":
        np.testing.assert_array_equal(updates["rest"]["bias"], layer(1)["bias"])


@each_optimizer
def test_hyperparams_can_be_injected_and_are_those_of_the_others_too(name):
    inject = optax.inject_hyperparams(WHOLE[name], static_args=STATIC[name])
    transform: Any = inject(0.3)
    params, slopes = layer(0), layer(1)
    update, state = jax.jit(transform.update), transform.init(params)
    state.hyperparams["learning_rate"] = jnp.float32(0.1)
    updates, _ = update(slopes, state, params)
    expected = first_step(slopes["bias"], name)
    np.testing.assert_allclose(updates["bias"], expected, rtol=1e-5)
    plain = WHOLE[name](0.1)
    alone, _ = plain.update(slopes, plain.init(params), params)
    np.testing.assert_allclose(updates["kernel"], alone["kernel"], atol=1e-6)


@each_optimizer
def test_a_mask_gives_leaves_to_the_others_which_may_be_any(name):
    mask = {"kernel": False, "bias": False, "frame": True}
    params = {**layer(0), "frame": layer(3)["kernel"]}
    slopes = {**layer(1), "frame": layer(4)["kernel"]}
    columns = {"frame": sx.neurons.NeuronDimensions()}
    transform = WHOLE[name](0.1, others=optax.sgd(2.0), mask=mask, neurons=columns)
    updates, _ = transform.update(slopes, transform.init(params), params)
    for leaf in ("kernel", "bias"):
        np.testing.assert_allclose(updates[leaf], -2.0 * slopes[leaf], rtol=1e-6)
    assert 0.01 < np.max(np.abs(updates["frame"])) < 0.5


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_lengths_stay_to_rounding_over_a_thousand_steps_of_bfloat16(name):
    scale = np.array([0.25, 1.0, 2.0, 7.0])
    kernel = jnp.asarray(np.asarray(layer(0)["kernel"]) * scale, jnp.bfloat16)
    transform = WHOLE[name](0.05)

    @jax.jit
    def train(params):
        def step(carry, key):
            params, state = carry
            slopes = jax.tree.map(
                lambda x: jax.random.normal(key, x.shape, x.dtype), params
            )
            updates, state = transform.update(slopes, state, params)
            return (optax.apply_updates(params, updates), state), ()

        keys = jax.random.split(jax.random.key(0), 1000)
        return jax.lax.scan(step, (params, transform.init(params)), keys)[0][0]

    def lengths(kernel):
        return np.linalg.norm(np.asarray(kernel, np.float64), axis=0)

    after = train({"kernel": kernel})["kernel"]
    assert np.max(np.abs(np.float64(after) - np.float64(kernel))) > 0.1
    eps = float(jnp.finfo(jnp.bfloat16).eps)
    np.testing.assert_allclose(lengths(after), lengths(kernel), rtol=eps)


def test_a_neuron_that_is_given_another_length_keeps_that_one():
    params, slopes = {"kernel": jnp.eye(3)}, {"kernel": jnp.ones((3, 3))}
    transform = WHOLE["sgd"](0.1)
    state = transform.init(params)
    other: Any = {"kernel": 3.0 * jnp.eye(3)}
    for _ in range(2):
        updates, state = transform.update(slopes, state, other)
        other = optax.apply_updates(other, updates)
    np.testing.assert_allclose(np.linalg.norm(other["kernel"], axis=0), 3.0, rtol=1e-6)


@each_optimizer
def test_a_group_without_matrices_is_allowed_where_one_says_so(name):
    params, slopes = {"bias": layer(0)["bias"]}, {"bias": layer(1)["bias"]}
    with pytest.raises(ValueError, match="neurons|must fit one leaf"):
        WHOLE[name](0.1).init(params)
    transform = WHOLE[name](0.1, allow_empty=True)
    updates, _ = transform.update(slopes, transform.init(params), params)
    expected = first_step(slopes["bias"], name)
    np.testing.assert_allclose(updates["bias"], expected, rtol=1e-5)


@each_optimizer
def test_map_params_maps_the_state_of_the_others_alone(name):
    """Only that is shaped like params, all other leaves are not."""
    transform = WHOLE[name](0.1, others=optax.scale_by_adam())
    state = transform.init(layer(0))
    mapped: Any = optax.tree.map_params(
        transform, lambda _: "params", state, transform_non_params=lambda _: "other"
    )
    assert mapped.count == "other"
    assert mapped.others.mu["bias"] == mapped.others.nu["bias"] == "params"
    assert mapped.others.count == "other"
