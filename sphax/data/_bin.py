"""Verification sets of insightface: pickled pairs of encoded images, ``lfw.bin``."""

import os
import pickle
from typing import Any, NamedTuple

import numpy as np

_FOLDS = 10


class ImagePairs(NamedTuple):
    """Pairs of encoded images; see :func:`read_bin`.

    Attributes:
        images: The encoded images, JPEG or PNG; pair p is images 2p and 2p + 1,
            ``[2 pairs]``.
        same: Whether both are of one person, boolean, ``[pairs]``.
        fold: Number of the fold, from 0 to 9, integer, ``[pairs]``.

    Example:
        >>> pairs = sx.data.ImagePairs([b"0", b"1"], np.array([True]), np.array([0]))
        >>> list(zip(pairs.images[0::2], pairs.images[1::2], pairs.same.tolist()))
        [(b'0', b'1', True)]
    """

    images: list[bytes]
    same: np.ndarray
    fold: np.ndarray


# All that these files contain besides lists, tuples, numbers and bytes.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    *(("builtins", name) for name in ("list", "tuple", "bytes", "bytearray", "bool")),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy._core", "numpy.core")
        known = known.replace("__builtin__", "builtins")
        if (known, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return super().find_class(known.replace("numpy.core", "numpy._core"), name)


class _RefusedError(Exception):
    """A pickle asks for something that a verification set does not need."""


def read_bin(path: str | os.PathLike[str]) -> ImagePairs:
    """Reads a verification set of insightface, such as ``lfw.bin`` or ``agedb_30.bin``.

    The file is a pickle of two lists: encoded images, of which numbers 2p and 2p + 1
    are pair p, and whether the two of each pair show one person. A pickle can run any
    code: this one can only make lists, numbers, bytes and arrays, and nothing else is
    loaded.

    The embedding of an image is by convention that of the image plus that of its mirror
    image, normalized after the sum, and ten folds follow each other in the file (the
    first of them have a pair more if ten does not divide their number). Pixels are RGB,
    112 x 112, from -1 to 1. Decoding is left to an image library.

    Args:
        path: The file, of any pickle protocol, also of Python 2.

    Returns:
        :class:`ImagePairs`; :func:`sphax.metrics.verification_accuracy` takes ``same``
        and ``fold``, with ``rule="insightface"``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a pickle, or asks for anything else; says what.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     pickle.dump(([b"image 0", b"image 1"], [True]), file)
        ...     file.flush()
        ...     sx.data.read_bin(file.name).images
        [b'image 0', b'image 1']

    References:
        `insightface's code <https://github.com/deepinsight/insightface>`_.
    """
    title = os.fspath(path)
    with open(path, "rb") as file:
        try:
            found = _Unpickler(file, encoding="bytes").load()
        except _RefusedError as error:
            raise ValueError(
                f"{title} asks for {error}, which a verification set does not need; it"
                " is refused, since a pickle can run code."
            ) from error
        except Exception as error:  # a damaged pickle raises many kinds
            raise ValueError(
                f"{title} is not a pickle, or truncated: {type(error).__name__}:"
                f" {error}."
            ) from error
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise ValueError(
            f"{title} must have two lists, images and whether pairs are the same, got"
            f" {type(found).__name__}."
        )
    try:
        images, same = list(found[0]), np.array(found[1])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{title} must have two lists ({error}).") from error
    if same.ndim != 1 or len(images) != 2 * len(same) or not len(images):
        raise ValueError(
            f"{title} must have two images for each pair, got {len(images)} images and"
            f" {same.size} pairs."
        )
    if same.dtype.kind not in "biu" or not np.isin(same, (0, 1)).all():
        raise ValueError(
            f"{title} must say of each pair whether it is the same by True or False,"
            f" got {same.dtype} from {same.min()} to {same.max()}."
        )
    content = []
    for number, image in enumerate(images):
        if isinstance(image, np.ndarray) and image.dtype == np.uint8:
            content.append(image.tobytes())
        elif isinstance(image, (bytes, bytearray)):
            content.append(bytes(image))
        else:
            raise ValueError(
                f"{title}: image {number} of {len(images)} must be bytes or uint8, got"
                f" {type(image).__name__}."
            )
    sizes = [len(part) for part in np.array_split(same, _FOLDS)]
    return ImagePairs(content, same.astype(bool), np.repeat(np.arange(_FOLDS), sizes))
