"""Batches: their order, whoever makes them; unreadable images; augmentations."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.faces import records
from experiments.faces.records import augmentation
from experiments.faces.records.batches import IN_A_ROW
from experiments.faces.records.pixels import UnreadableImageError

IMAGES, BATCH = 20, 8


class Numbered(records.Source):
    """Images whose pixels are their numbers; some numbers are unreadable."""

    def __init__(self, images=IMAGES, unreadable=()):
        super().__init__("numbers", np.arange(images) % 5, (2, 2), relabel=False)
        self.unreadable = frozenset(unreadable)

    def __getitem__(self, index):
        if index in self.unreadable:
            raise UnreadableImageError("no image")
        return np.full((2, 2, 3), index, np.uint8), int(self.labels[index])


def numbers(source, steps, **options):
    """The image numbers of some steps, ``[steps, batch]``."""
    given = {"batch": BATCH, "seed": 3, "augmentation": "none", **options}
    found = records.batches(source, **given)
    taken = list(itertools.islice(found, steps))
    found.close()  # pyright: ignore[reportAttributeAccessIssue]
    for images, labels in taken:
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 5)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    return np.stack([images[:, 0, 0, 0] for images, _ in taken])


def test_each_epoch_has_every_image_once_in_an_order_of_its_own():
    stream = numbers(Numbered(), 10).ravel()  # four epochs
    epochs = stream.reshape(4, IMAGES)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(IMAGES))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert (numbers(Numbered(), 10, seed=4).ravel() != stream).any()


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_have_slices_of_the_same_batches(hosts):
    expected = numbers(Numbered(), 5)
    parts = [numbers(Numbered(), 5, host=i, hosts=hosts) for i in range(hosts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize("augment", ["none", "extended"])
def test_a_run_goes_on_within_an_epoch_as_if_it_had_not_stopped(augment):
    def taken(start, steps):
        found = records.batches(
            Numbered(), batch=BATCH, seed=3, start=start, augmentation=augment
        )
        return [images for images, _ in itertools.islice(found, steps)]

    np.testing.assert_array_equal(taken(0, 7)[4:], taken(4, 3))


@pytest.mark.slow
def test_worker_processes_change_nothing():
    source = Numbered(unreadable=(3,))
    expected = numbers(source, 6, bad=records.BadRecords(1.0))
    for workers in (1, 2):
        bad = records.BadRecords(1.0)
        found = numbers(source, 6, workers=workers, bad=bad)
        np.testing.assert_array_equal(found, expected)


ENDLESS = """
import sys
import numpy as np
from experiments.faces.records import ArraySource, batches

if __name__ == "__main__":
    source = ArraySource(np.zeros((9, 8, 8), np.uint8), np.zeros(9, int))
    iterator = batches(source, batch=4, seed=0, workers=2)
    next(iterator)
    import multiprocessing
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    while True:
        next(iterator)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_worker_processes_end_with_one_that_is_killed(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(tmp_path / "endless.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as main:
        assert main.stdout is not None
        children = main.stdout.readline().split()
        main.send_signal(signal.SIGKILL)
    assert len(children) == 2
    end = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{int(child)}") for child in children):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_unreadable_images_are_replaced_by_the_next_ones_and_counted():
    readable, bad = numbers(Numbered(), 5), records.BadRecords(max_share=0.2)
    found = numbers(Numbered(unreadable=(3, 4, 19)), 5, bad=bad)
    expected = readable.copy()
    expected[(readable == 3) | (readable == 4)] = 5
    expected[readable == 19] = 0
    np.testing.assert_array_equal(found, expected)
    assert (bad.epoch, bad.count) == (1, 3)  # each epoch counts its own
    assert sorted(bad.first) == ["image 19", "image 3", "image 4"]


def test_too_many_unreadable_images_stop_the_training():
    with pytest.raises(
        records.RecordError, match="more than 0.001 of 20: image 3; mend"
    ):
        numbers(Numbered(unreadable=(3,)), 5)
    bad = records.BadRecords(max_share=1.0)
    with pytest.raises(records.RecordError, match="20 images in a row are unreadable"):
        numbers(Numbered(unreadable=range(IMAGES)), 1, bad=bad)
    many = Numbered(1200, unreadable=range(1200))
    with pytest.raises(records.RecordError, match="1000 images in a row"):
        numbers(many, 1, bad=bad)
    assert IN_A_ROW == 1000


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"augmentation": "flip"}, "augmentation must be one of none, default, ext"),
        ({"hosts": 3}, "batch must be a multiple of hosts"),
        ({"host": 2, "hosts": 2}, "host one of 0 to hosts - 1"),
        ({"start": -1}, "start and workers must be 0 or more"),
        ({"seed": 2**32}, r"seed from 0 to 2\^32 - 1"),
    ],
)
def test_wrong_numbers_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        numbers(Numbered(), 1, **options)


