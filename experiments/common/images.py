"""Image sets as arrays, and their preprocessing and augmentation."""

import dataclasses
import functools
import io
import os
import pathlib
import re
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

Name = Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]


class Images(NamedTuple):
    """A split: images ``[n, height, width, channels]`` in uint8, labels ``[n]``."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Training and test split of one set.

    Attributes:
        train: Training images.
        test: Test images.
        classes: Number of classes.
        gray: Whether pixels are centered on 127.5, and not on the mean training image.
    """

    train: Images
    test: Images
    classes: int
    gray: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """Subtracted from pixels in [0, 1], ``[height, width, channels]``."""
        if self.gray:
            return np.full(self.shape, 0.5, np.float32)
        mean = self.train.images.mean(0, dtype=np.float64) / 255.0
        return mean.astype(np.float32)


class DatasetNotFoundError(FileNotFoundError):
    """The set is not in the folder, or not in a format that can be read."""


@functools.lru_cache(maxsize=2)
def load(name: Name, data_dir: pathlib.Path | None = None) -> ImageSet:
    """Decodes a set to arrays; the last two sets are cached.

    Args:
        name: ``"digits"`` comes with scikit-learn; all others are read by TensorFlow
            Datasets, without TensorFlow.
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


def image_ids(name: Name, data_dir: pathlib.Path | None = None) -> list[str]:
    """Ids of the test images that :func:`load` reads from a prepared set, in order.

    Args:
        name: A set that has ids, as CIFAR-10 and CIFAR-100 do.
        data_dir: As for :func:`load`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    return [row["id"].decode() for row in _rows(_builder(name, data_dir), "test")]


def _load_tfds(name: Name, data_dir: pathlib.Path | None) -> ImageSet:
    builder = _builder(name, data_dir)
    train, test = (_decode(_rows(builder, split)) for split in ("train", "test"))
    return ImageSet(train, test, int(train.labels.max()) + 1)


def read(
    name: str,
    split: str,
    data_dir: pathlib.Path | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Images, list[dict[str, Any]]]:
    """A split of any prepared set with images and labels, and its other features.

    Args:
        name: Name of the set.
        split: Name of the split.
        data_dir: As for :func:`load`.
        size: Height and width to which images are resized, in gray.

    Returns:
        The images, and the rows from which they were decoded, in the same order.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    rows = _rows(_builder(name, data_dir), split)
    return _decode(rows, size), rows


def encoded(name: str, split: str, data_dir: pathlib.Path | None = None) -> Any:
    """A split of any prepared set as a sequence of rows, whose images are not decoded.

    Args:
        name: Name of the set.
        split: Name of the split.
        data_dir: As for :func:`load`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    return _source(_builder(name, data_dir), split)


def _builder(name: str, data_dir: pathlib.Path | None):
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = pathlib.Path(folder).expanduser().resolve()
    # Checked here, because tfds would try to download for minutes.
    prepared = [path.parent for path in folder.glob(f"{name}/*/dataset_info.json")]
    if not prepared:
        raise DatasetNotFoundError(
            f"{name} is not prepared in {folder} (--data-dir or TFDS_DATA_DIR)."
            f" {_how_to_prepare(name, folder)}"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(max(prepared, key=_version)))
    kind = builder.info.file_format
    if kind is None or kind.value not in ("array_record", "parquet"):
        elsewhere = folder.with_name(f"{folder.name}_array_record")
        raise DatasetNotFoundError(
            f"{name} in {folder} is prepared as {kind and kind.value}, which only"
            " TensorFlow reads: prepare it as array_record, in another folder."
            f" {_how_to_prepare(name, elsewhere)}"
        )
    return builder


def _version(folder: pathlib.Path) -> tuple[int, ...]:
    """Numbers of the version in the folder's name: 3.0.10 is later than 3.0.2."""
    return tuple(map(int, re.findall(r"\d+", folder.name)))


def _how_to_prepare(name: str, folder: pathlib.Path) -> str:
    if name in ("lfw_aligned", "orl_faces"):
        return (
            "TensorFlow Datasets has no builder for it: experiments/verify/README.md"
            " says which features one of your own has to give."
        )
    return (
        "On a machine with a network and with TensorFlow, which only preparing needs,"
        f' run: python -c "import tensorflow_datasets as tfds;'
        f" tfds.builder('{name}', data_dir='{folder}',"
        " file_format='array_record').download_and_prepare()\""
    )


def _source(builder, split: str) -> Any:
    import tensorflow_datasets as tfds

    # Raw bytes, for Pillow: three quarters of the time of the image feature.
    decoders = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split, decoders=decoders)


def _rows(builder, split: str) -> list[dict[str, Any]]:
    source = _source(builder, split)
    return source.__getitems__(range(len(source)))


def _decode(rows: list[dict[str, Any]], size: tuple[int, int] | None = None) -> Images:
    images = np.stack([_pixels(row["image"], size) for row in rows])
    if images.ndim == 3:
        images = images[..., None]
    return Images(images, np.array([row["label"] for row in rows], np.int32))


def _pixels(file: bytes, size: tuple[int, int] | None) -> np.ndarray:
    image = Image.open(io.BytesIO(file))
    if size is not None:
        height, width = size
        image = image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def prepare(images: jax.Array, mean: jax.Array) -> jax.Array:
    """Pixels in [0, 1] minus the mean training image."""
    return images.astype(jnp.float32) / 255.0 - mean[None]


def augmented(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images padded by four zeros, cropped to size at random, and flipped at random."""
    where_key, flip_key = jax.random.split(key)
    number, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corners = jax.random.randint(where_key, (number, 2), 0, 9)
    rows = corners[:, :1] + jnp.arange(height)[None]
    columns = corners[:, 1:] + jnp.arange(width)[None]
    index = jnp.arange(number)[:, None, None]
    return flipped(flip_key, padded[index, rows[:, :, None], columns[:, None, :]])


def flipped(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images flipped from left to right, each with probability 1/2."""
    is_flipped = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(is_flipped, images[:, :, ::-1], images)
