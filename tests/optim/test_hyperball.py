"""Hyperball: steps of a fixed angle on matrices, or neurons, of constant norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions

project: Any = sx.optim.project_to_norm
HEADS = {"query/kernel": NeuronDimensions(batch_axis=1)}
RATES = np.linspace(0.1, 1.0, 10)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def norms(w, per):
    return np.linalg.norm(w, axis=(1,) if per == "neuron" else (0, 1), keepdims=True)


def definition(w, updates, *, per="matrix", norm=None, learning_rate: Any = 0.0):
    """All steps of one matrix, neurons as rows."""
    kept = norms(w, per) if norm is None else norm
    for rate, u in zip(RATES, updates, strict=True):
        if learning_rate is not None:
            u = rate * kept * u / norms(u, per)
        w = kept * (w + u) / norms(w + u, per)
    return w


OPTIONS: list[dict[str, Any]] = [
    {},
    {"per": "neuron"},
    {"norm": 2.0},
    {"learning_rate": None, "per": "neuron"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(options):
    options_of = {"learning_rate": lambda step: jnp.asarray(RATES)[step], **options}
    transform = optax.chain(optax.sgd(0.1), project(**options_of, neurons=HEADS))
    params: Any = {"query": {"kernel": draw(0, 5, 2, 3), "bias": draw(1, 2, 3)}}
    gradients = jax.tree.map(lambda x: draw(2, 10, *x.shape), params)

    @jax.jit
    def train(params):
        def step(carry, gradients):
            params, state = carry
            updates, state = transform.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), ()

        return jax.lax.scan(step, (params, transform.init(params)), gradients)[0][0]

    after = train(params)["query"]
    for head in range(2):
        w, g = (x["query"]["kernel"][..., head, :].mT for x in (params, gradients))
        expected = definition(w, -0.1 * g, **options)
        np.testing.assert_allclose(after["kernel"][:, head].T, expected, rtol=1e-12)
    slopes = gradients["query"]["bias"].sum(0)
    expected = params["query"]["bias"] - 0.1 * slopes
    np.testing.assert_allclose(after["bias"], expected, rtol=1e-12)


def update_of(transform, update, kernel):
    """The new kernel."""
    params: Any = {"kernel": jnp.asarray(kernel, jnp.float32)}
    updates = {"kernel": jnp.asarray(update, jnp.float32)}
    new: Any = transform.update(updates, transform.init(params), params)[0]
    return np.asarray(params["kernel"] + new["kernel"])


def test_without_a_rate_it_keeps_params_on_the_sphere():
    u, w = draw(0, 3, 4), draw(1, 3, 4)
    kept = update_of(sx.optim.keep_params_on_sphere(1.5), u, w)
    np.testing.assert_array_equal(
        update_of(project(per="neuron", norm=1.5), u, w), kept
    )


def test_the_rate_is_the_tangent_of_the_angle_of_a_tangent_step():
    w = draw(0, 6, 4)
    for per, axis in {"neuron": 0, "matrix": None}.items():
        u = draw(1, 6, 4)
        along = np.sum(u * w, axis, keepdims=True) / np.sum(w * w, axis, keepdims=True)
        new = update_of(project(0.3, per=per), 100.0 * (u - along * w), w)
        lengths = np.linalg.norm(w, axis=axis) * np.linalg.norm(new, axis=axis)
        cosines = np.sum(new * w, axis) / lengths
        np.testing.assert_allclose(np.arccos(cosines), np.arctan(0.3), rtol=1e-5)


def test_zero_updates_project_and_a_matrix_moved_to_the_origin_stays():
    w = draw(0, 3, 4)
    for transform in (project(0.1), project(0.1, per="neuron"), project()):
        np.testing.assert_allclose(update_of(transform, 0.0 * w, w), w, rtol=1e-6)
    projected = update_of(project(0.1, norm=2.0), 0.0 * w, w)
    np.testing.assert_allclose(projected, 2.0 * w / np.linalg.norm(w), rtol=1e-6)
    w = np.array([[3.0, 4.0]])  # of norm 5, exactly
    np.testing.assert_array_equal(update_of(project(1.0), -w, w), w)
    np.testing.assert_array_equal(update_of(project(), -w, w), w)


@pytest.mark.parametrize("rate", [0.1, None])
def test_a_norm_of_zero_is_an_error_or_nan_but_no_standstill(rate):
    kernel = jnp.zeros((3, 4)).at[0, 0].set(1.0)
    with pytest.raises(ValueError, match="got a zero neuron at a/kernel of shape"):
        project(rate, per="neuron").init({"a": {"kernel": kernel}})

    @jax.jit
    def step(updates, params):
        transform = project(rate, per="neuron")
        return transform.update(updates, transform.init(params), params)[0]

    for update in (0.0, 1.0):
        updates = {"a": {"kernel": jnp.full((3, 4), update)}}
        new = step(updates, {"a": {"kernel": kernel}})["a"]["kernel"]
        assert np.all(np.isnan(new[:, 1:]))
        assert np.all(np.isfinite(new[:, 0]))