def test_identities_without_images_are_refused_or_numbered_again():
    image = np.zeros((4, 2, 2, 3), np.uint8)
    with pytest.raises(records.RecordError, match=r"2 of its 5 identities, the first"):
        records.ArraySource(image, [0, 2, 4, 4])
    source = records.ArraySource(image, [0, 2, 4, 4], relabel=True)
    np.testing.assert_array_equal(source.labels, [0, 1, 2, 2])
    assert "4 images of 3 identities, 2 of them with one image" in source.summary
    assert len(pickle.loads(pickle.dumps(source))) == 4


IMAGE = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", records.AUGMENTATIONS)
def test_augmentations_keep_shape_and_dtype_and_repeat_themselves(name):
    augment = records.AUGMENTATIONS[name]
    kept, before = 0, IMAGE.copy()
    for seed in range(24):
        found, again = (augment(IMAGE, np.random.default_rng(seed)) for _ in range(2))
        assert (found.shape, found.dtype) == (IMAGE.shape, IMAGE.dtype)
        np.testing.assert_array_equal(found, again)
        kept += np.array_equal(found, IMAGE)
    np.testing.assert_array_equal(IMAGE, before)  # nothing is changed in place
    # With the probabilities published: never, half the time, or less.
    assert kept == 24 if name == "none" else kept <= 18


def test_the_parts_of_augmentations():
    """A gray image has no color to turn; blur keeps a flat image; a box is inside."""
    flat = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(augmentation.blurred(flat), flat)
    np.testing.assert_array_equal(augmentation.recolored(flat, 20.0, 1.2), flat)
    np.testing.assert_array_equal(augmentation.low_resolution(flat, 0.3), flat)
    impulse = np.zeros((5, 5, 3), np.uint8)
    impulse[2, 2] = 255
    side = np.exp(-0.5 / 0.8**2)
    window = np.outer(*[np.array([side, 1, side]) / (1 + 2 * side)] * 2)
    found = augmentation.blurred(impulse)[1:4, 1:4, 0]
    np.testing.assert_allclose(found, 255 * window, atol=0.5)
    gray = augmentation.recolored(IMAGE, 0.0, 0.0).astype(float)
    luma = IMAGE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray, np.repeat(luma[..., None], 3, -1), atol=0.51)
    rng = np.random.default_rng(0)
    boxes = [augmentation.random_box((112, 112), rng) for _ in range(200)]
    for top, left, height, width in boxes:
        assert 0 <= top <= 112 - height
        assert 0 <= left <= 112 - width
        assert 0.19 < height * width / 112**2 <= 1.0
        assert 0.7 < width / height < 1.4 or (height, width) == (112, 112)


def test_pixels_are_normalized_to_one():
    pixels = np.array([0, 255, 51], np.uint8)
    np.testing.assert_allclose(records.normalize(pixels), [-1.0, 1.0, -0.6], atol=1e-6)
