"""What optimizers keep over a thousand steps of random gradients: add a row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions

so: Any = sx.optim
HEADS = {"heads/kernel": NeuronDimensions(batch_axis=1)}
MATRICES: Any = {"heads": {"kernel": optax.contrib.MuonDimensionNumbers(0, 2)}}
MATRICES["heads"]["bias"] = None
MUON = optax.contrib.muon(1.0, muon_weight_dimension_numbers=MATRICES)


class Row(NamedTuple):
    """An optimizer, what it keeps of a matrix, neurons as rows, and how well."""

    make: Callable[[], optax.GradientTransformationExtraArgs]
    change: Callable[[np.ndarray, np.ndarray], Any]  # from the first to the last
    tolerance: float


def of_norm(before, after):
    return np.linalg.norm(after) / np.linalg.norm(before) - 1.0


def of_lengths(before, after):
    return np.linalg.norm(after, axis=1) / np.linalg.norm(before, axis=1) - 1.0


def of_spectrum(before, after):
    before, after = (np.linalg.svd(w, compute_uv=False) for w in (before, after))
    return after / before - 1.0


def from_mup(before, after):
    del before
    n, d = after.shape
    return np.linalg.norm(after, 2) / (n / d) ** 0.5 - 1.0


def from_frames(before, after):
    del before
    return after @ after.T - np.eye(len(after))


def hyperball(base, **options):
    return lambda: optax.chain(base, so.project_to_norm(0.02, neurons=HEADS, **options))


def pion(**options):
    return lambda: so.pion(0.02, neurons=HEADS, **options)


ROWS = {
    "AdamH": Row(hyperball(optax.adam(1.0)), of_norm, 1e-5),
    "MuonH": Row(hyperball(MUON), of_norm, 1e-5),
    "AdamH, neurons": Row(hyperball(optax.adam(1.0), per="neuron"), of_lengths, 1e-5),
    "pion": Row(pion(), of_spectrum, 5e-5),
    "pion, exponential": Row(pion(rotation="exponential"), of_spectrum, 5e-5),
    "pion, alternate, ambient": Row(
        pion(sides="alternate", moments="ambient"), of_spectrum, 5e-5
    ),
    "spectral_sphere": Row(
        lambda: so.spectral_sphere(0.02, neurons=HEADS), from_mup, 1e-5
    ),
    "MuonSphere": Row(
        lambda: so.spectral_sphere(0.02, multiplier="zero", neurons=HEADS),
        from_mup,
        1e-5,
    ),
    "stiefel_muon": Row(
        lambda: so.stiefel_muon(0.02, dual_steps=4, neurons=HEADS), from_frames, 1e-5
    ),
    "riemannian_adam": Row(
        lambda: so.riemannian_adam(0.02, neurons=HEADS), of_lengths, 1e-5
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_thousand_steps_keep_it(name):
    row = ROWS[name]
    transform = row.make()
    kernel = np.random.default_rng(0).normal(size=(8, 2, 5)) / 4
    params: Any = {"heads": {"kernel": jnp.float32(kernel), "bias": jnp.zeros((2, 5))}}

    @jax.jit
    def train(params: Any) -> Any:
        def step(carry, key):
            params, state = carry
            gradients = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params)
            updates, state = transform.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), ()

        keys = jax.random.split(jax.random.key(0), 1000)
        return jax.lax.scan(step, (params, transform.init(params)), keys)[0][0]

    heads = (
        np.asarray(x["heads"]["kernel"], np.float64) for x in (params, train(params))
    )
    for first, last in zip(*(x.transpose(1, 2, 0) for x in heads), strict=True):
        assert np.linalg.norm(last - first) > 0.2 * np.linalg.norm(first)
        assert np.max(np.abs(row.change(first, last))) <= row.tolerance
