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


def test_only_hidden_kernels_move_at_the_rates_of_the_grid():
    """By Adam, whose first step has the size of its rate."""
    chosen = of("adam")
    step = jax.jit(train.step, static_argnums=0)
    before = start(chosen)
    after, _ = step((GRAPH, chosen), (MEAN, RATES), before, examples(1), 0, 0)
    leaves = zip(
        jax.tree.leaves(after.params),
        jax.tree.leaves(before.params),
        jax.tree.leaves(config.is_hidden(PARAMS)),
        strict=True,
    )
    hidden = 0
    for new, old, is_hidden in leaves:
        sizes = np.abs(new - old).max(tuple(range(1, new.ndim)))
        expected = QUICK.rates if is_hidden else [QUICK.other_rate] * 2
        np.testing.assert_allclose(sizes, expected, rtol=1e-3)
        hidden += is_hidden
    assert hidden == 2


def test_the_rate_is_that_of_the_lowest_error_and_then_loss():
    errors, losses = (
        np.array([5.0, 3.0, 3.0, np.nan]),
        np.array([0.1, 0.3, 0.2, np.nan]),
    )
    assert train.best_rate(errors, losses) == 2


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
    assert set(adam) == {"error", "loss", "rate", "spectrum", "validation"}
    assert len(adam["validation"]) == 2
    assert adam["rate"] in QUICK.rates
    assert stiefel["spectrum"] < 1e-3 < 0.1 < adam["spectrum"]
    lines = list(report.table(QUICK, found))
    assert lines[2].startswith(f"| Adam | {adam['error']:.2f} |  | ")
    assert lines[-1].startswith("`python -m experiments.optimizers`; ")
    report.draw(QUICK, found, tmp_path)
    assert (tmp_path / "mlp-digits-rates.png").stat().st_size > 10_000
