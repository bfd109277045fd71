"""Sources of images with identities: records, folders, prepared sets, arrays.

A source knows all labels without decoding an image, gives image and label by index, and
pickles, so that worker processes read by themselves.
"""

import abc
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import images as prepared
from experiments.faces.records.folders import identities_of
from experiments.faces.records.pixels import decode
from experiments.faces.records.recordio import RecordError, RecordReader

Path = str | os.PathLike[str]


class Source(abc.ABC):
    """A sequence of images, uint8 ``[height, width, 3]``, with their labels.

    Attributes:
        labels: From 0 to ``num_classes - 1``, each at least once, int32, ``[images]``.
        num_classes: Number of identities.
        size: Height and width.

    Args:
        title: Name in messages.
        labels: Identity of each image, ``[images]``.
        size: Height and width.
        relabel: Whether identities are numbered again, without those that have no
            image. Otherwise such identities are refused.
        num_classes: How many identities there are; by default the largest label + 1.

    Raises:
        RecordError: If there is no image, or if identities have none.
    """

    def __init__(
        self,
        title: str,
        labels: Any,
        size: tuple[int, int],
        relabel: bool,
        num_classes: int | None = None,
    ):
        self.title, self.size = title, size
        self.labels = np.asarray(labels, np.int32)
        if not len(self.labels):
            raise RecordError(f"{title} has no images.")
        present, places = np.unique(self.labels, return_inverse=True)
        expected = int(present[-1]) + 1 if num_classes is None else num_classes
        if present[-1] >= expected:
            raise RecordError(
                f"{title} has the label {present[-1]}, but labels must be below the"
                f" number of identities, {expected}."
            )
        if len(present) < expected:
            if not relabel:
                missing = np.setdiff1d(np.arange(expected), present)
                raise RecordError(
                    f"{title} has no image of {len(missing)} of its {expected}"
                    f" identities, the first of them {missing[:5].tolist()}: they would"
                    " be trained as classes. relabel=True numbers the others again."
                )
            self.labels = places.astype(np.int32)
        self.num_classes = len(present)

    @property
    def summary(self) -> str:
        """Numbers of images and identities, and of those with one image, in words."""
        singles = np.count_nonzero(np.bincount(self.labels) == 1)
        return (
            f"{self.title}: {len(self)} images of {self.num_classes} identities,"
            f" {singles} of them with one image"
        )

    def __len__(self) -> int:
        return len(self.labels)

    @abc.abstractmethod
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """An image and its label."""

    def name(self, index: int) -> str:
        """What an image is called in the messages of errors."""
        return f"image {index}"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.title!r}, images={len(self)},"
            f" identities={self.num_classes}, size={self.size})"
        )


class RecordSource(Source):
    """Images of a record file, of the size that ``property`` says.

    Args:
        path: The file, such as ``train.rec``.
        relabel: See :class:`Source`.
        size: Height and width; by default those of ``property``, or 112 without it.
    """

    def __init__(
        self, path: Path, *, relabel: bool = False, size: tuple[int, int] | None = None
    ):
        self._reader = RecordReader(path)
        self._said = self._reader.labels
        super().__init__(
            os.fspath(path),
            self._said,
            size or self._reader.size or (112, 112),
            relabel,
            self._reader.num_classes,
        )

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        record = self._reader[index]
        if record.label != self._said[index]:
            raise RecordError(
                f"{self.title}: key {record.key} has the label {record.label}, but is"
                f" among the images of the identity {self._said[index]}."
            )
        return decode(record.image, self.size), int(self.labels[index])

    def name(self, index: int) -> str:
        """The key of an image."""
        return f"key {self._reader.keys[index]}"


class FolderSource(Source):
    """Images in folders, one for each identity, in the order of their names.

    Args:
        folder: Has the folders of the identities.
        size: Height and width to which images are resized and cropped.
        relabel: See :class:`Source`.
    """

    def __init__(
        self, folder: Path, *, size: tuple[int, int] = (112, 112), relabel: bool = False
    ):
        self._folder = pathlib.Path(folder)
        found = identities_of(self._folder)
        self._files = [f"{name}/{file}" for name, files in found for file in files]
        labels = np.repeat(np.arange(len(found)), [len(files) for _, files in found])
        super().__init__(os.fspath(folder), labels, size, relabel, len(found))

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        content = (self._folder / self._files[index]).read_bytes()
        return decode(content, self.size, fit=True), int(self.labels[index])

    def name(self, index: int) -> str:
        """The path of an image in the folder."""
        return self._files[index]


class ArraySource(Source):
    """Images in memory.

    Args:
        images: uint8, ``[images, height, width]`` or ``[images, height, width, 3]``.
        labels: ``[images]``.
        relabel: See :class:`Source`.
        title: Name in messages.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        relabel: bool = False,
        title: str = "the array",
    ):
        self._images = images
        height, width = images.shape[1:3]
        super().__init__(title, labels, (height, width), relabel)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self._images[index]
        if image.ndim == 2:
            image = np.stack([image] * 3, axis=-1)
        return image, int(self.labels[index])


class PreparedSource(Source):
    """A set that TensorFlow Datasets has prepared, read without TensorFlow.

    Its features are ``image``, in an encoded form, and ``label``.

    Args:
        name: Name of the set.
        split: Name of the split.
        data_dir: As for :func:`experiments.common.images.load`.
        size: Height and width to which images are resized and cropped.
        relabel: See :class:`Source`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        *,
        data_dir: pathlib.Path | None = None,
        size: tuple[int, int] = (112, 112),
        relabel: bool = False,
    ):
        self._rows = prepared.encoded(name, split, data_dir)
        labels = [self._rows[i]["label"] for i in range(len(self._rows))]
        super().__init__(f"{name}/{split}", labels, size, relabel)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        content = self._rows[index]["image"]
        return decode(content, self.size, fit=True), int(self.labels[index])


class Subset(Source):
    """Some images of a source; identities of which none is left are left out too.

    Args:
        source: All images.
        kept: Numbers of those that remain.
    """

    def __init__(self, source: Source, kept: np.ndarray):
        super().__init__(source.title, source.labels[kept], source.size, relabel=True)
        self._source, self._kept = source, kept

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, _ = self._source[int(self._kept[index])]
        return image, int(self.labels[index])

    def name(self, index: int) -> str:
        """What an image is called in the messages of errors."""
        return self._source.name(int(self._kept[index]))


def source(spec: Path, *, size: int = 112, relabel: bool = False) -> Source:
    """The source that a setting names.

    Args:
        spec: A record file (``FOLDER/train.rec``), a folder of identities, or a
            prepared set, ``tfds:NAME/SPLIT``.
        size: Side of the images, where they can be resized.
        relabel: See :class:`Source`.
    """
    spec, square = os.fspath(spec), (size, size)
    if spec.startswith("tfds:"):
        name, _, split = spec.removeprefix("tfds:").partition("/")
        return PreparedSource(name, split or "train", size=square, relabel=relabel)
    if spec.endswith(".rec"):
        return RecordSource(spec, relabel=relabel)
    return FolderSource(spec, size=square, relabel=relabel)
