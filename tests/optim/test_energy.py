"""The energy in a chain and beside an optimizer: its value, its sign, its layers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests import reference
from tests.optim.transforms import PROTOTYPES, applied, close, draw, run


def energy(w, power=1.0):
    """Mean over ordered pairs of the chords to a power, of the rows of ``w``."""
    chords = 2.0 * np.sin(0.5 * reference.angles(w, w))
    return np.mean(chords[~np.eye(len(w), dtype=bool)] ** -power)


def gradient(w, power=1.0):
    return reference.numerical_gradient(partial(energy, power=power), w)


def rows_of(params):
    """The neurons of the three layers of `draw`."""
    conv, dense = params["conv"]["kernel"], params["dense"]["kernel"]
    return {
        "conv/kernel": conv.reshape(-1, 4).T,
        "dense/kernel": dense.T,
        "head/prototypes": params["head"]["prototypes"],
    }


@pytest.mark.usefixtures("x64")
def test_the_mean_over_layers_is_that_of_the_loss_term():
    """Values, updates and the gradient of the loss term, against the definition."""
    updates, params = draw(0, np.float64), draw(1, np.float64)
    rows = rows_of(params)
    transform = sx.optim.add_energy_gradient(0.6, power=1.5, neurons=PROTOTYPES)

    @jax.jit
    def step(updates, params):
        new, state = transform.update(updates, transform.init(params), params)
        of_params = partial(sx.energy.energy_of_params, power=1.5, neurons=PROTOTYPES)
        return new, state, jax.value_and_grad(of_params)(params)

    new, state, (loss, slopes) = step(updates, params)
    values = {name: energy(w, 1.5) for name, w in rows.items()}
    close(state.values, values, rtol=1e-6)
    np.testing.assert_allclose(loss, np.mean(list(values.values())), rtol=1e-12)
    for name, moved in rows_of(new).items():
        added = 0.6 / 3 * gradient(rows[name], 1.5)
        expected = rows_of(updates)[name] + added
        np.testing.assert_allclose(moved, expected, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(0.6 * rows_of(slopes)[name], added, atol=1e-9)
        tangent = np.sum(added * rows[name], axis=1)
        np.testing.assert_allclose(tangent, np.zeros(len(tangent)), atol=1e-9)
    np.testing.assert_array_equal(new["conv"]["bias"], updates["conv"]["bias"])


def test_the_sum_counts_every_layer_and_every_head_in_full():
    kernel = np.random.default_rng(0).normal(size=(3, 2, 4))  # two heads
    params = {"query": kernel, "kernel": kernel[:, 0], "bias": np.ones(4)}
    query = {"query": NeuronDimensions(index_axis=2, vector_axis=0)}
    heads = [energy(kernel[:, head].T) for head in (0, 1)]

    @jax.jit
    def losses(params):
        of_params = partial(sx.energy.energy_of_params, params, neurons=query)
        return of_params(), of_params(reduce="sum")

    mean, total = losses(params)
    np.testing.assert_allclose(mean, np.mean([np.mean(heads), heads[0]]), rtol=1e-5)
    np.testing.assert_allclose(total, np.sum(heads) + heads[0], rtol=1e-5)


def train(transform, steps):
    """Energies of a crowded kernel, the only thing that the loss is about."""
    kernel = np.random.default_rng(0).normal(size=(3, 6)) + 1.0
    params = {"kernel": jnp.asarray(kernel, jnp.float32)}

    @jax.jit
    def run_all(params):
        def step(carry, _):
            params, state = carry
            grads = optax.tree.zeros_like(params)
            updates, state = transform.update(grads, state, params)
            values = optax.tree.get(state, "values")
            return (applied(params, updates), state), values["kernel"]

        return jax.lax.scan(step, (params, transform.init(params)), length=steps)[1]

    values = np.asarray(run_all(params))
    np.testing.assert_allclose(values[0], energy(kernel.T), rtol=1e-5)
    return values


@pytest.mark.parametrize(
    "transform",
    [
        optax.chain(sx.optim.add_energy_gradient(1.0), optax.sgd(1.0)),
        optax.chain(sx.optim.add_energy_gradient(1.0), optax.adam(0.05)),
        sx.optim.decoupled_energy(optax.sgd(1.0), 1.0, 1.0),
        sx.optim.decoupled_energy(optax.adam(0.05), 1.0, 1.0),
    ],
    ids=["sgd", "adam", "beside sgd", "beside adam"],
)
def test_both_documented_forms_lower_the_energy(transform):
    values = train(transform, steps=200)
    assert values[0] > 1.4
    assert values[-1] < 0.675  # an octahedron has 0.6657


def test_behind_an_optimizer_the_gradient_pushes_uphill():
    """Which is why there is a decoupled form."""
    wrong = optax.chain(optax.adam(0.05), sx.optim.add_energy_gradient(0.003))
    values = train(wrong, steps=15)
    assert np.all(np.diff(values) > 0)
    assert values[-1] > 1.1 * values[0]


def test_compressive_energies_draw_new_projections_and_lower_the_energy():
    def compressive(rows, key):
        projections = sx.energy.random_projections(key, rows.shape[1], 2, count=8)
        return sx.energy.compressive_energy(rows, projections, half_space=False)

    key = jax.random.key(0)
    kernel = np.random.default_rng(0).normal(size=(8, 6)) + 1.0
    params = {"kernel": jnp.asarray(kernel, jnp.float32)}
    transform = sx.optim.add_penalty_gradient(compressive, 0.1, key=key)
    step, values = jax.jit(transform.update), []
    state: Any = transform.init(params)
    for _ in range(60):
        grads, state = step(optax.tree.zeros_like(params), state, params)
        params = applied(params, optax.tree.scale(-1.0, grads))
        values.append(float(state.values["kernel"]))
    assert len(set(values)) == 60
    assert energy(np.float64(params["kernel"].T)) < 0.9 * energy(kernel.T)


def test_injected_hyperparams_are_traced_once():
    make = optax.inject_hyperparams(sx.optim.decoupled_energy)
    transform = make(optax.identity(), learning_rate=1.0, weight=1.0, power=2)
    w, traces = np.random.default_rng(0).normal(size=(4, 3)), []
    params = {"kernel": jnp.asarray(w.T, jnp.float32)}

    @jax.jit
    def step(state, params):
        traces.append(1)
        return transform.update(optax.tree.zeros_like(params), state, params)

    state: Any = transform.init(params)
    for power in (2, 1, 5):
        state.hyperparams["power"] = jnp.int32(power)
        state.hyperparams["learning_rate"] = jnp.float32(0.1)
        updates, state = step(state, params)
        expected = -0.1 * gradient(w, float(power))
        np.testing.assert_allclose(updates["kernel"].T, expected, rtol=1e-3, atol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_coincident_antipodal_and_zero_neurons_are_finite(dtype):
    row = [0.6, 0.8, 0.0]
    rows = [row, row, [-x for x in row], [0.0] * 3, [0.0, 0.0, 1.0]]
    params = {"kernel": jnp.asarray(rows, dtype).T}
    transform = sx.optim.add_energy_gradient(1.0, distance="geodesic", half_space=True)
    new, state = run(transform, optax.tree.zeros_like(params), params)
    assert new["kernel"].dtype == dtype
    assert np.all(np.isfinite(np.float32(new["kernel"])))
    assert np.isfinite(state.values["kernel"])
    np.testing.assert_array_equal(np.float32(new["kernel"][:, 3]), np.zeros(3))


def test_kernels_without_pairs_or_angles_have_no_energy():
    kernels = {"one": (5, 1), "flat": (1, 5), "both": (3, 4)}
    params = {name: {"kernel": np.ones(shape)} for name, shape in kernels.items()}
    state: Any = sx.optim.add_energy_gradient(1.0).init(params)
    assert list(state.values) == ["both/kernel"]
    del params["both"]
    for make in (sx.optim.add_energy_gradient(1.0).init, sx.energy.energy_of_params):
        with pytest.raises(ValueError, match="2 neurons of 2 dimensions or more; got"):
            make(params)
