"""The augmentations with which published face networks were trained.

Each takes the pixels of an image, uint8 ``[height, width, 3]``, and its own generator,
and returns pixels of the same shape and type. Sizes are those for 112 pixels.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from experiments.faces.records.pixels import decode, encode

_FILTERS = Image.Resampling
# From RGB to luma and two axes of color, in which a hue is an angle.
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)


def none(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as it is."""
    del rng
    return image


def default(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flips from left to right with probability 1/2 (insightface)."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def extended(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Low resolution, blur, color, gray and flip (insightface's ``dali_aug``).

    In this order, and independently: to a side of 56 to 89 pixels and back (0.1), a
    Gaussian window of three pixels (0.2), hue by up to 20 degrees and saturation by up
    to 1.2 (0.2), gray (0.1), flip (0.5).
    """
    height = len(image)
    if rng.random() < 0.1:
        side = rng.uniform(int(0.5 * height), int(0.8 * height))
        image = low_resolution(image, side / height)
    if rng.random() < 0.2:
        image = blurred(image)
    if rng.random() < 0.2:
        image = recolored(image, rng.uniform(0.0, 20.0), rng.uniform(1.0, 1.2))
    if rng.random() < 0.1:
        image = recolored(image, 0.0, 0.0)
    return default(image, rng)


def adaface(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop, low resolution, photometric changes and flip (AdaFace).

    Independently: everything outside a random box becomes 0 (0.2), a side of 0.2 to 1
    of the image's by one random filter and back by another (0.2), brightness, contrast
    and saturation by 0.5 to 1.5 in random order (0.2), flip (0.5).
    """
    if rng.random() < 0.2:
        top, left, height, width = random_box(image.shape[:2], rng)
        box = slice(top, top + height), slice(left, left + width)
        cropped = np.zeros_like(image)
        cropped[box] = image[box]
        image = cropped
    if rng.random() < 0.2:
        down, up = (ADAFACE_FILTERS[i] for i in rng.integers(0, 5, 2))
        image = low_resolution(image, rng.uniform(0.2, 1.0), down, up)
    if rng.random() < 0.2:
        image = photometric(image, rng, 0.5)
    return default(image, rng)


def mxnet(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flip, JPEG of low quality, color and cut-out (insightface's MXNet code).

    Independently: flip (0.5), JPEG of quality 2 to 20 (0.5), and a square of half the
    image's side that becomes 128, around a random pixel (0.5); always brightness,
    contrast and saturation by 0.875 to 1.125 in random order.
    """
    image = default(image, rng)
    if rng.random() < 0.5:
        quality = int(rng.integers(2, 21))
        image = decode(encode(np.ascontiguousarray(image), "JPEG", quality=quality))
    image = photometric(image, rng, 0.125)
    if rng.random() < 0.5:
        height, width = image.shape[:2]
        row, column = int(rng.integers(height)), int(rng.integers(width))
        reach = height // 4
        image = image.copy()
        image[
            max(0, row - reach) : row + reach, max(0, column - reach) : column + reach
        ] = 128
    return image


AUGMENTATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    each.__name__: each for each in (none, default, extended, adaface, mxnet)
}
ADAFACE_FILTERS = (
    _FILTERS.NEAREST,
    _FILTERS.BILINEAR,
    _FILTERS.BOX,
    _FILTERS.BICUBIC,
    _FILTERS.LANCZOS,
)


def low_resolution(
    image: np.ndarray,
    share: float,
    down: Image.Resampling = _FILTERS.BILINEAR,
    up: Image.Resampling = _FILTERS.BILINEAR,
) -> np.ndarray:
    """Resizes to a share of the sides, and back."""
    height, width = image.shape[:2]
    small = max(1, round(share * width)), max(1, round(share * height))
    resized = Image.fromarray(image).resize(small, down).resize((width, height), up)
    return np.asarray(resized)


def blurred(image: np.ndarray) -> np.ndarray:
    """A Gaussian of deviation 0.8 in a window of three pixels, mirrored at borders."""
    side = np.exp(-0.5 / 0.8**2, dtype=np.float32)
    pixels = np.pad(image, ((1, 1), (1, 1), (0, 0)), "reflect").astype(np.float32)
    pixels = pixels[:-2] * side + pixels[1:-1] + pixels[2:] * side
    pixels = pixels[:, :-2] * side + pixels[:, 1:-1] + pixels[:, 2:] * side
    return np.rint(pixels / (1 + 2 * side) ** 2).astype(np.uint8)


def recolored(image: np.ndarray, degrees: float, saturation: float) -> np.ndarray:
    """Rotates the hue and multiplies the saturation, at the same luma.

    Both are linear in the axes of color, as in DALI; saturation 0 is gray.
    """
    cosine = saturation * np.cos(np.deg2rad(degrees))
    sine = saturation * np.sin(np.deg2rad(degrees))
    change = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    matrix = (np.linalg.inv(_YIQ) @ change @ _YIQ).astype(np.float32)
    return np.clip(np.rint(image @ matrix.T), 0.0, 255.0).astype(np.uint8)


def photometric(
    image: np.ndarray, rng: np.random.Generator, strength: float
) -> np.ndarray:
    """Brightness, contrast and saturation by 1 +- strength, in random order."""
    changed = Image.fromarray(image)
    kinds = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
    for kind in rng.permutation(3):
        factor = rng.uniform(1.0 - strength, 1.0 + strength)
        changed = kinds[kind](changed).enhance(factor)
    return np.asarray(changed)


def random_box(
    shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a box of 0.2 to 1 of the area.

    The ratio of its sides is 3/4 to 4/3, uniform in its logarithm. After ten draws that
    do not fit, it is the whole image.
    """
    height, width = shape
    for _ in range(10):
        area = height * width * rng.uniform(0.2, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            top = int(rng.integers(height - high + 1))
            return top, int(rng.integers(width - wide + 1)), high, wide
    return 0, 0, height, width
