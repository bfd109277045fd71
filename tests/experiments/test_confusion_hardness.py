"""The experiments that look at trained classifiers, and what they measure."""

import dataclasses
import itertools
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from PIL import Image

import sphax as sx
from experiments import (
    _data,
    _diagnostics,
    _evaluation,
    _human,
    _recipes,
    confusion,
    hardness,
)


@pytest.fixture
def folders(tmp_path):
    return dict(checkpoints=tmp_path / "checkpoints", results=tmp_path / "results")


@pytest.fixture
def tiny_network(monkeypatch):
    """One convolution of four filters: compiling is what takes time here."""

    def architecture(config, shape):
        stage = sx.networks.Stage(4, 1)
        return sx.networks.Design(shape, (stage,), features=8)

    monkeypatch.setattr(_recipes, "architecture", architecture)


@pytest.fixture
def few_images(monkeypatch):
    digits = _data.load("digits")
    small = dataclasses.replace(
        digits, test=_data.Images(*(part[:100] for part in digits.test))
    )
    monkeypatch.setattr(_data, "load", lambda name, data_dir: small)


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
    found = confusion.class_cosines(embeddings, labels, 3)
    np.testing.assert_allclose(found, sums / pairs, atol=1e-6)


def test_summary_of_a_matrix():
    cosines = np.array([[0.9, 0.1, -0.3], [0.1, 0.7, 0.2], [-0.3, 0.2, 0.5]])
    found = confusion.summary(cosines)
    assert found["within"] == pytest.approx(0.7)
    assert found["between"] == pytest.approx(0.0)
    assert found["closest"] == pytest.approx(0.2)
    assert found["closest_classes"] == [1, 2]
    assert found["cosines"] == cosines.tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("few_images", "tiny_network")
def test_confusion_leaves_its_results_and_repeats_itself(folders):
    config = confusion.Config(methods=("softmax", "arcface"), steps=3, **folders)
    results = confusion.train(config)
    path = folders["results"] / "confusion_digits.json"
    assert json.loads(path.read_text()) == results
    assert set(results) == {
        "config",
        "recipe",
        "methods",
        "device",
        "python",
        "versions",
        "seconds",
    }
    assert str(folders["results"].parent) not in path.read_text()
    assert results["recipe"]["dataset"] == "digits"
    assert results["recipe"]["steps"] == 3
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(folders["checkpoints"].iterdir())
    assert np.shape(results["methods"]["arcface"]["cosines"]) == (10, 10)
    table = list(confusion.table(results))
    assert [row.split(" | ")[0] for row in table[2:]] == [
        "| Softmax",
        "| ArcFace, m = 0.5",
    ]
    assert confusion.train(config)["methods"] == results["methods"]


def test_names_of_results_tell_recipes_apart():
    names = {
        confusion.Config(): "confusion_digits.png",
        hardness.Config(dataset="mnist"): "hardness_mnist.png",
        confusion.Config(preset="table-2.3", augment=True): (
            "confusion_table-2.3_cifar10_augmented.png"
        ),
    }
    for config, name in names.items():
        assert config.result(".png").name == name


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be positive, got 0"):
        confusion.Config(steps=0)
    with pytest.raises(ValueError, match="methods must name at least one of softmax"):
        hardness.Config(methods=())
    with pytest.raises(ValueError, match="got dataset digits: add --dataset cifar10"):
        hardness.Config(human_counts=pathlib.Path("counts.npy"))


def test_hardness_confidence_and_norm_by_hand():
    # Two images, at 30 and 90 degrees from the first of two perpendicular prototypes.
    prototypes = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    embeddings = np.array([[3**0.5, 1.0], [0.0, 3.0]], np.float32)
    head = sx.layers.MarginHead(
        2, 2, margin=sx.margins.NoMargin(), normalize="none", rngs=nnx.Rngs(0)
    )
    head.prototypes[...] = jnp.asarray(prototypes)
    outputs = _evaluation.Outputs(np.array([0, 1]), None, embeddings)
    classifier = _diagnostics.Trained(head, outputs)
    found = hardness.measure(classifier, np.array([0, 0]))
    np.testing.assert_allclose(found["avh"], [30 / 90, 90 / 90], atol=1e-6)
    np.testing.assert_allclose(found["norm"], [2.0, 3.0], rtol=1e-6)
    logits = np.array([[2 * 3**0.5, 1.0], [0.0, 3.0]])
    odds = np.exp(logits[:, 0] - logits[:, 1])
    np.testing.assert_allclose(found["confidence"], odds / (1 + odds), rtol=1e-5)


