"""Energy in a chain and beside an optimizer: its value, its sign, where it applies.

What all transforms have in common is in ``test_transforms.py``.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

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
    transform = sx.optim.add_penalty_gradient(0.1, compressive, key=key)
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


# From here on with a penalty whose gradient is plain, the neurons themselves.


def square(rows, key):
    del key
    return 0.5 * jnp.sum(rows**2)


def first_update(transform, params) -> Any:
    """Of gradients that are zero."""
    zeros = optax.tree.zeros_like(params)
    return transform.update(zeros, transform.init(params), params)[0]


LAYERS: Any = {
    name: {"kernel": np.full((2, 2), 1.0)} for name in ("a", "b", "c", "head")
}


@pytest.mark.parametrize(
    ("weight", "reduce", "added"),
    [
        (8.0, "mean", {"a": 2, "b": 2, "c": 2, "head": 2}),
        (8.0, "sum", {"a": 8, "b": 8, "c": 8, "head": 8}),
        ({"": 6.0, "head": 10.0}, "mean", {"a": 2, "b": 2, "c": 2, "head": 10}),
        ({"": 6.0, "head": 10.0}, "sum", {"a": 6, "b": 6, "c": 6, "head": 10}),
        (
            {"": lambda step: 1.0 + step, "a/kernel": 5.0, "head": {"kernel": 0.0}},
            "sum",
            {"a": 5, "b": 1, "c": 1, "head": 0},
        ),
    ],
)
def test_weights_by_path(weight, reduce, added):
    transform = sx.optim.add_penalty_gradient(weight, square, reduce=reduce)
    new = first_update(transform, LAYERS)
    expected = {name: {"kernel": np.full((2, 2), x)} for name, x in added.items()}
    close(new, expected)


def test_a_mask_leaves_layers_out_of_the_mean():
    masks = {name: name in ("a", "b") for name in LAYERS}
    weight = {"": 8.0, "head": 10.0}  # what is masked may have one
    transform = sx.optim.add_penalty_gradient(weight, square, mask=masks)
    new = first_update(transform, LAYERS)
    for name, mask in masks.items():
        np.testing.assert_array_equal(new[name]["kernel"], np.full((2, 2), 4.0 * mask))


def test_every_third_step_has_three_times_the_gradient():
    plain = partial(sx.optim.add_penalty_gradient, 0.5, square, reduce="sum")
    injected = optax.inject_hyperparams(
        sx.optim.add_penalty_gradient, static_args="penalty"
    )
    transforms = [plain(every=3), injected(0.5, square, reduce="sum", every=3)]
    params = {"kernel": jnp.ones((2, 2))}
    zeros = optax.tree.zeros_like(params)
    for transform in transforms:
        step, state, added, values = jax.jit(transform.update), None, [], []
        state: Any = transform.init(params)
        for number in range(5):
            of_step = {"kernel": (1.0 + number) * params["kernel"]}
            new, state = step(zeros, state, of_step)
            added.append(float(new["kernel"][0, 0]))
            values.append(float(optax.tree.get(state, "values")["kernel"]))
        assert added == [1.5, 0.0, 0.0, 6.0, 0.0]
        assert values == [2.0, 2.0, 2.0, 32.0, 32.0]


def draws(rows, key):
    return jax.random.normal(key) + 0.5 * jnp.sum(rows**2)


def test_draws_depend_on_the_step_the_leaf_and_the_key_in_the_state():
    def run_on(transform, state, steps):
        seen = []
        for _ in range(steps):
            _, state = transform.update(LAYERS, state, LAYERS)
            seen += [float(value) for value in state.values.values()]
        return seen, state

    first, second = (
        sx.optim.add_penalty_gradient(1.0, draws, key=jax.random.key(seed))
        for seed in (0, 1)
    )
    all_draws, _ = run_on(first, first.init(LAYERS), 3)
    assert len(set(all_draws)) == 3 * len(LAYERS)
    _, state = run_on(first, first.init(LAYERS), 1)
    resumed, _ = run_on(second, state, 2)  # whatever key it was made with
    assert resumed == all_draws[len(LAYERS) :]


def test_a_key_goes_through_all_that_transforms_compose_with():
    add = sx.optim.add_penalty_gradient(1.0, draws, key=jax.random.key(0))
    chain = optax.chain(add, optax.sgd(0.1))
    steps = optax.MultiSteps(chain, every_k_schedule=2)
    grads, state = optax.tree.zeros_like(LAYERS), steps.init(LAYERS)
    for _ in range(2):
        new, state = jax.jit(steps.update)(grads, state, LAYERS)
    mean = {"kernel": np.full((2, 2), -0.1 / 4)}
    close(new, dict.fromkeys(LAYERS, mean))
    key = optax.tree.get(state, "key")
    assert jax.random.key_data(key).tolist() == [0, 0]

    model = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    before = np.asarray(model.kernel[...])
    partition = optax.partition({"all": chain}, lambda params: "all")
    optimizer = nnx.Optimizer(model, partition, wrt=nnx.Param)
    optimizer.update(model, optax.tree.zeros_like(nnx.state(model, nnx.Param)))
    np.testing.assert_allclose(model.kernel[...], 0.9 * before, rtol=1e-6)


def test_the_optimizer_does_not_see_what_is_decoupled():
    """Its updates and its state are those that it has alone."""
    params, adam = (
        {"kernel": jnp.ones((2, 2))},
        optax.adam(optax.constant_schedule(0.1)),
    )
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    descent = sx.optim.add_penalty_gradient(0.5, square)
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
        optax.identity(), 1.0, sx.optim.add_penalty_gradient(3.0, square)
    )
    update = {"kernel": jnp.full((2, 2), 3.0, jnp.bfloat16)}
    new: Any = transform.update(update, transform.init(params), params)[0]
    assert new["kernel"].dtype == jnp.bfloat16
    # 3 (1 + 2^-7) has one bit more than bfloat16; so has the difference, then exact.
    np.testing.assert_array_equal(
        np.float32(new["kernel"]), np.full((2, 2), -3 * 2**-7)
    )


@pytest.mark.parametrize(
    ("match", "weight", "options"),
    [
        ("got none for a/kernel", {"head": 1.0}, {}),
        ("weight must declare leaves of params, got tail", {"": 1.0, "tail": 1.0}, {}),
        ("reduce must be one of .*'max'", 1.0, {"reduce": "max"}),
    ],
)
def test_weights_that_do_not_fit(match, weight, options):
    transform = sx.optim.add_penalty_gradient(weight, square, **options)
    with pytest.raises(ValueError, match=match):
        transform.update(LAYERS, transform.init(LAYERS), LAYERS)


def test_hyperparams_out_of_range():
    for every in (0, 2.5):
        with pytest.raises(ValueError, match="every must be a whole number"):
            sx.optim.add_energy_gradient(1.0, every=every)
    with pytest.raises(
        ValueError, match="learning_rate must not be negative, got -0.1"
    ):
        sx.optim.decoupled_energy(optax.sgd(0.1), -0.1, 1.0)
    transform = sx.optim.add_energy_gradient(1.0, power=-1.0)
    with pytest.raises(ValueError, match="power must be 0 or more"):
        transform.update(LAYERS, transform.init(LAYERS), LAYERS)
