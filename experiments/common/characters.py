"""Omniglot: rotated characters to train on, and pairs of others to verify."""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

import sphax as sx
from experiments.common import images
from experiments.common.images import Images

SIDE = 28

_VALIDATED = 5  # every fifth background alphabet
_RESAMPLES = 200


class Split(NamedTuple):
    """Training and test images of different alphabets.

    Attributes:
        train: Rotated images, labels from 0 on.
        test: Images that are not rotated, labels from 0 on.
        alphabets: Of the test images, from 0 on, ``[n]``.
        pairs: Indices of pairs of test images, ``[m, 2]``.
        mean: The mean training image in [0, 1].
    """

    train: Images
    test: Images
    alphabets: np.ndarray
    pairs: np.ndarray
    mean: np.ndarray


@functools.lru_cache(maxsize=2)
def load(data_dir: pathlib.Path | None, is_search: bool) -> Split:
    """Background and evaluation alphabets, or for a search two parts of the former.

    Raises:
        DatasetNotFoundError: If Omniglot is not prepared there.
    """
    train, rows = images.read("omniglot", "train", data_dir, (SIDE, SIDE))
    if is_search:
        alphabets = np.array([row["alphabet"] for row in rows])
        is_test = np.isin(alphabets, np.unique(alphabets)[::_VALIDATED])
        test = Images(train.images[is_test], train.labels[is_test])
        train = Images(train.images[~is_test], train.labels[~is_test])
        alphabets = alphabets[is_test]
    else:
        test, rows = images.read("omniglot", "test", data_dir, (SIDE, SIDE))
        alphabets = np.array([row["alphabet"] for row in rows])
    train = rotated(Images(train.images, _numbered(train.labels)))
    test = Images(test.images, _numbered(test.labels))
    mean = train.images.mean(0, dtype=np.float64) / 255.0
    pairs = pairs_of(test.labels)
    return Split(train, test, _numbered(alphabets), pairs, mean.astype(np.float32))


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def rotated(side: Images) -> Images:
    """The images at 0, 90, 180 and 270 degrees, each with classes of its own."""
    classes = int(side.labels.max()) + 1
    turns = range(4)
    return Images(
        np.concatenate([np.rot90(side.images, turn, (1, 2)) for turn in turns]),
        np.concatenate([side.labels + turn * classes for turn in turns]),
    )


def pairs_of(labels: np.ndarray) -> np.ndarray:
    """All pairs of images of one class, then as many pairs of two classes at random."""
    genuine = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        genuine.append(members[np.transpose(np.triu_indices(len(members), 1))])
    genuine = np.concatenate(genuine)
    drawn = np.random.default_rng(0).integers(len(labels), size=(4 * len(genuine), 2))
    impostors = drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]]
    return np.concatenate([genuine, impostors[: len(genuine)]])


def sizes(split: Split) -> dict[str, int]:
    """Numbers of classes, images and pairs."""
    return {
        "train_classes": int(split.train.labels.max()) + 1,
        "train_images": len(split.train.labels),
        "test_classes": int(split.test.labels.max()) + 1,
        "test_images": len(split.test.labels),
        "alphabets": int(split.alphabets.max()) + 1,
        "pairs": len(split.pairs),
    }


def scored(split: Split, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the pairs, and whether each is genuine."""
    unit = np.asarray(sx.sphere.normalize(embeddings))
    parts = np.array_split(split.pairs, 20)
    scores = [np.einsum("ij,ij->i", unit[p[:, 0]], unit[p[:, 1]]) for p in parts]
    first, second = split.test.labels[split.pairs.T]
    return np.concatenate(scores), first == second


def error(split: Split, embeddings: np.ndarray) -> float:
    """Equal error rate of the pairs, in percent."""
    return 100.0 * sx.metrics.equal_error_rate(*scored(split, embeddings))


def resampled(scores: np.ndarray, same: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Equal error rates if groups of images are drawn with replacement.

    Unlike :func:`sx.metrics.bootstrap`, it also takes groups of several classes, such
    as alphabets.

    Args:
        scores: Cosines of the pairs, ``[m]``.
        same: Whether each is genuine, ``[m]``.
        sides: Groups of both images of each pair, from 0 on, ``[m, 2]``.

    Returns:
        ``[200]``, of the same draws for the same groups.
    """
    groups, rng, found = int(sides.max()) + 1, np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        counts = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        weights = sx.metrics.subject_weights(sides, counts)
        found.append(sx.metrics.equal_error_rate(scores, same, weights=weights))
    return np.array(found)
