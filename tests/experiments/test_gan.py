"""Adversarial networks: measures of samples, steps of the players, and a short run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from experiments.common import store
from experiments.gan import config, measures, report, train
from experiments.gan.__main__ import parse


def test_precision_and_recall_by_hand():
    """On a line: the ball of each point reaches its third neighbor."""
    real = np.arange(5.0)[:, None]  # radii 3, 2, 2, 2, 3
    np.testing.assert_array_equal(measures.radii(real), [3, 2, 2, 2, 3])
    made = np.array([[-3.5], [-3.0], [4.5], [90.0], [91.0]])
    # The first is out of the ball around 0, the second on its edge.
    precision, recall = measures.precision_and_recall(real, made)
    assert (precision, recall) == (40.0, 100.0)
    assert measures.precision_and_recall(real, 1e3 + real) == (0.0, 0.0)


def test_coverage_counts_kinds():
    kinds = np.array([0] * 50 + [1] * 49 + [2] * 1 + [-1] * 100)
    covered, effective = measures.coverage(kinds, 4)
    assert covered == 2  # a tenth of the share of the third would be five
    shares = np.array([0.5, 0.49, 0.01])
    assert effective == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
    assert measures.coverage(np.array([-1]), 4) == (0, 1.0)


def test_modes_are_found_within_three_deviations():
    points = train.mixture(1_000, 0)
    kinds = train.modes(points)
    assert np.mean(kinds >= 0) > 0.97
    assert set(kinds) - {-1} == set(range(8))
    assert train.modes(train.CENTERS[3:4] + [[0.0, 0.31]])[0] == -1


def tiny(method, **settings):
    chosen = config.preset("mixture")
    return dataclasses.replace(
        chosen, methods=(method,), rates=(1e-2,), width=8, batch=32, **settings
    )


def test_a_step_moves_both_players_downhill():
    """Each loss, of the players before the step, falls along the player's update."""
    setting, state = train.initial(tiny("sphere"), 2, 0)
    real, key = jnp.asarray(train.mixture(32, 0)), jax.random.key(0)
    after, shown = jax.jit(train.step, static_argnums=0)(setting, real, state, key)
    keys = jax.random.split(key)

    @jax.jit
    def losses(critic, generator):
        model = nnx.merge(setting.critic, critic, state.norms, copy=True)
        fake = train.generate(setting, state.generator, keys[0], 32)
        outputs = model(jnp.concatenate([real, fake]))
        model = nnx.merge(setting.critic, state.critic, state.norms, copy=True)
        other = model(train.generate(setting, generator, keys[1], 32))
        loss = train.critic_loss(True, outputs[:32], outputs[32:])
        return jnp.stack([loss, train.generator_loss(True, other)])

    before = losses(state.critic, state.generator)
    np.testing.assert_allclose(before, [shown["loss"], shown["generator"]], rtol=1e-5)
    olds, news = (state.critic, state.generator), (after.critic, after.generator)
    near = jax.tree.map(lambda x, y: x + 0.01 * (y - x), olds, news)
    assert np.all(losses(*near) < before)


def test_spectral_critics_have_norms_of_one():
    setting, state = train.initial(tiny("spectral"), 2, 0)
    x = jnp.asarray(train.mixture(256, 0))
    critic = nnx.merge(setting.critic, state.critic, state.norms)
    layer = critic.layers[1].layer_instance
    outputs = nnx.jit(lambda layer, x: layer(x))
    for _ in range(30):
        outputs(critic.layers[1], jnp.ones((1, 8)))
    np.testing.assert_allclose(np.linalg.norm(layer.kernel[...], 2), 1.0, rtol=1e-3)
    assert critic(x).shape == (256, 1)


@pytest.mark.slow
def test_the_gradient_of_the_energy_lowers_that_of_the_critic():
    real = jnp.asarray(train.mixture(32, 0))
    setting, state = train.initial(tiny("half-energy", weight=10.0), 2, 0)
    rows = np.tile(np.arange(32), (config.TOGETHER, 1))
    after, _ = jax.jit(train.steps, static_argnums=0)(setting, real, state, rows, 0, 0)
    before, now = (
        sx.energy.hyperspherical_energy(
            x.critic["layers"][1]["kernel"][...].T, half_space=True
        )
        for x in (state, after)
    )
    assert now < before - 0.02


@pytest.mark.slow
def test_a_short_run_is_stored_drawn_and_repeats_itself(tmp_path):
    chosen = dataclasses.replace(
        tiny("plain", steps=40, seeds=1, runs=tmp_path),
        methods=("plain", "sphere"),
        rates=(1e-3, 1e-3),
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "gan") or {}) for run in planned]
    plain = found[0][1]["metrics"]
    assert set(plain) == {*report._MEASURES, "samples"}
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/gan") or {}
    assert again["metrics"] == plain
    lines = list(report.table(chosen, found))
    assert lines[0].startswith(
        "| critic (1 seed) | precision, % | recall, % | modes cov"
    )
    assert lines[2].startswith("| Non-saturating | ")
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "mixture-samples.png").stat().st_size > 5_000


def test_the_verdict_compares_all_measures_with_the_plain_critic():
    chosen = config.preset("digits")
    provenance = {"device": "cpu", "versions": {"jax": "0.10"}, "seconds": 1.0}
    found = []
    for run in config.planned(chosen):
        metrics = dict.fromkeys(report._MEASURES, 50.0 + run.seed)
        if run.method == "sphere":
            metrics["recall"] -= 20.0 + 0.1 * run.seed**2
        found.append((run, {"metrics": metrics, "provenance": provenance}))
    lines = list(report.table(chosen, found))
    (verdict,) = (line for line in lines if line.startswith("Precision, recall and"))
    assert "better: none; worse: Sphere GAN, recall (-20.60)." in verdict


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--methods", "plain"], "--rates must have one number for each of 1 methods"),
        (["--steps", "30"], "--steps must be a multiple of 20, got 30"),
    ],
)
def test_errors(flags, match):
    with pytest.raises(ValueError, match=match):
        parse(flags)
