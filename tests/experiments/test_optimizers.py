"""The study of optimizers: their steps, the choice of the rate, runs, the report."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import images, store
from experiments.optimizers import config, report, train

QUICK = config.Config(seeds=1, steps=2, batch=8, width=4, rates=(0.01, 0.1))
GRAPH, PARAMS = nnx.split(train.Classifier(64, 4, 10, rngs=nnx.Rngs(0)), nnx.Param)
MEAN, RATES = jnp.full((8, 8, 1), 0.5), jnp.asarray(QUICK.rates)


def of(method, **options):
    return dataclasses.replace(QUICK, methods=(method,), **options)


def start(chosen):
    state = train.State(PARAMS, chosen.optimizer(0.0).init(PARAMS))
    return jax.tree.map(lambda x: jnp.repeat(x[None], 2, axis=0), state)


def examples(seed):
    images = np.random.default_rng(seed).integers(0, 240, (8, 8, 8, 1))
    labels = jnp.arange(8, dtype=jnp.int32)
    return train.Examples(jnp.asarray(images, jnp.uint8), labels)


@pytest.mark.parametrize("name", config.METHODS)
def test_every_optimizer_takes_steps_of_one_shape(name):
    """Without compiling."""
    chosen = of(name)

    def steps(state):
        return train.step((GRAPH, chosen), (MEAN, RATES), state, examples(0), 0, 0)

    state = start(chosen)
    after, metrics = jax.eval_shape(steps, state)
    assert metrics["loss"].shape == ()
    same = jax.tree.map(
        lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state
    )
    assert all(jax.tree.leaves(same))


def test_only_hidden_kernels_move_at_the_rate_of_the_method():
    """By Adam, whose first step has the size of its rate."""
    optimizer = of("adam").optimizer(0.25)
    slopes = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = optimizer.update(slopes, optimizer.init(PARAMS), PARAMS)
    hidden = jax.tree.leaves(config.is_hidden(PARAMS))
    assert sum(hidden) == 2
    for update, is_hidden in zip(jax.tree.leaves(updates), hidden, strict=True):
        rate = 0.25 if is_hidden else QUICK.other_rate
        np.testing.assert_allclose(update, np.full(update.shape, -rate), rtol=1e-5)


def test_the_rate_is_best_on_validation_images_over_all_seeds():
    """Whatever the test errors are."""
    validation = [[5.0, 3.0, 4.0], [5.0, 9.0, 4.0]]
    found = []
    for seed, errors in enumerate(validation):
        metrics = {"validation": errors, "error": [1.0, 2.0, 7.0 + seed]}
        metrics |= {"loss": [0.1, 0.2, 0.3], "spectrum": [1.0, 2.0, 40.0]}
        (run,) = config.planned(of("adam", rates=(0.1, 0.2, 0.3)))
        provenance = {"device": None, "versions": None, "seconds": None}
        record = {"metrics": metrics, "provenance": provenance}
        found.append((dataclasses.replace(run, seed=seed), record))
    row = list(report.table(found[0][0].config, found))[2]
    assert row.startswith("| Adam | 0.3 | 4.00 ± 0.00 | 7.50 ± 0.71 |  | 0.300")
    assert row.endswith("| 40 |")


def test_differences_from_adam_and_from_muon_are_one_family_of_tests():
    noise = np.array([0.01, 0.0, -0.01, 0.0])
    means = {"Adam": 5.0, "Muon": 4.0, "Pion, Cayley": 3.0}
    errors = {
        title: dict(enumerate(mean + (i + 1) * noise))
        for i, (title, mean) in enumerate(means.items())
    }
    _, adam, _, muon = report._verdict(errors)
    assert "row 'Adam' by a paired" in adam
    assert adam.endswith("better: Muon (-1.00), Pion, Cayley (-2.00); worse: none.")
    assert muon.endswith("better: Pion, Cayley (-1.00); worse: none.")


def test_changes_of_singular_values_at_each_rate():
    kernel = np.diag([2.0, 1.0])
    before = {"kernel": kernel, "bias": np.ones(2), "classifier": {"kernel": kernel}}
    rates = np.array([1.0, 1.1, np.inf])
    after = {
        "kernel": np.stack([np.diag([2.0 * rate, 0.8]) for rate in rates]),
        "bias": np.zeros((3, 2)),
        "classifier": {"kernel": np.zeros((3, 2, 2))},
    }
    changes = train.spectrum_changes(before, after)
    np.testing.assert_allclose(changes, [20.0, 20.0, 100.0])


def test_validation_images_are_not_trained_on():
    data = images.load("digits").train
    parts = train.split(data, 0.2, 3)
    assert [len(part.labels) for part in parts] == [718, 180]
    rows = np.concatenate([part.inputs.reshape(-1, 64) for part in parts])
    same = np.lexsort(rows.T), np.lexsort(data.images.reshape(-1, 64).T)
    np.testing.assert_array_equal(rows[same[0]], data.images.reshape(-1, 64)[same[1]])


def test_short_runs_are_stored_and_have_a_table_and_a_figure(tmp_path):
    """Frames keep their singular values, and Adam does not."""
    found = []
    for name in ("adam", "stiefel-muon"):
        (run,) = config.planned(of(name, runs=tmp_path))
        store.complete([run], train.train, tmp_path)
        found.append((run, store.load(run, tmp_path / "optimizers") or {}))
    adam, stiefel = (record["metrics"] for _, record in found)
    assert set(adam) == {"validation", "error", "loss", "spectrum"}
    assert {len(values) for values in adam.values()} == {2}
    assert max(stiefel["spectrum"]) < 1e-3 < 0.1 < min(adam["spectrum"])
    lines = list(report.table(QUICK, found))
    assert lines[2].startswith("| Adam | 0.")
    assert lines[-1].startswith("`python -m experiments.optimizers`; ")
    report.draw(QUICK, found, tmp_path)
    assert (tmp_path / "mlp-digits-rates.png").stat().st_size > 10_000
