"""The energy study: what it adds to gradients, what it records, and a short run."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import images, store
from experiments.energy import config, regularizers, report, train
from experiments.energy.__main__ import parse
from experiments.energy.regularizers import REGULARIZERS


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def params():
    """Layers of three shapes, and a normalization, which has no neurons."""
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
    expected, found = rows_of(params), regularizers.neurons(params)
    assert found.keys() == expected.keys()
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, expected[name])
    hidden, output = regularizers.hidden(params), regularizers.output(params)
    assert output["head"]["prototypes"]
    assert sum(jax.tree.leaves(output)) == 1
    assert jax.tree.map(lambda is_output: not is_output, output) == hidden


def test_energies_of_layers_against_pairs_one_by_one(params):
    found = train.energies(params)
    for name, rows in rows_of(params).items():
        expected = [pair_energy(rows, 2, half_space) for half_space in (False, True)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_excess_over_random_neurons(params):
    # For the chord and s = 2, random directions have (d - 2) / (2 (d - 3)).
    random = {"network/conv/kernel": 10 / 18, "network/linear/kernel": 4 / 6}
    random["head/prototypes"] = 2 / 2
    shares = {name: np.array([1.1, 1.3]) * value for name, value in random.items()}
    shares["network/linear/kernel"] = np.array([1.2, 0.9]) * 4 / 6
    shares["head/prototypes"] = np.array([0.5, 7.0])
    found = train.excess(shares, params)
    assert found == pytest.approx({"full": 15.0, "half": 10.0, "output": -50.0})
    # Simplices: 5 of 12, 4 of 6 and 3 of 4 dimensions have (n - 1) / (2 n).
    least = train.least(params)
    hidden = [100 * (0.4 * 18 / 10 - 1), 100 * (0.375 * 6 / 4 - 1)]
    assert least["full"] == pytest.approx(np.mean(hidden))
    assert least["output"] == pytest.approx(100 * (1 / 3 - 1))


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
        name: (row.hidden.weight, row.output.weight)
        for name, row in REGULARIZERS.items()
        if row.hidden and row.output
    }
    assert weights["mhe-2"] == weights["mhe-1-half"] == (1.0, 10.0)
    assert weights["rp-comhe"] == weights["adversarial-comhe"] == (1.0, 10.0)
    # 0.1 times the inverse of an angle in units of pi.
    assert weights["angular-mhe-1"] == pytest.approx((0.1 * math.pi, math.pi))
    assert weights["separation"] == (0.1, 1.0)
    assert weights["gram-determinant"] == weights["covering"] == (0.01, 0.1)
    assert REGULARIZERS.keys() - weights.keys() == {"none", "decay"}


def test_the_preset_is_the_authors_recipe():
    chosen = parse(["--preset", "cnn-9"])
    assert chosen.group == "cnn-9-cifar100"
    recipes = {run.method: run.config for run in config.planned(chosen)}
    assert len(recipes) == 24
    short, long = recipes["mhe-2"], recipes["rp-comhe"]
    assert (short.steps, short.drops) == (42_500, (20_000, 30_000, 37_500))
    assert (long.steps, long.drops) == (75_000, (30_000, 50_000, 65_000))
    assert (short.learning_rate, short.batch, short.weight_decay) == (0.1, 128, 5e-4)
    design: Any = chosen.design((32, 32, 3))
    widths = [(stage.features, stage.repeats) for stage in design.stages]
    assert (widths, design.features) == ([(64, 3), (128, 3), (256, 3)], 256)
    assert report._OFFICIAL.keys() <= REGULARIZERS.keys()
    quick = parse(["--dataset", "cifar10", "--regularizers", "rp-comhe"])
    (run,) = config.planned(quick)
    assert (run.steps, quick.width, quick.drops) == (400, 0.125, (188, 282, 353))
    with pytest.raises(ValueError, match="--preset cnn-9 is for cifar100 or cifar10"):
        config.preset("cnn-9", "digits")


@pytest.mark.slow
def test_three_steps_are_stored_and_repeat_themselves(tmp_path, monkeypatch):
    digits = images.load("digits")
    few = images.Images(*(part[:40] for part in digits.test))
    small = dataclasses.replace(digits, test=few)
    monkeypatch.setattr(train, "load", lambda name, data_dir: small)
    chosen = config.Config(
        regularizers=("polarization",), seeds=2, steps=3, drops=(2,), runs=tmp_path
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "energy") or {}) for run in planned]
    metrics, other = (record["metrics"] for _, record in found)
    assert set(metrics) == {"error", "energies", "every", "least"}
    curve = metrics["energies"]["full"]
    # Before the first step, and after each.
    assert len(set(curve)) == 4
    assert min(curve) > metrics["least"]["full"]
    assert other["energies"] != metrics["energies"]
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "quick-digits-energies.png").stat().st_size > 10_000
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("|  | error, % (2 seeds) | hidden, full space | ")
    assert lines[2].startswith("| maximum polarization | ")
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/energy") or {}
    assert again["metrics"] == metrics


def test_tables_have_decay_and_the_official_numbers_beside_ours(tmp_path):
    chosen = config.preset("cnn-9-short")
    provenance = {"device": "cpu", "versions": {"jax": "0.10"}, "seconds": 1.0}
    ends = dict.fromkeys(("full", "half", "output"), -1.0)
    found = []
    for run in config.planned(dataclasses.replace(chosen, seeds=2)):
        # Only the end of the curves is known of older runs.
        metrics = {
            "error": 30.0 + run.seed * (2.0 if run.method == "mhe-2" else 1.0),
            "energies": {key: [value] for key, value in ends.items()},
            "least": ends,
            "every": 667,
        }
        found.append((run, {"metrics": metrics, "provenance": provenance}))
    lines = list(report.table(chosen, found))
    assert lines[2].split(" | ")[1:3] == ["30.50 ± 0.71", ""]
    assert lines[3].split(" | ")[1:3] == ["31.00 ± 1.41", "0.50 ± 0.71"]
    assert lines[3].endswith("| 27.22 |")
    assert lines[5] == "| *lower bound of all* |  |  | -1.00 | -1.00 | -1.00 |  |"
    report.draw(chosen, found, tmp_path / "nothing is written")
