"""The energy experiment: what it adds to gradients, what it records, how it resumes."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    _data,
    _energies,
    _layers,
    _published,
    _remembering,
    _training,
    energy,
    report,
)
from experiments._regularizers import REGULARIZERS
from experiments._trace import trace


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def params():
    """Layers of three shapes, and what has no neurons."""
    return {
        "network": {
            "conv": {"kernel": jnp.asarray(draw(2, 2, 3, 5))},
            "linear": {"kernel": jnp.asarray(draw(6, 4, seed=1))},
            "norm": {"scale": jnp.ones(5)},
        },
        "head": {"prototypes": jnp.asarray(draw(3, 4, seed=2))},
    }


def rows_of(params):
    """Neurons by index, in float64."""
    conv, linear = (params["network"][name]["kernel"] for name in ("conv", "linear"))
    neurons = {
        "network/conv/kernel": [np.ravel(conv[..., i]) for i in range(5)],
        "network/linear/kernel": [linear[:, i] for i in range(4)],
        "head/prototypes": list(params["head"]["prototypes"]),
    }
    return {name: np.array(rows, float) for name, rows in neurons.items()}


def pair_energy(rows, power, half_space=False):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total, count = 0.0, 0
    for i, j in np.ndindex(len(rows), len(rows)):
        for sign in (1.0, -1.0) if half_space else (1.0,):
            if i != j:
                distance = np.linalg.norm(units[i] - sign * units[j])
                total += -np.log(distance) if power == 0 else distance**-power
                count += 1
    return float(total / count)


def test_neurons_of_a_classifier_and_their_masks(params):
    expected, found = rows_of(params), _layers.neurons(params)
    assert found.keys() == expected.keys()
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, expected[name])
    hidden, output = _layers.hidden(params), _layers.output(params)
    assert output["head"]["prototypes"]
    assert sum(jax.tree.leaves(output)) == 1
    assert jax.tree.map(lambda kept: not kept, output) == hidden


def test_energies_of_layers_against_pairs_one_by_one(params):
    found = _energies.of_params(params)
    for name, rows in rows_of(params).items():
        expected = [pair_energy(rows, 2, half_space) for half_space in (False, True)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_excess_over_random_neurons(params):
    # Of the chord and s = 2, random directions have (d - 2) / (2 (d - 3)).
    random = {"network/conv/kernel": 10 / 18, "network/linear/kernel": 4 / 6}
    random["head/prototypes"] = 2 / 2
    shares = {name: np.array([1.1, 1.3]) * value for name, value in random.items()}
    shares["network/linear/kernel"] = np.array([1.2, 0.9]) * 4 / 6
    shares["head/prototypes"] = np.array([0.5, 7.0])
    found = _energies.excess(shares, params)
    assert found == pytest.approx({"full": 15.0, "half": 10.0, "output": -50.0})
    # Simplices: 5 of 12, 4 of 6 and 3 of 4 dimensions have (n - 1) / (2 n).
    least = _energies.least(params)
    hidden = [100 * (0.4 * 18 / 10 - 1), 100 * (0.375 * 6 / 4 - 1)]
    assert least["full"] == pytest.approx(np.mean(hidden))
    assert least["output"] == pytest.approx(100 * (1 / 3 - 1))


def test_a_trace_keeps_every_so_many_values_and_changes_nothing():
    recorded = trace(lambda params: {"sum": jnp.sum(params)}, every=2, steps=5)
    updates = jnp.array([1.0, 2.0])

    @jax.jit
    def run(params):
        state = recorded.init(params)
        for _ in range(5):
            moved, state = recorded.update(updates, state, params)
            params = params + moved
        return params, state

    params, state = run(jnp.zeros(2))
    np.testing.assert_array_equal(params, [5.0, 10.0])
    np.testing.assert_array_equal(state.values["sum"], [0.0, 6.0, 12.0])


def test_a_penalty_with_a_memory_moves_its_layers_and_remembers(params):
    def pull(rows, memory):
        return 0.5 * jnp.sum((rows - memory) ** 2), 0.5 * (rows + memory)

    def start(key, rows):
        return jnp.zeros_like(rows)

    add = _remembering.add_gradient(3.0, pull, start, mask=_layers.hidden)
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = add.init(params)
    first: Any
    second: Any
    first, state = add.update(zeros, state, params)
    second, _ = add.update(first, state, params)
    for path in (("network", "conv"), ("network", "linear")):
        kernel, one, two = (
            tree[path[0]][path[1]]["kernel"] for tree in (params, first, second)
        )
        np.testing.assert_allclose(one, 3.0 * kernel, rtol=1e-6)
        # The memory is half the way to the rows.
        np.testing.assert_allclose(two, 4.5 * kernel, rtol=1e-6)
    np.testing.assert_array_equal(second["head"]["prototypes"], 0.0)
    np.testing.assert_array_equal(second["network"]["norm"]["scale"], 0.0)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_fits_a_classifier(name, params):
    """Without compiling: shapes and dtypes of updates and state stay."""

    def steps(params):
        for add in REGULARIZERS[name].gradients(2.0):
            state = add.init(params)
            updates, new = add.update(params, state, params)
            assert jax.tree.structure(new) == jax.tree.structure(state)
            yield updates

    for updates in jax.eval_shape(lambda params: list(steps(params)), params):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == jax.tree.map(
            lambda x: (x.shape, x.dtype), params
        )


def test_the_gradient_is_that_of_the_weighted_sum_over_layers(params):
    parts = REGULARIZERS["mhe-0-half"].gradients(0.5)
    direction = jax.tree.map(lambda x: jnp.asarray(draw(*x.shape, seed=7)), params)

    @jax.jit
    def gradient(params):
        updates = jax.tree.map(jnp.zeros_like, params)
        for add in parts:
            updates, _ = add.update(updates, add.init(params), params)
        return updates

    def total(step):
        moved = jax.tree.map(lambda x, v: np.asarray(x) + step * v, params, direction)
        *hidden, output = rows_of(moved).values()
        # The authors' logarithm is of the squared distance.
        lines = sum(pair_energy(rows, 0, half_space=True) for rows in hidden)
        return 0.5 * (2.0 * lines + 20.0 * pair_energy(output, 0))

    found = jax.tree.map(lambda g, v: jnp.sum(g * v), gradient(params), direction)
    slope = (total(1e-3) - total(-1e-3)) / 2e-3
    assert float(sum(jax.tree.leaves(found))) == pytest.approx(slope, rel=1e-3)


def test_weights_are_the_authors():
    weights = {
        name: (own.hidden.weight, own.output.weight)
        for name, own in REGULARIZERS.items()
        if own.hidden and own.output
    }
    assert weights["mhe-2"] == weights["mhe-1-half"] == (1.0, 10.0)
    assert weights["rp-comhe"] == weights["adversarial-comhe"] == (1.0, 10.0)
    # 0.1 times the inverse of an angle in units of pi.
    assert weights["angular-mhe-1"] == pytest.approx((0.1 * math.pi, math.pi))
    assert weights["separation"] == (0.1, 1.0)
    assert weights["gram-determinant"] == weights["covering"] == (0.01, 0.1)
    assert REGULARIZERS.keys() - weights.keys() == {"none", "decay"}


def test_the_preset_is_the_authors_recipe():
    config = energy.Config(preset="cnn-9", dataset="cifar100")
    short, long = config.run("mhe-2"), config.run("rp-comhe")
    assert (short.steps, short.drops) == (42_500, (20_000, 30_000, 37_500))
    assert (long.steps, long.drops) == (75_000, (30_000, 50_000, 65_000))
    assert (short.learning_rate, short.batch, short.weight_decay) == (0.1, 128, 5e-4)
    design: Any = config.design((32, 32, 3))
    widths = [(stage.features, stage.repeats) for stage in design.stages]
    assert (widths, design.features) == ([(64, 3), (128, 3), (256, 3)], 256)
    assert _published.ENERGIES["cifar100"].keys() <= REGULARIZERS.keys()
    told = dataclasses.replace(config, steps=10)
    assert told.run("rp-comhe").steps == told.run("mhe-2").steps == 10


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(regularizers=()), "must name at least one, such as mhe-2"),
        (dict(regularizers=("mhe",)), r"must be of none, decay, .*; got 'mhe'"),
        (dict(steps=0), "steps must be positive, got 0"),
        (dict(strength=-1.0), r"strength must be positive, got -1\.0"),
        (dict(preset="cnn-9"), "is for cifar10 or cifar100, not digits"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        energy.Config(**setting)


@pytest.mark.slow
def test_goes_on_where_it_was_killed_and_leaves_its_results(tmp_path, monkeypatch):
    digits = _data.load("digits")
    few = _data.Images(*(part[:40] for part in digits.test))
    small = dataclasses.replace(digits, test=few)
    monkeypatch.setattr(_data, "load", lambda name, data_dir: small)
    config = energy.Config(
        regularizers=("polarization",),
        seeds=2,
        steps=3,
        checkpoint_every=1,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )
    step, steps = _training._step_one, []

    def killed(*arguments):
        steps.append(None)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(_training, "_step_one", killed)
    with pytest.raises(KeyboardInterrupt):
        energy.train(config)
    results = energy.train(config)
    # Five before it was killed, and the last one of six after it.
    assert len(steps) == 6 + 1
    path = config.result(".json")
    assert path.name == "energy_quick_digits.json"
    assert json.loads(path.read_text()) == results
    assert str(tmp_path) not in path.read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(config.checkpoints.iterdir())
    (run,) = results["runs"].values()
    curve, ends = run["curves"]["full"], run["excess"]["full"]
    # Before each step, and after the last: the mean over the seeds.
    assert len(curve) == 4
    assert curve[-1] == pytest.approx(np.mean(ends))
    assert curve[0] != curve[-1]
    assert len(set(ends)) == 2
    assert min(curve) > results["least"]["full"]
    text = report.rewrite("<!-- energy_quick_digits -->\n<!-- end -->", config.results)
    assert "| maximum polarisation | " in text
    flags = "--regularizers polarization --seeds 2 --steps 3 --checkpoint-every 1"
    assert f"`python -m experiments.energy {flags}`" in text