def test_rank_correlation_by_hand():
    # The ranks 1, 2, 3, 4 against 1, 2.5, 2.5, 4.
    assert hardness.rank_correlation(
        np.array([0.1, 0.2, 30.0, 40.0]), np.array([0.0, 5.0, 5.0, 6.0])
    ) == pytest.approx(np.sqrt(0.9))
    falling = hardness.rank_correlation(np.arange(5), -np.arange(5))
    assert falling == pytest.approx(-1.0)


@pytest.fixture
def people(tmp_path):
    """Forty images, twelve people each; a label for one who erred."""
    labels = np.arange(40) % 10
    counts = 10 * np.eye(10, dtype=np.int64)[labels]
    counts[np.arange(40), (labels + 1) % 10] = np.arange(40) % 7
    np.save(tmp_path / "counts.npy", counts)
    return counts, labels


def test_human_counts_follow_the_ids(tmp_path, people, monkeypatch):
    counts, labels = people
    order = np.random.default_rng(0).permutation(40)
    ids = [f"test_{index:05d}" for index in order]
    monkeypatch.setattr(_data, "image_ids", lambda *_: ids)
    found = _human.counts(tmp_path / "counts.npy", None, labels[order])
    np.testing.assert_array_equal(found, counts[order])
    frequency = _human.frequency(found, labels[order])
    np.testing.assert_allclose(frequency, 10 / (10 + order % 7))


def test_human_counts_of_other_images_are_refused(tmp_path, people, monkeypatch):
    labels = people[1]
    ids = [f"test_{index:05d}" for index in range(40)]
    monkeypatch.setattr(_data, "image_ids", lambda *_: ids)
    with pytest.raises(ValueError, match=r"label of 0% of the test .*not in the order"):
        _human.counts(tmp_path / "counts.npy", None, (labels + 1) % 10)
    with pytest.raises(ValueError, match=r"shape \(30, 10\).*got \(40, 10\)"):
        _human.counts(tmp_path / "counts.npy", None, labels[:30])
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        _human.counts(tmp_path / "elsewhere.npy", None, labels)


def write_cifar10(folder, sizes):
    """A prepared set with the name and ids of tfds's own, of small noisy images."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in sizes}

        def _generate_examples(self, split):
            rng = np.random.default_rng(0)
            for i in range(sizes[split]):
                pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
                image = Image.fromarray(pixels)
                yield i, {"id": f"{split}_{i:05d}", "image": image, "label": i % 10}

    Builder.name = "cifar10"
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_network")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hardness_against_what_people_saw(tmp_path, people, folders):
    write_cifar10(tmp_path, {"train": 64, "test": 40})
    ids = _data.image_ids("cifar10", tmp_path)
    assert sorted(ids) == [f"test_{index:05d}" for index in range(40)]
    assert ids != sorted(ids)
    config = hardness.Config(
        dataset="cifar10",
        data_dir=tmp_path,
        human_counts=tmp_path / "counts.npy",
        methods=("softmax",),
        steps=2,
        **folders,
    )
    results = hardness.train(config)
    path = folders["results"] / "hardness_cifar10.json"
    assert json.loads(path.read_text()) == results
    assert str(tmp_path) not in path.read_text()
    assert results["config"]["human_counts"] == "counts.npy"
    assert path.with_suffix(".png").stat().st_size > 10_000
    row = results["methods"]["softmax"]
    pairs = ["avh_confidence", "avh_norm", "hsf_avh", "hsf_confidence", "hsf_norm"]
    assert list(row["rank_correlations"]) == pairs
    assert all(-1.0 <= value <= 1.0 for value in row["rank_correlations"].values())
    head, _, line = hardness.table(results)
    assert "| rank correlation, AVH and confidence |" in head
    assert head.endswith("| rank correlation, HSF and norm |")
    assert line.startswith(f"| Softmax | {row['error']:.2f} | {row['avh']:.3f} |")
