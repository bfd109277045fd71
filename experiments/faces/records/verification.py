"""Verification sets of insightface, such as ``lfw.bin``: read, written and drawn."""

import contextlib
import os
import pathlib
import pickle
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import sphax as sx
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


def read_verification_set(
    path: Path, size: tuple[int, int] = (112, 112)
) -> VerificationSet:
    """Reads a verification set and decodes its images.

    Args:
        path: The file, see :func:`sphax.data.read_bin`.
        size: Height and width to which other images are resized and cropped.

    Raises:
        RecordError: If an image cannot be decoded; says which.
        ValueError: If the file is not such a set.
    """
    pairs = sx.data.read_bin(path)
    pixels = np.empty((len(pairs.images), *size, 3), np.uint8)
    for number, image in enumerate(pairs.images):
        try:
            pixels[number] = decode(image, size, fit=True)
        except UnreadableImageError as error:
            raise RecordError(
                f"{os.fspath(path)}: image {number} of {len(pixels)}: {error}."
            ) from error
    return VerificationSet(pixels, pairs.same)


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
