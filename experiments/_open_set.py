"""Open-set protocols: what is trained on has no class in common with what is tested.

Every protocol gives splits, one or (LFW) ten. A split has training images of some
classes, test images of others, and pairs of test images, most of them in one of ten
folds: the threshold with which the pairs of a fold are judged comes from the others.
"""

import pathlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments import _data

Name = Literal["digits", "orl_faces", "omniglot", "lfw_aligned"]

# Of the pairs, in every protocol.
FOLDS = 10
_PER_FOLD = 300  # of the same class, and of different ones, at most: as in LFW
_PAIRED = 2_500  # test images at most of which all pairs are formed


class Pairs(NamedTuple):
    """Pairs of test images.

    Attributes:
        images: Indices of the test images that are in any pair, ``[m]``.
        first: Indices into ``images``, ``[n]``.
        second: As ``first``.
        same: Whether both are of one class, ``[n]``.
        folds: Fold of each pair, -1 for one that the ROC alone counts, ``[n]``.
    """

    images: np.ndarray
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray


class Split(NamedTuple):
    """Training and test images of different classes, each labelled from 0 on.

    Attributes:
        data: Images and labels.
        pairs: Of test images.
        groups: Where it matters, the group of each test image (its alphabet), from
            which the classes of a trial are drawn together.
    """

    data: _data.ImageSet
    pairs: Pairs
    groups: np.ndarray | None = None


def load(name: Name, data_dir: pathlib.Path | None = None) -> list[Split]:
    """The splits of a protocol.

    Args:
        name: ``"digits"`` comes with scikit-learn: five of the ten digits are trained
            on. ``"orl_faces"``: the first 20 of 40 people. ``"omniglot"``: the
            background alphabets. ``"lfw_aligned"``: for each of the ten folds, people
            of the other nine.
        data_dir: As for :func:`experiments._data.load`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    if name == "digits":
        digits = _data.load("digits")
        pair = zip(digits.train, digits.test, strict=True)
        return [_halves(_data.Images(*map(np.concatenate, pair)))]
    if name == "orl_faces":
        return [_halves(_data.read(name, "train", data_dir, (56, 46))[0])]
    if name == "omniglot":
        return [_alphabets(data_dir)]
    return _ten_folds(data_dir)


def _halves(images: _data.Images) -> Split:
    """The first half of the classes is trained on."""
    is_first = images.labels < (images.labels.max() + 1) // 2
    data = _image_set(_rows(images, is_first), _rows(images, ~is_first))
    return Split(data, all_pairs(data.test.labels))


def _alphabets(data_dir: pathlib.Path | None) -> Split:
    train, _ = _data.read("omniglot", "train", data_dir, (28, 28))
    test, rows = _data.read("omniglot", "test", data_dir, (28, 28))
    data = _image_set(train, test)
    alphabets = np.array([row["alphabet"] for row in rows])
    return Split(data, all_pairs(data.test.labels), alphabets)


def _ten_folds(data_dir: pathlib.Path | None) -> list[Split]:
    faces, rows = _data.read("lfw_aligned", "train", data_dir)
    _, listed = _data.read("lfw_aligned", "pairs", data_dir)
    in_order = np.argsort([row["index"] for row in rows])
    return ten_folds(
        _rows(faces, in_order),
        np.array([row["pair"] for row in listed]),
        np.array([row["same"] for row in listed]),
        np.array([row["fold"] for row in listed]),
    )


def ten_folds(
    faces: _data.Images, pairs: np.ndarray, same: np.ndarray, folds: np.ndarray
) -> list[Split]:
    """LFW's protocol: a split for each fold, whose people are in no other fold.

    Trained on are all images of people whom the pairs of the other folds name, without
    the people of this one; of those with two images or more, the ones with the most,
    and in every split the same number of them, so that one compiled step serves all.

    Args:
        faces: Images with the person for a label.
        pairs: Indices of images, ``[n, 2]``.
        same: Whether of one person, ``[n]``.
        folds: Of each pair, ``[n]``.
    """
    named = [np.unique(faces.labels[pairs[folds == f]]) for f in np.unique(folds)]
    counts = np.bincount(faces.labels)
    trained = []
    for people in named:
        others = np.setdiff1d(np.concatenate(named), people)
        others = others[counts[others] >= 2]
        trained.append(others[np.argsort(-counts[others], kind="stable")])
    number = min(map(len, trained))
    splits = []
    for fold, people in zip(np.unique(folds), trained, strict=True):
        train = _rows(faces, np.isin(faces.labels, people[:number]))
        own = folds == fold
        images, places = np.unique(pairs[own], return_inverse=True)
        first, second = places.reshape(-1, 2).T
        found = Pairs(np.arange(len(images)), first, second, same[own], folds[own])
        splits.append(Split(_image_set(train, _rows(faces, images)), found))
    return splits


def all_pairs(labels: np.ndarray, paired: int = _PAIRED) -> Pairs:
    """All pairs of test images, or of as many images as there is room for, at random.

    Pairs of the same and of different classes are put in ten folds at random, as many
    of either kind: 300 in each, or as many as there are.
    """
    rng = np.random.default_rng(0)
    images = np.arange(len(labels))
    if len(images) > paired:
        images = np.sort(rng.choice(images, paired, replace=False))
    first, second = np.triu_indices(len(images), 1)
    same = labels[images][first] == labels[images][second]
    kinds = np.flatnonzero(same), np.flatnonzero(~same)
    per_fold = min(_PER_FOLD, *(len(kind) // FOLDS for kind in kinds))
    folds = np.full(len(same), -1)
    for kind in kinds:
        drawn = rng.choice(kind, FOLDS * per_fold, replace=False)
        folds[drawn] = np.arange(len(drawn)) % FOLDS
    return Pairs(images, first, second, same, folds)


def _image_set(train: _data.Images, test: _data.Images) -> _data.ImageSet:
    train, test = _from_zero(train), _from_zero(test)
    return _data.ImageSet(train, test, int(train.labels.max()) + 1)


def _from_zero(images: _data.Images) -> _data.Images:
    _, labels = np.unique(images.labels, return_inverse=True)
    return images._replace(labels=labels.astype(np.int32))


def _rows(images: _data.Images, index: np.ndarray | Sequence[int]) -> _data.Images:
    return _data.Images(images.images[index], images.labels[index])
