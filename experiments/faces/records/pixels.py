"""Encoded images to pixels, and pixels to what a network takes."""

import io
from typing import Any

import numpy as np
from PIL import Image


class UnreadableImageError(ValueError):
    """Bytes are no image, or one of another size."""


def decode(
    content: bytes, size: tuple[int, int] | None = None, *, fit: bool = False
) -> np.ndarray:
    """Decodes an image, uint8, ``[height, width, 3]``.

    Args:
        content: JPEG, PNG, or another format that Pillow reads.
        size: Height and width that the image has or, with ``fit``, gets.
        fit: Whether to resize and crop images of another size; see :func:`fitted`.

    Raises:
        UnreadableImageError: If it is not an image, or not of this size.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # decoders raise many kinds
        raise UnreadableImageError(
            f"{len(content)} bytes that are not an image ({error})"
        ) from error
    found = image.height, image.width
    if size is not None and found != size:
        if not fit:
            raise UnreadableImageError(
                f"an image of {found[0]} x {found[1]} pixels, not {size[0]} x {size[1]}"
            )
        image = fitted(image, size)
    return np.asarray(image)


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The center of an image, of the shape of ``size``, resized to it."""
    height, width = size
    scale = min(image.height / height, image.width / width)
    half_width, half_height = scale * width / 2, scale * height / 2
    x, y = image.width / 2, image.height / 2
    box = x - half_width, y - half_height, x + half_width, y + half_height
    return image.resize((width, height), Image.Resampling.BILINEAR, box)


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encodes an image; JPEG takes a ``quality``."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def normalize(images: Any) -> Any:
    """Pixels from 0 to 255 as float32 from -1 to 1; NumPy or JAX arrays, any shape."""
    return (images.astype(np.float32) - 127.5) / 127.5
