"""Sources: record files, folders and prepared sets, and what is wrong with them."""

import io
import itertools
import pickle

import numpy as np
import pytest
from PIL import Image

from experiments.faces.records import (
    ArraySource,
    BadRecords,
    FolderSource,
    PreparedSource,
    RecordError,
    RecordSource,
    RecordWriter,
    Source,
    batches,
    source,
)
from tests.experiments.common.test_images import write_mnist


def pixels(number, size=12):
    """An image by which its number is known: its first pixel."""
    image = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    image[0, 0] = number
    return image


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write(path, number, broken=(), size=12, labels=None, extra=()):
    """A record file of insightface's form, with ``number`` images of 5 identities."""
    labels = np.sort(np.arange(number) % 5) if labels is None else labels
    with RecordWriter(path) as writer:
        for i, label in enumerate(labels):
            content = b"broken" if i in broken else png(pixels(i, size))
            writer.write(content, int(label), i + 1)
        starts = [1 + int(np.searchsorted(labels, x)) for x in range(max(labels) + 2)]
        writer.write_header([*itertools.pairwise(starts), *extra], (12, 12))
    return path


def test_records_of_identities_without_images_are_refused_or_left_out(tmp_path):
    path = write(tmp_path / "a.rec", 4, labels=[0, 0, 2, 4])
    with pytest.raises(RecordError, match=r"no image of 2 of its 5 .* them \[1, 3\]"):
        RecordSource(path)
    found = RecordSource(path, relabel=True)
    assert found.num_classes == 3
    assert [label for _, label in found] == [0, 0, 1, 2]
    assert (
        found.summary == f"{path}: 4 images of 3 identities, 2 of them with one image"
    )
    # The file property may have more identities than the labels.
    (tmp_path / "property").write_text("6,12,12")
    with pytest.raises(RecordError, match="no image of 3 of its 6 identities"):
        RecordSource(path)
    (tmp_path / "property").write_text("4,12,12")
    with pytest.raises(RecordError, match="label 4, but labels must be below .* 4"):
        RecordSource(path, relabel=True)


def test_a_record_of_another_identity_than_its_range_is_refused(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for key, label in ((1, 0), (2, 1), (3, 1)):
            writer.write(png(pixels(key)), label, key)
        writer.write_header([(1, 3), (3, 4)], (12, 12))
    found = RecordSource(tmp_path / "a.rec")
    assert found[0][1] == 0
    with pytest.raises(RecordError, match="key 2 has the label 1, .* the identity 0"):
        found[1]


def test_folders_are_sources_of_images_that_are_resized(tmp_path):
    for i in range(6):
        place = tmp_path / "faces" / "xyz"[i // 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 10 * i, np.uint8)).save(place / f"{i}.png")
    found = source(tmp_path / "faces", size=8)
    assert isinstance(found, FolderSource)
    assert (len(found), found.num_classes, found.size) == (6, 3, (8, 8))
    image, label = found[3]
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 30))
    assert label == 1
    assert found.name(3) == "y/3.png"
    (tmp_path / "faces" / "empty").mkdir()
    with pytest.raises(RecordError, match=r"no image of 1 of its 4 .* them \[0\]"):
        source(tmp_path / "faces")
    assert source(tmp_path / "faces", relabel=True).num_classes == 3


def test_sources_are_pickled_and_described(tmp_path):
    arrays = ArraySource(np.stack([pixels(i) for i in range(22)]), np.arange(22) % 5)
    path = write(tmp_path / "a.rec", 20)
    found = source(path)
    assert isinstance(found, RecordSource)
    for each in (found, arrays):
        again = pickle.loads(pickle.dumps(each))
        assert repr(again) == repr(each)
        assert isinstance(again, Source)
        np.testing.assert_array_equal(again[7][0], each[7][0])
    assert f"images={20}, identities=5, size=(12, 12)" in repr(found)
    gray = ArraySource(np.arange(32, dtype=np.uint8).reshape(2, 4, 4), [0, 1])
    assert gray[1][0].shape == (4, 4, 3)
    np.testing.assert_array_equal(gray[1][0][..., 2], np.arange(16, 32).reshape(4, 4))
    with pytest.raises(RecordError, match="the array has no images"):
        ArraySource(np.zeros((0, 4, 4), np.uint8), [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prepared_sets_are_sources(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = source("tfds:mnist/train", size=14)
    assert isinstance(found, PreparedSource)
    assert (len(found), found.num_classes, found.size) == (24, 10, (14, 14))
    for i in (0, 13):
        image, label = pickle.loads(pickle.dumps(found))[i]
        np.testing.assert_array_equal(image, np.full((14, 14, 3), 10 * label))


def test_unreadable_records_are_named_by_their_keys(tmp_path):
    found = RecordSource(write(tmp_path / "a.rec", 20, broken=(4, 5, 19)))
    bad = BadRecords(max_share=0.2)
    images, labels = next(
        batches(found, batch=20, seed=3, augmentation="none", bad=bad)
    )
    numbers = images[:, 0, 0, 0]
    # 4 and 5 become 6, and the last one becomes the first.
    kept = [i for i in range(20) if i not in (4, 5, 19)]
    assert sorted(numbers) == sorted([*kept, 6, 6, 0])
    np.testing.assert_array_equal(labels, found.labels[numbers])
    assert set(bad.first) == {"key 5", "key 6", "key 20"}
    wrong = RecordSource(write(tmp_path / "b.rec", 5, size=16))
    with pytest.raises(RecordError, match="5 images in a row.* 16 x 16 pixels, not 12"):
        next(batches(wrong, batch=4, seed=0))
