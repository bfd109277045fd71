"""The study of hardness: its quantities, people's answers, a short run, its report."""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from experiments.common import images, runs, store
from experiments.hardness import config, report, train


def test_hardness_confidence_and_norm_by_hand():
    # Two images, at 30 and 90 degrees from the first of two perpendicular prototypes.
    prototypes = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    embeddings = np.array([[3**0.5, 1.0], [0.0, 3.0]], np.float32)
    head = sx.layers.MarginHead(
        2, 2, margin=sx.margins.NoMargin(), normalize="none", rngs=nnx.Rngs(0)
    )
    head.prototypes[...] = jnp.asarray(prototypes)
    found = train.measure(head, embeddings, np.array([0, 0]))
    np.testing.assert_allclose(found["avh"], [30 / 90, 90 / 90], atol=1e-6)
    np.testing.assert_allclose(found["norm"], [2.0, 3.0], rtol=1e-6)
    logits = np.array([[2 * 3**0.5, 1.0], [0.0, 3.0]])
    odds = np.exp(logits[:, 0] - logits[:, 1])
    np.testing.assert_allclose(found["confidence"], odds / (1 + odds), rtol=1e-5)


def test_rank_correlations_and_counts_by_hand():
    # The ranks 1, 2, 3, 4 against 1, 2.5, 2.5, 4, and against 4, 3, 2, 1; each of the
    # four images ten times.
    values = {
        "avh": [0.1, 0.2, 30.0, 40.0],
        "norm": [0.0, 5.0, 5.0, 6.0],
        "confidence": [4.0, 3.0, 2.0, 1.0],
    }
    quantities = {key: np.repeat(each, 10) for key, each in values.items()}
    found = train.summary(quantities, [("avh", "norm"), ("avh", "confidence")])
    assert found["avh"] == pytest.approx(17.575)
    correlations = found["rank_correlations"]
    assert correlations["avh_norm"] == pytest.approx(np.sqrt(0.9))
    assert correlations["avh_confidence"] == pytest.approx(-1.0)
    drawn = found["images"]["avh_norm"]
    assert drawn["ends"] == [[0.0, 6.0], [0.1, 40.0]]
    counts = runs.unpack(drawn["counts"])
    assert [counts[0, 0], counts[25, 0], counts[25, 22], counts[29, 29]] == [10] * 4
    samples = runs.unpack(found["resampled"]["avh_norm"])
    assert samples.shape == (200,)
    assert np.mean(samples) == pytest.approx(np.sqrt(0.9), abs=0.01)
    assert 0.005 < np.std(samples) < 0.03
    np.testing.assert_allclose(runs.unpack(found["resampled"]["avh_confidence"]), -1.0)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """Answers of people to each of 899 images, as a file, and the labels of these.

    The ids of the images are shuffled, as they are in a prepared set.
    """
    labels = images.load("digits").test.labels
    order = np.random.default_rng(0).permutation(899)
    counts = np.zeros((899, 10), np.int64)
    counts[order, labels] = 10
    counts[order, (labels + 1) % 10] = np.arange(899) % 7
    np.save(tmp_path / "counts.npy", counts)
    ids = [f"test_{index:05d}" for index in order]
    monkeypatch.setattr(images, "image_ids", lambda *_: ids)
    return tmp_path / "counts.npy", labels


def test_human_counts_follow_the_ids(people):
    path, labels = people
    found = train.frequency(train.human_counts(path, None, labels), labels)
    np.testing.assert_allclose(found, 10 / (10 + np.arange(899) % 7))


def test_human_counts_of_other_images_are_refused(people, tmp_path):
    path, labels = people
    with pytest.raises(ValueError, match=r"label of 0% of the test .*not in the order"):
        train.human_counts(path, None, (labels + 5) % 10)
    with pytest.raises(ValueError, match=r"shape \(30, 10\).*got \(899, 10\)"):
        train.human_counts(path, None, labels[:30])
    with pytest.raises(images.DatasetNotFoundError, match=r"elsewhere.*cifar-10h"):
        train.human_counts(tmp_path / "elsewhere.npy", None, labels)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match="must be an array saved by NumPy"):
        train.human_counts(tmp_path / "text.npy", None, labels)


def test_three_steps_against_what_people_saw_repeat_themselves(
    tmp_path, people, monkeypatch
):
    load = images.load
    monkeypatch.setattr(images, "load", lambda name, data_dir: load("digits"))
    chosen = dataclasses.replace(
        config.preset("quick", "cifar10"),
        **{"methods": ("softmax",), "seeds": 1, "steps": 3, "batch": 16},
        human_counts=people[0],
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "hardness") or {}) for run in planned]
    metrics = found[0][1]["metrics"]
    keys = {"error", "avh", "rank_correlations", "resampled", "images"}
    assert set(metrics) == keys
    pairs = ["avh_confidence", "avh_norm", "hsf_avh", "hsf_confidence", "hsf_norm"]
    assert list(metrics["rank_correlations"]) == pairs
    assert runs.unpack(metrics["images"]["hsf_avh"]["counts"]).sum() == 899
    head, _, line, *_, caption = report.table(chosen, found)
    first = "|  | rank correlation, AVH and confidence (1 seed) | rank correlation, AVH"
    assert head.startswith(first)
    assert "| rank correlation, HSF and norm |" in head
    assert line.endswith(f"| {metrics['avh']:.3f} | {metrics['error']:.2f} |")
    assert "--dataset cifar10 --human-counts counts.npy`" in caption
    report.draw(chosen, found, tmp_path)
    figure = tmp_path / "quick-cifar10-human-hardness.png"
    assert figure.stat().st_size > 10_000
    store.complete(planned, train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/hardness")
    assert again is not None
    assert again["metrics"] == metrics


def test_presets_are_the_dissertations():
    groups = {chosen.group for chosen in config.presets()}
    assert {"quick-digits", "quick-cifar10", "quick-cifar10-human"} <= groups
    chosen = config.preset("table-2.3")
    assert (chosen.network, chosen.steps, chosen.batch) == ("cifar10", 18_000, 256)
    with pytest.raises(ValueError, match="got dataset digits: add --dataset cifar10"):
        config.Config(human_counts=pathlib.Path("counts.npy"))
