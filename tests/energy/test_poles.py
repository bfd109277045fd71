"""Poles of polarisation and covering: how they are found, and what they are worth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

N, D = 6, 3
POLES = np.array([[0.3, -0.5, 0.8], [-0.6, 0.2, 0.1]])
POINTS = np.random.default_rng(5).normal(size=(N, D))


def potential(squares):
    return -np.mean(squares ** (-0.5 * 3.0))


def covering(squares):
    return -np.log(np.mean(np.exp(-4.0 * squares))) / 4.0


SEARCHES = {
    "polarization": partial(sx.energy.polarization, power=3.0, learning_rate=0.05),
    "covering": partial(sx.energy.covering, sharpness=4.0, learning_rate=0.05),
}
OBJECTIVES = {"polarization": potential, "covering": covering}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.usefixtures("x64")
def test_poles_descend_as_written(name):
    x, steps = POINTS, 3

    def maximised(v):
        squares = np.sum((reference.directions(x) - reference.directions(v)) ** 2, 1)
        return OBJECTIVES[name](squares)

    expected = []
    for v in reference.directions(POLES):
        velocity = np.zeros(D)
        for _ in range(steps):
            velocity = 0.9 * (velocity - (v @ velocity) * v)
            velocity += 0.05 * reference.numerical_gradient(maximised, v)
            v = reference.directions(v + velocity)
        expected.append(v)
    energy, poles = jax.jit(partial(SEARCHES[name], steps=steps))(x, POLES)
    np.testing.assert_allclose(poles, expected, rtol=1e-6)
    np.testing.assert_allclose(energy, max(map(maximised, expected)), rtol=1e-6)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_gradient_is_that_at_the_found_poles(name):
    x, start = (jnp.asarray(a, jnp.float32) for a in (POINTS, POLES))

    @jax.jit
    def step(poles, steps):
        # The pair is what `has_aux` takes.
        search = partial(SEARCHES[name], poles=poles, steps=steps)
        return jax.value_and_grad(search, has_aux=True)(x)

    (energy, poles), gradient = step(start, 20)
    np.testing.assert_allclose(jnp.linalg.norm(poles, axis=1), 1.0, rtol=1e-6)
    (same, _), expected = step(poles, 0)
    np.testing.assert_allclose(energy, same, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert energy > step(start, 0)[0][0]
    (_, poles), _ = jax.eval_shape(step, start.astype(jnp.bfloat16), 20)
    assert poles.dtype == jnp.bfloat16


@pytest.mark.usefixtures("x64")
def test_poles_find_the_holes_of_the_cross_polytope():
    """At (1, ..., 1) / sqrt(d)."""
    points, gaps = (
        np.concatenate([np.eye(D), -np.eye(D)]),
        (2 - 2 * D**-0.5, 2 + 2 * D**-0.5),
    )
    search = {"steps": 400, "momentum": 0.5}
    polarization = jax.jit(partial(sx.energy.polarization, **search))
    energy, _ = polarization(points, POLES)
    np.testing.assert_allclose(energy, -D / (2 * (D - 1)), rtol=1e-6)
    covering = jax.jit(partial(sx.energy.covering, half_space=True, **search))
    energy, poles = covering(points[:D], POLES)
    expected = -np.log(np.mean(np.exp(np.multiply(-10.0, gaps)))) / 10.0
    np.testing.assert_allclose(energy, expected, rtol=1e-6)
    np.testing.assert_allclose(np.abs(poles), D**-0.5, rtol=1e-4)


ERRORS = [
    (ValueError, "sharpness must be positive or None", "covering", {"sharpness": 0.0}),
    (ValueError, "power must be positive, got 0", "polarization", {"power": 0}),
    (ValueError, "steps must be 0 or more, got -1", "polarization", {"steps": -1}),
    (ValueError, "learning_rate must be positive", "covering", {"learning_rate": 0.0}),
    (ValueError, r"momentum must lie in \[0, 1\), got 1", "covering", {"momentum": 1}),
    (TypeError, "poles must be floating", "covering", {"poles": np.ones((1, 2), int)}),
    (
        ValueError,
        r"poles must be .* got poles \(1, 3\) and points \(2, 2\)",
        "covering",
        {"poles": np.ones((1, 3))},
    ),
]


@pytest.mark.parametrize(("error", "match", "name", "arguments"), ERRORS)
def test_errors_teach(error, match, name, arguments):
    arguments = {"points": np.ones((2, 2)), "poles": np.ones((1, 2)), **arguments}
    with pytest.raises(error, match=match):
        getattr(sx.energy, name)(**arguments)
