"""Handwritten digits of scikit-learn as files of face data, for a first run."""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

from experiments.faces.records.pixels import encode
from experiments.faces.records.recordio import RecordWriter
from experiments.faces.records.verification import write_verification_set

_PAIRS = 600
_TRAINED = 1000


def write_digits(folder: pathlib.Path) -> None:
    """Writes ``digits.rec`` and ``digits.bin``, of 16 x 16 pixels.

    The records are the first 1000 images, each digit being an identity. The
    verification set has 300 pairs of other images of one digit, and 300 of two digits,
    in turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = load_digits(return_X_y=True)
    pixels = np.kron(pixels.reshape(-1, 8, 8), np.ones((1, 2, 2))) * (255 / 16)
    images = [encode(image) for image in pixels.astype(np.uint8)]
    with RecordWriter(folder / "digits.rec") as writer:
        for image, label in zip(images[:_TRAINED], labels, strict=False):
            writer.write(image, int(label))
    (folder / "property").write_text("10,16,16\n")
    rng = np.random.default_rng(0)
    first, second = rng.integers(_TRAINED, len(images), (2, 20 * _PAIRS))
    is_same = labels[first] == labels[second]
    kinds = [
        np.flatnonzero((first != second) & kind)[: _PAIRS // 2]
        for kind in (is_same, ~is_same)
    ]
    pairs = np.stack(kinds, axis=1).ravel()
    numbers = np.stack([first[pairs], second[pairs]], axis=1).ravel()
    write_verification_set(
        folder / "digits.bin", [images[i] for i in numbers], is_same[pairs]
    )
