"""Image sets as arrays: one that scikit-learn bundles, others through tfds."""

import dataclasses
import functools
import io
import os
import pathlib
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Name = Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]


class Images(NamedTuple):
    """A split: images ``[n, height, width, channels]`` in uint8, labels ``[n]``."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Training and test split of one set."""

    train: Images
    test: Images
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """Mean training image, ``[height, width, channels]``, pixels in [0, 1]."""
        mean = self.train.images.mean(0, dtype=np.float64) / 255.0
        return mean.astype(np.float32)


class DatasetNotFoundError(FileNotFoundError):
    """The set is not prepared in the folder looked in."""


def load(name: Name, data_dir: pathlib.Path | None = None) -> ImageSet:
    """Decodes a set, once, to arrays.

    Args:
        name: ``"digits"`` comes with scikit-learn; all others are read through
            TensorFlow Datasets, which needs no TensorFlow for that.
        data_dir: Folder of the prepared sets; ``TFDS_DATA_DIR`` or
            ``~/tensorflow_datasets`` if not given.

    Raises:
        DatasetNotFoundError: If the set is not prepared there. Nothing is downloaded.
    """
    return _load_digits() if name == "digits" else _load_tfds(name, data_dir)


def _load_digits() -> ImageSet:
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (pixels * 15).astype(np.uint8).reshape(-1, 8, 8, 1)  # 0..16 to 0..240
    labels = labels.astype(np.int32)
    # In file order the halves are by different writers, as in scikit-learn's example.
    half = len(labels) // 2
    train, test = (
        Images(images[part], labels[part]) for part in (slice(half), slice(half, None))
    )
    return ImageSet(train, test, 10)


def _load_tfds(name: Name, data_dir: pathlib.Path | None) -> ImageSet:
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = pathlib.Path(folder).expanduser().resolve()
    # Asked for here: by itself, tfds would try to download for minutes.
    if not any(folder.glob(f"{name}/*/dataset_info.json")):
        raise DatasetNotFoundError(
            f"{name} is not prepared in {folder} (--data-dir or TFDS_DATA_DIR). On a"
            " machine with a network and with TensorFlow, which only preparing needs,"
            f' run: python -c "import tensorflow_datasets as tfds;'
            f" tfds.builder('{name}', data_dir='{folder}',"
            " file_format='array_record').download_and_prepare()\""
        )
    import tensorflow_datasets as tfds

    version = max(path.parent for path in folder.glob(f"{name}/*/dataset_info.json"))
    builder = tfds.builder_from_directory(str(version))
    train, test = (_decode(builder, split) for split in ("train", "test"))
    return ImageSet(train, test, int(train.labels.max()) + 1)


def _decode(builder, split: str) -> Images:
    import tensorflow_datasets as tfds

    # Raw bytes and Pillow: three quarters of the time that the image feature takes.
    decoders = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_data_source(split, decoders=decoders)
    rows = source.__getitems__(range(len(source)))
    images = np.stack([np.asarray(Image.open(io.BytesIO(r["image"]))) for r in rows])
    if images.ndim == 3:
        images = images[..., None]
    return Images(images, np.array([row["label"] for row in rows], np.int32))
