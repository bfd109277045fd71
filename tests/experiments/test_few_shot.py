"""The few-shot study: its data, accuracies, presets, a short run and its report."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from experiments.common import images, runs, store
from experiments.few_shot import config, report, train
from experiments.few_shot.__main__ import parse


def short(tmp_path, **options):
    usual = dict(seeds=1, steps=3, drops=(2,), episodes=4, filters=4, runs=tmp_path)
    return dataclasses.replace(config.preset("quick"), **usual | options)


def test_three_steps_are_stored_and_repeat_themselves(tmp_path):
    chosen = short(tmp_path, methods=("pixels", "prototypical-sphere"))
    planned = config.planned(chosen)
    for folder in (tmp_path, tmp_path / "again"):
        store.complete(planned, train.train, folder)
    found = [(run, store.load(run, tmp_path / "few_shot") or {}) for run in planned]
    metrics = found[1][1]["metrics"]
    assert list(metrics["accuracy"]) == ["5-way 1-shot", "5-way 5-shot"]
    right = runs.unpack(metrics["right"]["5-way 1-shot"])
    assert right.shape == (4,)
    share = 100.0 * right.mean() / 75
    assert metrics["accuracy"]["5-way 1-shot"] == pytest.approx(share)
    again = store.load(planned[1], tmp_path / "again/few_shot") or {}
    assert again["metrics"] == metrics
    lines = list(report.table(chosen, found))
    assert lines[0] == "|  | 5-way 1-shot, % (1 seed) | 5-way 5-shot, % |"
    assert lines[3].startswith(f"| prototypical, sphere | {share:.2f} [")
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "quick-digits-accuracy.png").stat().st_size > 5_000


def test_classes_of_the_test_are_never_trained():
    data = train.load("digits")
    assert (data.classes, len(data.train.labels) + len(data.test.labels)) == (5, 1797)
    usual = images.load("digits")
    zeros = data.train.images[data.train.labels == 0]
    same = np.concatenate([usual.train.images, usual.test.images])
    labels = np.concatenate([usual.train.labels, usual.test.labels])
    np.testing.assert_array_equal(zeros, same[labels == 0])
    fives = data.test.images[data.test.labels == 0]
    np.testing.assert_array_equal(fives, same[labels == 5])


@pytest.mark.parametrize("name", config.METHODS)
def test_accuracy_is_that_of_the_nearest_mean(tmp_path, name):
    chosen = short(tmp_path, methods=(name,), queries=2)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 9)
    x = (rng.normal(size=(7, 3))[labels] + rng.normal(size=(63, 3))).astype(np.float32)
    found = train.measure(chosen, x, labels)
    drawn = sx.data.episodes(labels, classes=5, shots=5, queries=2)
    y = x.astype(np.float64)
    if name != "prototypical":
        y /= np.linalg.norm(y, axis=1, keepdims=True)
    counts = []
    for number in range(4):
        _, support, queries = drawn.episode(number)
        means = y[support].mean(1)
        if name != "prototypical":
            means /= np.linalg.norm(means, axis=1, keepdims=True)
        gaps = np.linalg.norm(y[queries][:, :, None] - means, axis=-1)
        counts.append(np.sum(gaps.argmin(-1) == np.arange(5)[:, None]))
    np.testing.assert_array_equal(runs.unpack(found["right"]["5-way 5-shot"]), counts)


def test_the_loss_of_a_batch_has_its_first_images_for_support():
    chosen = dataclasses.replace(config.preset("quick"), shots=2, per_class=5)
    head = train.Episodic(False, chosen)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    means = x[:, :2].mean(1)
    logits = -((x[:, 2:, None] - means) ** 2).sum(-1)
    own = np.einsum("iji->ij", logits)
    expected = np.mean(np.log(np.exp(logits).sum(-1)) - own)
    batch = jnp.asarray(x.reshape(15, 4)), jnp.repeat(jnp.array([7, 1, 3]), 5)
    value = head.loss(*batch, key=jax.random.key(0))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_intervals_are_those_of_the_mean_over_episodes():
    chosen = config.preset("quick")
    rng, found = np.random.default_rng(0), []
    for run in config.planned(dataclasses.replace(chosen, methods=("prototypical",))):
        right = rng.binomial(75, 0.8, size=600)
        metrics = {
            "accuracy": {"5-way 1-shot": 100.0 * right.mean() / 75},
            "right": {"5-way 1-shot": runs.pack(right, np.uint16)},
        }
        found.append((run, {"metrics": metrics}))
    low, high = report.intervals(chosen, found)["prototypical"]["5-way 1-shot"]
    mean = np.mean([x["metrics"]["accuracy"]["5-way 1-shot"] for _, x in found])
    half = 1.96 * 100.0 * np.sqrt(0.8 * 0.2 / 75 / 600 / len(found))
    assert low < mean < high
    assert 0.5 * (high - low) == pytest.approx(half, rel=0.1)


def test_presets():
    published = parse(["--preset", "long"])
    assert (published.dataset, published.filters) == ("omniglot", 64)
    assert published.tasks == ((5, 1), (5, 5), (20, 1), (20, 5))
    assert (published.batch, published.per_class) == (60 * 6, 6)
    digits = parse([])
    assert (digits.group, digits.tasks) == ("quick-digits", ((5, 1), (5, 5)))
