"""Verification sets: pickled pairs of images, as insightface ships them.

A file such as ``lfw.bin`` is a pickle of two lists: encoded images, of which numbers 2p
and 2p + 1 are pair p, and whether the two of each pair show the same person. Ten folds
follow each other in the file.
"""

import contextlib
import os
import pathlib
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.faces.records.disk import disk_full
from experiments.faces.records.pixels import UnreadableImageError, decode, encode
from experiments.faces.records.recordio import RecordError

FOLDS = 10
PAIRS_RULE = (
    "identities dealt to ten folds, those with the most images first; as many pairs of"
    " one person and of two in each fold, uniform among those of the fold, without"
    " repetition; in each fold pairs of one person first"
)

Path = str | os.PathLike[str]


class VerificationSet(NamedTuple):
    """Pairs of images.

    Attributes:
        images: Pair p is images 2p and 2p + 1, uint8, ``[2 pairs, height, width, 3]``.
        is_same: Whether the two of a pair show one person, boolean, ``[pairs]``.
    """

    images: np.ndarray
    is_same: np.ndarray


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


def read_verification_set(
    path: Path, size: tuple[int, int] = (112, 112)
) -> VerificationSet:
    """Reads a verification set and decodes its images.

    A pickle can run any code. This one can only make lists, numbers, bytes and arrays.

    Args:
        path: The file, of any pickle protocol, also of Python 2.
        size: Height and width to which other images are resized and cropped.

    Raises:
        RecordError: If it is not such a pickle, asks for anything else, or has an image
            that cannot be decoded; says which.
    """
    with open(path, "rb") as file:
        try:
            found = _Unpickler(file, encoding="bytes").load()
        except _RefusedError as error:
            raise RecordError(
                f"{os.fspath(path)} asks for {error}, which a verification set does not"
                " need; it is refused, since a pickle can run code."
            ) from error
        except Exception as error:  # a damaged pickle raises many kinds
            raise RecordError(
                f"{os.fspath(path)} is not a pickle, or truncated:"
                f" {type(error).__name__}: {error}."
            ) from error
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise RecordError(
            f"{os.fspath(path)} must have two lists, images and whether pairs are the"
            f" same, got {type(found).__name__}."
        )
    try:
        images, is_same = list(found[0]), np.array(found[1])
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"{os.fspath(path)} must have two lists ({error})."
        ) from error
    if is_same.ndim != 1 or len(images) != 2 * len(is_same) or not len(images):
        raise RecordError(
            f"{os.fspath(path)} must have two images for each pair, got {len(images)}"
            f" images and {is_same.size} pairs."
        )
    if is_same.dtype.kind not in "biu" or not np.isin(is_same, (0, 1)).all():
        raise RecordError(
            f"{os.fspath(path)} must say of each pair whether it is the same by True or"
            f" False, got {is_same.dtype} from {is_same.min()} to {is_same.max()}."
        )
    pixels = np.empty((len(images), *size, 3), np.uint8)
    for number, image in enumerate(images):
        try:
            pixels[number] = decode(_bytes_of(image), size, fit=True)
        except UnreadableImageError as error:
            raise RecordError(
                f"{os.fspath(path)}: image {number} of {len(images)}: {error}."
            ) from error
    return VerificationSet(pixels, is_same.astype(bool))


def _bytes_of(image: Any) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    raise UnreadableImageError(f"{type(image).__name__} instead of bytes or uint8")


def write_verification_set(
    path: Path,
    images: Sequence[bytes | np.ndarray] | np.ndarray,
    is_same: Sequence[bool] | np.ndarray,
) -> None:
    """Writes a verification set that insightface's code and ours read.

    Args:
        path: The file; it gets its name once it is complete.
        images: Encoded images, two for each pair, or their pixels, uint8, which are
            encoded without loss.
        is_same: Whether the two of each pair show one person.

    Raises:
        ValueError: If there are not two images for each pair.
        OSError: If the disk is full; says how many bytes the file needs.
    """
    if len(images) != 2 * len(is_same):
        raise ValueError(
            f"images must be two for each of the {len(is_same)} pairs, got"
            f" {len(images)}."
        )
    encoded = [x if isinstance(x, bytes) else encode(np.asarray(x)) for x in images]
    content = pickle.dumps((encoded, [bool(x) for x in is_same]), protocol=2)
    target = pathlib.Path(path)
    partial = target.with_name(f"{target.name}.partial")
    try:
        with disk_full(target, partial, len(content)):
            partial.write_bytes(content)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    os.replace(partial, target)


def draw_pairs(
    labels: np.ndarray, seed: int, most: int = 6000
) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs by :data:`PAIRS_RULE`.

    Args:
        labels: Identity of each image, ``[images]``.
        seed: Of the draws.
        most: Number of pairs at most; fewer if the images do not have so many.

    Returns:
        Indices of images, ``[pairs, 2]``, and whether they show one person,
        ``[pairs]``.

    Raises:
        RecordError: If the images do not make two pairs for each of the ten folds.
    """
    rng = np.random.default_rng(seed)
    people, counts = np.unique(labels, return_counts=True)
    order = rng.permutation(len(people))
    order = order[np.argsort(-counts[order], kind="stable")]
    folds = [order[fold::FOLDS] for fold in range(FOLDS)]
    genuine = [int((counts[fold] * (counts[fold] - 1) // 2).sum()) for fold in folds]
    every = [int(n * (n - 1) // 2) for n in (counts[fold].sum() for fold in folds)]
    impostors = [n - same for n, same in zip(every, genuine, strict=True)]
    number = min(most // (2 * FOLDS), *genuine, *impostors)
    if number < 1:
        raise RecordError(
            "pairs need two identities for each of ten folds, one of which has two"
            f" images, got {len(people)} identities, {np.count_nonzero(counts > 1)} of"
            " them with two images."
        )
    pairs = []
    for fold in folds:
        members = [np.flatnonzero(labels == person) for person in people[fold]]
        weights = np.array([len(x) * (len(x) - 1) for x in members], float)
        everybody, found = np.concatenate(members), set()
        while len(found) < number:
            inside = members[rng.choice(len(members), p=weights / weights.sum())]
            found.add(tuple(sorted(rng.choice(inside, 2, replace=False).tolist())))
        pairs += sorted(found)
        found = set()
        while len(found) < number:
            first, second = sorted(rng.choice(everybody, 2, replace=False).tolist())
            if labels[first] != labels[second]:
                found.add((first, second))
        pairs += sorted(found)
    is_same = np.tile(np.repeat([True, False], number), FOLDS)
    return np.array(pairs), is_same
