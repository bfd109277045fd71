"""The study of cosines between classes: the matrix, a short run, table and figure."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments.common import runs, store
from experiments.confusion import config, report, train


def test_class_cosines_are_means_over_pairs_of_different_images():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(14, 3)).astype(np.float32)
    embeddings[5] = 0.0  # has cosine 0 with everything
    labels = rng.permutation([0, 1, 1, 0, 2, 2, 2, 1, 0, 2, 0, 1, 2, 2])
    sums, pairs = np.zeros((3, 3)), np.zeros((3, 3))
    for i, j in itertools.permutations(range(14), 2):
        x, y = embeddings[[i, j]].astype(np.float64)
        lengths = np.sqrt(x @ x) * np.sqrt(y @ y)
        sums[labels[i], labels[j]] += x @ y / lengths if lengths else 0.0
        pairs[labels[i], labels[j]] += 1
    found = train.class_cosines(embeddings, labels, 3)
    np.testing.assert_allclose(found, sums / pairs, atol=1e-6)


def test_summary_of_a_matrix():
    cosines = np.array([[0.9, 0.1, -0.3], [0.1, 0.7, 0.2], [-0.3, 0.2, 0.5]])
    found = train.summary(cosines)
    assert found["within"] == pytest.approx(0.7)
    assert found["between"] == pytest.approx(0.0)
    assert found["closest"] == pytest.approx(0.2)
    assert found["closest_classes"] == [1, 2]
    np.testing.assert_allclose(runs.unpack(found["cosines"]), cosines, atol=2e-4)


def test_three_steps_are_stored_and_repeat_themselves(tmp_path):
    chosen = dataclasses.replace(
        config.preset("quick"),
        **{"methods": ("softmax", "arcface"), "seeds": 2, "steps": 3, "batch": 16},
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "confusion") or {}) for run in planned]
    metrics = found[0][1]["metrics"]
    keys = {"error", "within", "between", "closest", "closest_classes", "cosines"}
    assert set(metrics) == keys
    assert runs.unpack(metrics["cosines"]).shape == (10, 10)
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("|  | cosine within (2 seeds) | between | ")
    starts = [line.split(" | ")[0] for line in lines[2:4]]
    assert starts == ["| Softmax", "| ArcFace, m = 0.5"]
    assert "from the row 'Softmax'" in lines[5] or "from 'Softmax'" in lines[5]
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "quick-digits-cosines.png").stat().st_size > 10_000
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/confusion")
    assert again is not None
    assert again["metrics"] == metrics


def test_presets_are_the_dissertations():
    chosen = config.preset("table-2.3", augment=True)
    assert chosen.group == "table-2.3-cifar10-augmented"
    assert (chosen.network, chosen.steps, chosen.batch) == ("cifar10", 18_000, 256)
    assert config.preset("table-2.2", "fashion_mnist").network == "mnist"
    assert config.preset("quick", "cifar10").network == "small"
