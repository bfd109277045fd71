"""Folders of images by identity, and the record files that are written from them."""

import io
import os
import pathlib
import warnings
from collections.abc import Collection

from PIL import Image

from experiments.faces.records.disk import FULL
from experiments.faces.records.pixels import (
    UnreadableImageError,
    decode,
    encode,
    fitted,
)
from experiments.faces.records.recordio import RecordError, RecordWriter

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def identities_of(folder: pathlib.Path) -> list[tuple[str, list[str]]]:
    """Names of identities, which are folders, and of their images; both sorted.

    Raises:
        RecordError: If there is no folder inside the folder.
    """
    found = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        with os.scandir(folder / name) as entries:
            files = sorted(
                entry.name
                for entry in entries
                if os.path.splitext(entry.name)[1].lower() in _SUFFIXES
            )
        found.append((name, files))
    if not any(files for _, files in found):
        raise RecordError(
            f"{folder} must have a folder for each identity, with images in it; it has"
            f" {len(found)} folders and no image."
        )
    return found


def write_image_folder(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    size: int = 112,
    names: Collection[str] | None = None,
) -> int:
    """Writes a folder of images by identity as a record file of insightface's form.

    Beside the file are its index and ``property``. Identities are numbered from 0 in
    the order of their names, without those that have no readable image. A JPEG that has
    the size already is copied byte by byte; other images are resized, their center cut
    out, and encoded as JPEG of quality 95.

    Args:
        folder: Has a folder for each identity.
        path: The file, such as ``train.rec``.
        size: Side of the images.
        names: The identities that are written; by default all.

    Returns:
        How many images were written.

    Warns:
        UserWarning: If images are unreadable and left out; says how many and which.

    Raises:
        RecordError: If there is no readable image.
        OSError: If the disk is full; says about how many bytes all images need. What
            was written is removed.
    """
    folder, path = pathlib.Path(folder), pathlib.Path(path)
    people = [
        (folder / name, files)
        for name, files in identities_of(folder)
        if names is None or name in names
    ]
    total = sum(
        (place / file).stat().st_size for place, files in people for file in files
    )
    done, key = 0, 1
    ranges: list[tuple[int, int]] = []
    unreadable: list[str] = []
    writer = RecordWriter(path)
    try:
        with writer:
            for place, files in people:
                first = key
                for file in files:
                    content = (place / file).read_bytes()
                    try:
                        image = as_jpeg(content, size)
                    except UnreadableImageError as error:
                        unreadable.append(f"{place.name}/{file} ({error})")
                        continue
                    key = writer.write(image, len(ranges), key) + 1
                    done += len(content)
                if first < key:
                    ranges.append((first, key))
            if not ranges:
                raise RecordError(
                    f"{folder} has no readable image: {', '.join(unreadable[:5])}."
                )
            writer.write_header(ranges, (size, size))
    except OSError as error:
        if error.errno not in FULL:
            raise
        needed = writer.bytes_written * total // done if done else total
        raise OSError(
            error.errno,
            f"the disk is full: {path} needs about {needed} bytes for all images, and"
            f" has {writer.bytes_written}; they are removed",
        ) from error
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} unreadable images of {folder} are left out:"
            f" {', '.join(unreadable[:5])}",
            stacklevel=2,
        )
    return key - 1


def as_jpeg(content: bytes, size: int) -> bytes:
    """A square JPEG: the image itself if it is one of this size, else one of it.

    Raises:
        UnreadableImageError: If it is not an image.
    """
    pixels = decode(content)
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "JPEG" and image.size == (size, size):
            return content
    return encode(fitted(Image.fromarray(pixels), (size, size)), "JPEG", quality=95)
