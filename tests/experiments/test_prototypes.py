"""The study of prototypes: its quantities, presets, a short run and its report."""

import dataclasses

import numpy as np
import pytest

from experiments.common import images, runs, store
from experiments.prototypes import config, report, train
from experiments.prototypes.__main__ import parse


def short(tmp_path, preset: config.PresetName = "quick", **options):
    usual = dict(seeds=1, steps=3, batch=16, features=(3,), runs=tmp_path)
    return dataclasses.replace(config.preset(preset), **usual | options)


@pytest.mark.parametrize(
    ("preset", "method", "keys"),
    [
        ("quick", "squared", {"error", "margin", "within", "parameters", "max_cosine"}),
        ("poles", "poles", {"angle", "contrast", "angles"}),
    ],
)
def test_three_steps_are_stored_and_repeat_themselves(tmp_path, preset, method, keys):
    chosen = short(tmp_path, preset, methods=(method,))
    planned = config.planned(chosen)
    assert [run.method for run in planned] == [f"{method}-3"]
    for folder in (tmp_path, tmp_path / "again"):
        store.complete(planned, train.train, folder)
    found = [(run, store.load(run, tmp_path / "prototypes") or {}) for run in planned]
    metrics = found[0][1]["metrics"]
    assert keys <= set(metrics)
    again = store.load(planned[0], tmp_path / "again/prototypes") or {}
    assert again["metrics"] == metrics
    lines = list(report.table(chosen, found))
    titles = config.CLASSES | config.NUMBERS
    assert lines[2].startswith(f"| {titles[method]} | 3 | ")
    report.draw(chosen, found, tmp_path)
    (figure,) = tmp_path.glob("*.png")
    assert figure.stat().st_size > 5_000


def test_heads_have_the_prototypes_that_were_placed():
    data = images.load("digits")
    similarities = train.similarities_of(data)
    np.testing.assert_allclose(np.diag(similarities), 1.0, rtol=1e-5)
    # A nine looks most like a three.
    assert np.argsort(similarities[9])[-2] == 3
    apart = np.asarray(train.placed(10, 64, None).prototypes)
    np.testing.assert_allclose(apart @ apart.T, (10 * np.eye(10) - 1) / 9, atol=1e-5)
    assert train.in_order(apart @ apart.T, similarities) == 50.0
    assert train.in_order(similarities, similarities) == 100.0
    assert train.in_order(-similarities, similarities) == 0.0


def test_turned_images_and_their_numbers():
    data = train.turned("digits", None)
    usual = images.load("digits")
    assert len(data.train.images) == 4 * len(usual.train.images)
    assert data.test.images.shape == usual.test.images.shape
    assert np.abs(data.train.labels).max() <= 1.0
    brightest = data.test.images.reshape(len(data.test.images), -1).max(1)
    contrasts = 0.65 + 0.35 * data.test.labels[:, 1]
    assert np.corrcoef(brightest, contrasts)[0, 1] > 0.9
    estimates = data.test.labels + np.array([0.5, -0.1])
    found = train.deviations(estimates, data.test.labels)
    assert found["angle"] == pytest.approx(30.0, rel=1e-5)
    assert found["contrast"] == pytest.approx(3.5, rel=1e-5)
    right, estimated = runs.unpack(found["angles"]).astype(np.float64)
    np.testing.assert_allclose(estimated - right, 30.0, atol=0.1)


def test_presets():
    paper = config.preset("resnet-32")
    assert (paper.network, paper.dataset, paper.batch) == ("resnet32", "cifar100", 128)
    assert paper.steps * paper.batch == pytest.approx(250 * 50_000, rel=0.01)
    assert (paper.learning_rate, paper.weight_decay) == (0.01, 1e-4)
    assert np.isclose(np.array(paper.drops) / paper.steps, [0.4, 0.8]).all()
    poles = parse(["--preset", "poles", "--dataset", "mnist"])
    assert poles.methods == tuple(config.NUMBERS)
    assert poles.command == "prototypes --preset poles --dataset mnist"


def test_the_verdict_is_within_a_number_of_dimensions():
    base = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    lower = {s: x - 1.0 + 0.01 * s for s, x in base.items()}
    errors = {
        (2, "softmax"): base,
        (2, "squared"): {s: x + 0.1 * (-1) ** s for s, x in base.items()},
        (3, "softmax"): base,
        (3, "squared"): lower,
    }
    _, line = report.verdict(errors)
    assert "the row 'softmax, learned, in as many dimensions' by a paired" in line
    assert "better: squared distance, fixed in 3 dimensions (-0.98). The" in line
    assert line.endswith("The others do not differ significantly.")
