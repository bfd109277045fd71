"""Training images and verification sets of some settings."""

import pathlib

import jax
import numpy as np
from jax.experimental import multihost_utils
from sklearn.datasets import load_digits

from experiments.faces import records
from experiments.faces.config import Config
from experiments.faces.records.pixels import encode

_DIGIT_PAIRS = 600


class Subset(records.Source):
    """Some images of a source; identities of which none is left are left out too.

    Args:
        source: All images.
        kept: Numbers of those that remain.
    """

    def __init__(self, source: records.Source, kept: np.ndarray):
        super().__init__(source.title, source.labels[kept], source.size, relabel=True)
        self._source, self._kept = source, kept

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, _ = self._source[int(self._kept[index])]
        return image, int(self.labels[index])

    def name(self, index: int) -> str:
        """What an image is called in the messages of errors."""
        return self._source.name(int(self._kept[index]))


def training(config: Config) -> records.Source:
    """The training images.

    Raises:
        DatasetNotFoundError: If a set is not prepared.
        OSError: If a file or a folder is missing.
        RecordError: If a file is damaged.
        ValueError: If there are no data, or of another size.
    """
    path = config.data
    if path is None:
        if config.preset != "quick":
            raise ValueError(
                f"--preset {config.preset} needs --data, such as a train.rec of the"
                " identities that it is for."
            )
        path = _digits(config)[0]
    found = opened(config, path)
    if found.size != (config.image_size,) * 2:
        raise ValueError(
            f"--image-size must be the size of the images in {path},"
            f" {found.size[0]} x {found.size[1]}, got {config.image_size}."
        )
    if len(found) < config.batch:
        raise ValueError(
            f"--batch must be at most {len(found)}, the number of training images, got"
            f" {config.batch}."
        )
    return found


def opened(config: Config, path: pathlib.Path) -> records.Source:
    """The images of a record file, a folder, or a prepared set."""
    return records.source(str(path), size=config.image_size, relabel=config.relabel)


def verification(config: Config) -> dict[str, records.VerificationSet]:
    """The verification sets by the names of their files.

    Raises:
        OSError: If a file is missing.
        RecordError: If a file is damaged.
    """
    paths = config.verification
    if not paths and config.data is None:
        paths = _digits(config)[1:]
    size = config.image_size, config.image_size
    return {path.stem: records.read_verification_set(path, size) for path in paths}


def _digits(config: Config) -> tuple[pathlib.Path, pathlib.Path]:
    """Digits 0 to 4 as a record file, and pairs of 5 to 9 as a verification set."""
    folder = config.runs / config.study / "digits"
    paths = folder / "digits.rec", folder / "digits.bin"
    if jax.process_index() == 0 and not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        pixels, labels = load_digits(return_X_y=True)
        pixels = np.kron(pixels.reshape(-1, 8, 8), np.ones((2, 2))) * (255 / 16)
        images = [encode(image) for image in pixels.astype(np.uint8)]
        with records.RecordWriter(paths[0]) as writer:
            for number in np.flatnonzero(labels < 5):
                writer.write(images[number], int(labels[number]))
        (folder / "property").write_text("5,16,16\n")
        rng = np.random.default_rng(0)
        first, second = rng.choice(np.flatnonzero(labels >= 5), (2, 200_000))
        is_same = labels[first] == labels[second]
        # As many of either kind, in turn, so that each fold has both.
        half = _DIGIT_PAIRS // 2
        kinds = [
            np.flatnonzero((first != second) & k)[:half] for k in (is_same, ~is_same)
        ]
        pairs = np.stack(kinds, axis=1).ravel()
        numbers = np.stack([first[pairs], second[pairs]], axis=1).ravel()
        records.write_verification_set(
            paths[1], [images[i] for i in numbers], is_same[pairs]
        )
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("digits")
    return paths
