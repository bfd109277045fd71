"""Steepest descent on the spectral sphere: steps, tangency, optimality, corners."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import sphax as sx

spectral_sphere = sx.optim.spectral_sphere


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def msign(a):
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return u @ v


def top_pair(w):
    u, sigma, v = np.linalg.svd(w, full_matrices=False)
    return sigma[0], np.outer(u[:, 0], v[0])


def tangent_direction(m, pair):
    """By the root of the part along the pair, as it is written."""
    m = m / np.linalg.norm(m)
    bound = 2.0 * np.linalg.norm(m, "nuc") + 1e-9
    root: Any = optimize.brentq(
        lambda x: np.sum(pair * msign(m + x * pair)), -bound, bound, xtol=1e-15
    )
    return msign(m + root * pair)


def definition(w, slopes, rate, beta, *, radius, solve, nesterov):
    m, size = np.zeros_like(w), radius
    for g in slopes:
        sigma, pair = top_pair(w)
        size = sigma if size == "initial" else size
        m = beta * m + (1 - beta) * g
        ahead = beta * m + (1 - beta) * g if nesterov else m
        w = w * size / sigma
        move = tangent_direction(ahead, pair) if solve else msign(ahead)
        w = w - rate * size * move
        w = w * size / top_pair(w)[0]
    return w


CASES = {
    "mup, tall": ((6, 4), (4 / 6) ** 0.5 * 2.0, {"radius_scale": 2.0}),
    "initial, wide": ((3, 5), "initial", {"radius": "initial", "nesterov": True}),
    "zero": ((6, 4), 1.5, {"radius": 1.5, "multiplier": "zero", "nesterov": True}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(case):
    shape, radius, options = CASES[case]
    transform: Any = spectral_sphere(0.1, momentum=0.8, **options)
    kernel, slopes = draw(0, *shape), draw(1, 4, *shape)
    params: Any = {"kernel": kernel}
    state, update = transform.init(params), jax.jit(transform.update)
    for slope in slopes:
        updates, state = update({"kernel": slope}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
    solve, nesterov = options.get("multiplier") != "zero", "nesterov" in options
    expected = definition(
        kernel.T, slopes.mT, 0.1, 0.8, radius=radius, solve=solve, nesterov=nesterov
    )
    np.testing.assert_allclose(params["kernel"], expected.T, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_step_is_tangent_and_the_steepest_of_its_size():
    """Also where msign jumps over the solution, as for some of these square ones."""
    slopes, kernels = draw(2, 24, 4, 4), draw(3, 24, 4, 4)
    kernels /= np.linalg.norm(kernels, 2, axis=(1, 2), keepdims=True)
    transform: Any = spectral_sphere(
        1e-6, momentum=0.0, neurons=sx.neurons.NeuronDimensions(batch_axis=0)
    )
    params = {"kernel": kernels}
    updates, _ = transform.update({"kernel": slopes}, transform.init(params), params)
    jumps = 0
    for w, g, update in zip(kernels, slopes, updates["kernel"], strict=True):
        pair = top_pair(w)[1]
        direction = np.asarray(update) / 1e-6
        # The retraction adds a part along the kernel that is quadratic in the rate.
        assert abs(np.sum(pair * direction)) < 1e-4
        assert np.linalg.norm(direction, 2) < 1.0 + 1e-4
        # By duality, no direction does better than the smallest nuclear norm.
        bound = 2.0 * np.linalg.norm(g, "nuc")
        best: Any = optimize.minimize_scalar(
            lambda x, g=g, pair=pair: np.linalg.norm(g + x * pair, "nuc"),
            bounds=(-bound, bound),
            options={"xatol": 1e-12},
        )
        np.testing.assert_allclose(-np.sum(g * direction), best.fun, rtol=1e-4)
        sides = (msign(g + (best.x + e) * pair) for e in (-1e-5, 1e-5))
        jumps += np.linalg.norm(next(sides) - next(sides)) > 1.0
    assert jumps > 3


def test_corners_are_finite_and_stay_on_the_sphere():
    """A double top singular value, a zero gradient, and both."""
    twice = np.linalg.qr(draw(4, 6, 3))[0] * [1.0, 1.0, 0.5]
    params = {"kernel": jnp.float32(np.stack([twice, 3.0 * twice]))}
    transform: Any = spectral_sphere(
        0.1, radius=2.0, neurons=sx.neurons.NeuronDimensions(batch_axis=0)
    )
    update, state = jax.jit(transform.update), transform.init(params)
    slopes = jnp.float32(draw(5, 2, 6, 3)).at[1].set(0.0)
    updates, _ = update({"kernel": slopes}, state, params)
    new = np.asarray(params["kernel"] + updates["kernel"], np.float64)
    assert np.abs(new[0] - 2.0 * twice).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(new, 2, (1, 2)), 2.0, rtol=1e-6)
    np.testing.assert_allclose(new[1], 2.0 * twice, atol=1e-6)
    # A gradient that is not finite is seen in its own matrix.
    updates, _ = update({"kernel": slopes.at[0, 0, 0].set(jnp.nan)}, state, params)
    assert np.isnan(updates["kernel"]).all((1, 2)).tolist() == [True, False]


def test_a_matrix_of_zeros_has_no_norm_to_keep():
    params = {"kernel": jnp.zeros((3, 2))}
    keeping: Any = spectral_sphere(0.1, radius="initial")
    with pytest.raises(ValueError, match="a zero matrix at kernel"):
        keeping.init(params)

    @jax.jit
    def step(params):
        return keeping.update(params, keeping.init(params), params)[0]

    assert np.isnan(step(params)["kernel"]).all()
    assert not np.isnan(step({"kernel": jnp.eye(3, 2)})["kernel"]).any()


def test_heads_are_matrices_of_their_own():
    heads = sx.neurons.NeuronDimensions(batch_axis=1)
    kernel, slope = jnp.float32(draw(6, 8, 2, 4)), jnp.float32(draw(7, 8, 2, 4))

    def moved(kernel, slope, **options):
        transform: Any = spectral_sphere(0.1, multiplier="zero", **options)
        return transform.update(slope, transform.init(kernel), kernel)[0]

    together = moved(kernel, slope, neurons=heads)
    one = moved(kernel[:, 1], slope[:, 1], neurons=sx.neurons.NeuronDimensions())
    np.testing.assert_allclose(together[:, 1], one, atol=1e-6)
    lengths = np.linalg.norm(kernel + together, 2, (0, 2))
    np.testing.assert_allclose(lengths, (4 / 8) ** 0.5, rtol=1e-6)


def test_the_radius_may_be_injected():
    params = {"kernel": jnp.float32(draw(8, 3, 2))}
    injected: Any = optax.inject_hyperparams(
        spectral_sphere, static_args=("multiplier", "nesterov")
    )(0.1, radius=1.5, multiplier="zero")
    state = injected.init(params)
    state.hyperparams["radius"] = jnp.float32(2.5)
    updates, _ = injected.update(params, state, params)
    new = params["kernel"] + updates["kernel"]
    np.testing.assert_allclose(np.linalg.norm(new, 2), 2.5, rtol=1e-6)
