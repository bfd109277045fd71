"""Verification sets: decoded, written and drawn."""

import io
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from experiments.faces.records import (
    RecordError,
    evaluation,
    read_verification_set,
    verification,
    write_verification_set,
)


def png(value, height=112, width=112):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = [png(value) for value in (10, 20, 30, 40)]


def test_other_sizes_are_resized_at_the_short_side(tmp_path):
    wide = np.zeros((56, 100, 3), np.uint8)
    wide[:, 22:78] = 200  # the middle, which is kept
    files = [png(0), wide]
    write_verification_set(tmp_path / "a.bin", files, [True])
    found = read_verification_set(tmp_path / "a.bin")
    np.testing.assert_array_equal(found.images[1, :, 2:110], 200)
    np.testing.assert_array_equal(found.images[0], 0)


@pytest.mark.parametrize(
    ("last", "message"),
    [(b"", "image 3 of 4: 0 bytes"), (FILES[0][:60], "image 3 of 4: 60 bytes")],
)
def test_unreadable_images_are_named(tmp_path, last, message):
    content = pickle.dumps(([*FILES[:3], last], [True, False]))
    (tmp_path / "lfw.bin").write_bytes(content)
    with pytest.raises(RecordError, match=message) as error:
        read_verification_set(tmp_path / "lfw.bin")
    assert str(tmp_path / "lfw.bin") in str(error.value)


def test_sets_are_written_as_they_are_read(tmp_path):
    path = tmp_path / "a.bin"
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    write_verification_set(path, images, np.array([False, True]))
    found = read_verification_set(path)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.is_same, [False, True])
    # Plain lists of bytes and booleans, for insightface's reader; bytes as they are.
    write_verification_set(path, FILES, [False, True])
    assert pickle.loads(path.read_bytes()) == (FILES, [False, True])
    with pytest.raises(ValueError, match="two for each of the 1 pairs, got 4"):
        write_verification_set(path, FILES, [True])


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_leaves_nothing(tmp_path):
    (tmp_path / "a.bin.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"a.bin needs \d+ bytes, and 0 could"):
        write_verification_set(tmp_path / "a.bin", FILES, [False, True])
    assert not list(tmp_path.iterdir())


def test_pairs_follow_their_rule():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 6, 40)))
    pairs, is_same = verification.draw_pairs(labels, 3)
    again = verification.draw_pairs(labels, 3)
    np.testing.assert_array_equal(pairs, again[0])
    assert (pairs != verification.draw_pairs(labels, 4)[0]).any()
    people = labels[pairs]
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], is_same)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == len(pairs)
    number = len(pairs) // 20
    np.testing.assert_array_equal(
        is_same.reshape(10, -1), [[True] * number + [False] * number] * 10
    )
    folds = [set(each.ravel().tolist()) for each in people.reshape(10, -1, 2)]
    assert sum(map(len, folds)) == len(set.union(*folds))
    assert len(verification.draw_pairs(labels, 3, 40)[0]) == 40


def test_too_few_identities_make_no_pairs():
    with pytest.raises(RecordError, match="got 15 identities, 15 of them with two"):
        verification.draw_pairs(np.repeat(np.arange(15), 2), 0)


def test_accuracy_is_insightface_s():
    rng = np.random.default_rng(0)
    is_same = rng.random(103) < 0.5
    first, flip = rng.normal(size=(2, 103, 6))
    second = np.where(is_same[:, None], first + 0.8 * flip, flip)
    x = np.stack([first, second], 1).reshape(206, 6)
    y = x + 0.1 * rng.normal(size=x.shape)
    found = evaluation.verification(x.astype(np.float32), y.astype(np.float32), is_same)

    unit = (x + y) / np.linalg.norm(x + y, axis=1, keepdims=True)
    distances = ((unit[::2] - unit[1::2]) ** 2).sum(1)
    folds = np.concatenate([[f] * (11 if f < 3 else 10) for f in range(10)])
    rates = []
    for fold in range(10):
        held = folds == fold
        right = [
            np.mean((distances[~held] < t) == is_same[~held])
            for t in np.arange(0, 4, 0.01)
        ]
        threshold = np.arange(0, 4, 0.01)[np.argmax(right)]
        rates.append(np.mean((distances[held] < threshold) == is_same[held]))
    np.testing.assert_allclose(found.per_fold, rates)
    assert 0.6 < found.accuracy < 1
    assert "image + mirror image, normalized" in found.rule
    assert "squared distances" in found.rule
    with pytest.raises(ValueError, match="got 206 and 206 for 102 pairs"):
        evaluation.verification(x, y, is_same[1:])
