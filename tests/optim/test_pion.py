"""Pion: its steps, and how far the series of the authors' code leaves the spectrum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import sphax as sx
from sphax.neurons import NeuronDimensions

EPS, RMS, RATES = 1e-3, 0.7, (0.25, 0.5, 0.75, 0.25, 0.5, 0.75, 0.25, 0.5, 0.75, 0.25)
HEADS = {"query/kernel": NeuronDimensions(batch_axis=1)}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def rotation_of(a, rotation, degree) -> np.ndarray:
    if rotation == "series":
        powers = [np.eye(len(a))]
        for i in range(1, degree + 1):
            powers.append(powers[-1] @ a / i)
        return np.sum(powers, axis=0)
    if rotation == "exponential":
        return scipy.linalg.expm(a)
    return np.linalg.solve(np.eye(len(a)) - a / 2, np.eye(len(a)) + a / 2)


def definition(
    w,
    gradients,
    *,
    rotation="cayley",
    degree=2,
    sides="both",
    moments="lie",
    second_moment=True,
):
    """All steps of one matrix, neurons as rows, written as they are read."""

    def skew(h):
        return {"in": w.T @ h - h.T @ w, "out": h @ w.T - w @ h.T}

    def adam(m, v, g, squared):
        m = 0.8 * m + 0.2 * g
        v = 0.9 * v + 0.1 * (m if squared == "m" else g) ** 2
        return m, v, m / (np.sqrt(v) + EPS) if second_moment else m

    m: dict[str, Any] = {"in": 0.0, "out": 0.0, "w": 0.0}
    v: dict[str, Any] = dict(m)
    for step, (rate, g) in enumerate(zip(RATES, gradients, strict=True), 1):
        if moments == "lie":
            a = {}
            for side, generator in skew(g).items():
                m[side], v[side], h = adam(m[side], v[side], generator, "g")
                a[side] = -h
        else:
            m["w"], v["w"], h = adam(m["w"], v["w"], g, "m")
            a = {side: -generator for side, generator in skew(h).items()}
        taken = {"both": "in out", "alternate": "in" if step % 2 else "out"}
        for side in a:
            if side not in taken.get(sides, sides).split():
                a[side] = np.zeros_like(a[side])
        slope = a["out"] @ w + w @ a["in"]
        alpha = rate * RMS * np.sqrt(w.size) / np.linalg.norm(slope)
        out, into = (rotation_of(alpha * a[s], rotation, degree) for s in ("out", "in"))
        w = out @ w @ into
        m["w"] = out @ m["w"] @ into if moments == "ambient" else m["w"]
    return w


OPTIONS: list[dict[str, Any]] = [
    {},
    {"rotation": "exponential", "second_moment": False},
    {"rotation": "series", "sides": "in"},
    {"rotation": "series", "degree": 4, "sides": "out", "moments": "ambient"},
    {"sides": "alternate"},
    {"sides": "alternate", "moments": "ambient"},
    {"rotation": "exponential", "moments": "ambient", "second_moment": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(options):
    transform = sx.optim.pion(
        lambda step: jnp.asarray(RATES)[step],
        b1=0.8,
        b2=0.9,
        eps=EPS,
        rms=RMS,
        neurons=HEADS,
        others=optax.sgd(0.1),
        **options,
    )
    params: Any = {"query": {"kernel": draw(0, 5, 2, 3), "bias": draw(1, 2, 3)}}
    gradients = jax.tree.map(lambda x: draw(3, len(RATES), *x.shape), params)

    @jax.jit
    def train(params):
        def step(carry, gradients):
            params, state = carry
            updates, state = transform.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), ()

        return jax.lax.scan(step, (params, transform.init(params)), gradients)[0][0]

    after: Any = train(params)
    close = np.testing.assert_allclose
    # Each head is a matrix.
    for head in range(2):
        w, g = (x["query"]["kernel"][..., head, :].mT for x in (params, gradients))
        expected = definition(w, g, **options)
        close(after["query"]["kernel"][:, head].T, expected, rtol=1e-9, atol=1e-12)
    slopes = gradients["query"]["bias"].sum(0)
    close(after["query"]["bias"], params["query"]["bias"] - 0.1 * slopes, rtol=1e-9)


def drift_of(steps, **options):
    """Function of a rate, the largest relative change of a singular value."""

    @jax.jit
    def train(kernel, rate):
        transform = sx.optim.pion(
            rate, neurons=NeuronDimensions(), others=optax.sgd(0.1), **options
        )

        def step(carry, key):
            kernel, state = carry
            gradient = jax.random.normal(key, kernel.shape)
            update, state = transform.update(gradient, state, kernel)
            return (optax.apply_updates(kernel, update), state), ()

        keys = jax.random.split(jax.random.key(0), steps)
        return jax.lax.scan(step, (kernel, transform.init(kernel)), keys)[0][0]

    def drift(rate):
        first = jnp.asarray(draw(0, 12, 8) / 20, jnp.float32)
        with jax.numpy_dtype_promotion("strict"):
            kernels = first, train(first, rate)
        before, after = (
            np.linalg.svd(np.float64(x), compute_uv=False) for x in kernels
        )
        return np.max(np.abs(after / before - 1.0))

    return drift


def test_the_series_moves_singular_values_and_rotations_do_not():
    assert drift_of(1000, rotation="series")(0.02) > 1e-3
    rates = 0.02, 1e3  # of the latter, steps are nearly half turns
    for rotation, steps in {"cayley": 1000, "exponential": 10}.items():
        drift = drift_of(steps, rotation=rotation)
        assert max(map(drift, rates)) < 5e-5


def test_zero_gradients_move_nothing_and_dtypes_are_kept():
    params = {"kernel": jnp.asarray(draw(0, 6, 4), jnp.bfloat16)}
    gradients = {"kernel": jnp.asarray(draw(1, 6, 4), jnp.bfloat16)}
    transform = sx.optim.pion(0.1)
    step: Any = jax.jit(transform.update)
    state: Any = transform.init(params)
    zeros = optax.tree.zeros_like(params)
    updates, after = step(zeros, state, params)
    np.testing.assert_array_equal(updates["kernel"], np.zeros((6, 4)))
    assert updates["kernel"].dtype == jnp.bfloat16
    moment_dtypes = {x.dtype for x in jax.tree.leaves((after.mu, after.nu))}
    assert moment_dtypes == {jnp.dtype(jnp.float32)}
    assert jax.tree.structure(state) == jax.tree.structure(after)
    # By rounding to bfloat16.
    eager: Any = transform.update(gradients, after, params)[0]
    compiled = step(gradients, after, params)[0]
    for updates in (eager, compiled):
        size = np.sqrt(np.mean(np.float32(updates["kernel"]) ** 2))
        np.testing.assert_allclose(size, 0.1 * 0.2, rtol=0.02)
    np.testing.assert_allclose(
        np.float32(eager["kernel"]), np.float32(compiled["kernel"]), atol=2e-4
    )
