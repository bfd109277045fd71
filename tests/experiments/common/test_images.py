"""Images: sets, pixels and batches."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.common import batches, images


def write_mnist(folder, size=24):
    """A prepared set of the name and features of tfds's, with ids as CIFAR-10 has."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples() for name in ("train", "test")}

        def _generate_examples(self):
            from PIL import Image

            for i in range(size):
                image = Image.fromarray(np.full((28, 28), 10 * (i % 10), np.uint8))
                yield i, {"id": f"test_{i:05d}", "image": image, "label": i % 10}

    Builder.name = "mnist"
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prepared_sets_are_read_through_tfds(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = images.load("mnist")
    assert found.shape == (28, 28, 1)
    assert found.classes == 10
    assert found.train.images.dtype == np.uint8
    np.testing.assert_array_equal(found.test.images[:, 3, 4, 0], 10 * found.test.labels)
    ids = [int(name.removeprefix("test_")) for name in images.image_ids("mnist")]
    assert ids != sorted(ids)
    np.testing.assert_array_equal(np.array(ids) % 10, found.test.labels)
    assert "tensorflow" not in sys.modules


def test_a_set_that_is_not_prepared_is_not_looked_for_elsewhere(tmp_path, monkeypatch):
    # By itself, tfds would try to download for minutes.
    monkeypatch.setattr(tfds, "builder_from_directory", None)
    monkeypatch.setattr(tfds, "builder", None)
    with pytest.raises(images.DatasetNotFoundError) as error:
        images.load("cifar10", tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "download_and_prepare" in str(error.value)
    with pytest.raises(images.DatasetNotFoundError, match="no builder for it"):
        images.read("orl_faces", "train", tmp_path)


def write_info(folder, version, file_format):
    """What tfds writes of a prepared set, without the images."""
    place = folder / "mnist" / version
    place.mkdir(parents=True)
    splits = [
        {"name": name, "shardLengths": ["1"], "numBytes": "1"}
        for name in ("train", "test")
    ]
    info = {"name": "mnist", "version": version, "fileFormat": file_format}
    (place / "dataset_info.json").write_text(json.dumps(info | {"splits": splits}))
    (place / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": (
                    "tensorflow_datasets.core.features.features_dict.FeaturesDict"
                ),
                "featuresDict": {"features": {}},
            }
        )
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_latest_version_is_read_if_it_can_be(tmp_path):
    for version in ("3.0.2", "3.0.10", "2.9.11"):
        write_info(tmp_path, version, "array_record")
    assert str(images._builder("mnist", tmp_path).version) == "3.0.10"
    write_info(tmp_path, "10.0.0", "tfrecord")
    with pytest.raises(images.DatasetNotFoundError) as error:
        images.load("mnist", tmp_path)
    message = str(error.value)
    assert "is prepared as tfrecord, which only TensorFlow reads" in message
    assert "file_format='array_record'" in message
    assert f"data_dir='{tmp_path}_array_record'" in message


def test_digits_come_with_scikit_learn():
    digits = images.load("digits")
    assert digits.train.images.shape == (898, 8, 8, 1)
    assert digits.test.images.shape == (899, 8, 8, 1)
    assert digits.train.images.max() == 240
    assert np.bincount(digits.test.labels).min() > 80


def test_augmentation_crops_and_flips():
    image = np.arange(1.0, 65.0).reshape(8, 8, 1)
    raw = jnp.asarray(np.repeat(image[None], 200, axis=0), jnp.float32)
    out = np.asarray(images.augmented(jax.random.key(0), raw))
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[..., 0], (8, 8))
    allowed = {w.tobytes() for w in windows.reshape(-1, 8, 8)}
    allowed |= {w[:, ::-1].tobytes() for w in windows.reshape(-1, 8, 8)}
    found = {o[..., 0].astype(np.float64).tobytes() for o in out}
    assert found <= allowed
    assert len(found) > 80  # of 162, in 200 draws


def test_a_set_may_be_centered_on_gray():
    digits = dataclasses.replace(images.load("digits"), gray=True)
    raw = np.zeros((1, 8, 8, 1), np.uint8)
    raw[0, 0, 0] = 255
    found = images.prepare(jnp.asarray(raw), jnp.asarray(digits.mean))
    np.testing.assert_allclose(found, (raw - 127.5) / 255.0)


def test_images_are_flipped_and_not_cropped():
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 5, 1)))
    out = np.asarray(images.flipped(jax.random.key(0), raw))
    is_same = (out == raw).all((1, 2, 3))
    np.testing.assert_array_equal(out[~is_same], raw[~is_same][:, :, ::-1])
    assert 16 < is_same.sum() < 48


def test_batches_cover_an_epoch_and_go_on_where_they_stopped():
    def some(start, number):
        stream = batches.by_epoch(4, 14, seed=1, start=start)
        return [next(stream) for _ in range(number)]

    whole = some(0, 9)
    assert len(np.unique(np.concatenate(whole[:3]))) == 12
    assert not np.array_equal(whole[0], whole[3])
    for ours, theirs in zip(some(5, 4), whole[5:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="--batch must be at most 3, .*got 4"):
        batches.check_size(4, 3)


def test_batches_are_some_images_of_some_classes():
    labels = np.array([0] * 5 + [1] * 5 + [2] * 2 + [7] * 4)

    def some(start, number):
        stream = batches.by_class(9, 3, labels, seed=1, start=start)
        return [next(stream) for _ in range(number)]

    whole = some(0, 30)
    drawn = [np.unique(labels[batch], return_counts=True) for batch in whole]
    for classes, counts in drawn:
        assert len(classes) == 3
        assert (counts == 3).all()
    assert len({tuple(classes) for classes, _ in drawn}) == 4
    for batch in whole:  # none twice, but for the class that has two images
        others = batch[labels[batch] != 2]
        assert len(np.unique(others)) == len(others)
    for ours, theirs in zip(some(20, 10), whole[20:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for batch in (8, 15):
        with pytest.raises(ValueError, match=f"at most 4 of them, got {batch}"):
            batches.check_classes(batch, 3, labels)
