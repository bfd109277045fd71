"""Trains networks on some classes, and verifies and identifies images of others.

A protocol gives splits: one, or for LFW ten. A split has training images of some
classes, test images of others, and pairs of test images, most of them in one of ten
folds: the threshold with which the pairs of a fold are judged comes from the others.
Scores are cosines. All random draws are fixed, so that they are the same for every loss
and seed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import sphax as sx
from experiments.common import classifier, identification, images
from experiments.common.images import Images, ImageSet
from experiments.common.objectives import METHODS
from experiments.common.runs import Run, Work
from experiments.verify.config import PIXELS, Config, Dataset

FOLDS = 10
# False accept rates at which the curves of the figure are read.
FAR = np.logspace(-4.0, 0.0, 41)

_PER_FOLD = 300  # of the same class, and of different ones, at most: as in LFW
_PAIRED = 2_500  # test images at most of which all pairs are formed

_cosines = jax.jit(sx.sphere.cosine_similarity)


class Pairs(NamedTuple):
    """Pairs of test images.

    Attributes:
        images: Indices of the test images that are in any pair, ``[m]``.
        first: Indices into ``images``, ``[n]``.
        second: As ``first``.
        same: Whether both are of one class, ``[n]``.
        folds: Fold of each pair, -1 for one that only the ROC counts, ``[n]``.
    """

    images: np.ndarray
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray


class Split(NamedTuple):
    """Training and test images of different classes, each labeled from 0 on.

    Attributes:
        data: Images and labels.
        pairs: Of test images.
        groups: For Omniglot the alphabet of each test image, from which the classes of
            a trial are drawn together.
    """

    data: ImageSet
    pairs: Pairs
    groups: np.ndarray | None = None


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method, a network for each split.

    Returns:
        For each seed what :func:`measure` says; of the pixels, which are not trained,
        also the numbers of images, classes and pairs, means over the splits.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    config: Config = runs[0].config
    splits = load(config.dataset, config.data_dir)
    if config.methods == (PIXELS,):
        work.report(1, {})
        flat = [
            (split.data.test.images / 255.0 - split.data.mean)
            .reshape(len(split.data.test.labels), -1)
            .astype(np.float32)
            for split in splits
        ]
        return [{"data": sizes(splits), **measure(splits, flat)}]
    test, trained_on = ([[] for _ in runs] for _ in range(2))
    for number, (data, *_) in enumerate(splits):
        stage, (height, *_) = sx.networks.Stage, data.shape
        stages = (stage(16), stage(32))
        if height >= 16:
            stages = tuple(stage(n, stride=2, pool=None) for n in (16, 32, 64))
        setting, fitted = classifier.fit(
            # Without its name, so that methods with one kind of margin share the step.
            dataclasses.replace(config, methods=(PIXELS,)),
            sx.networks.Design(data.shape, stages, 128),
            METHODS[config.methods[0]],
            data,
            [run.seed for run in runs],
            work.part(f"split-{number}"),
        )
        for place, found in enumerate(fitted):
            embed = functools.partial(classifier.embeddings, setting, found.state, data)
            test[place].append(embed(data.test.images))
            if config.components is not None:
                trained_on[place].append(embed(data.train.images))
    return [
        measure(splits, *embedded, config.components)
        for embedded in zip(test, trained_on, strict=True)
    ]


@functools.lru_cache(maxsize=1)
def load(name: Dataset, data_dir: pathlib.Path | None = None) -> list[Split]:
    """The splits of a protocol.

    Args:
        name: ``"digits"``: five of the ten digits are trained on. ``"orl_faces"``: the
            first 20 of 40 people. ``"omniglot"``: the background alphabets.
            ``"lfw_aligned"``: for each of the ten folds, people of the other nine.
        data_dir: As for :func:`.images.load`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    if name == "lfw_aligned":
        faces, rows = images.read(name, "train", data_dir)
        in_order = np.argsort([row["index"] for row in rows])
        _, rows = images.read(name, "pairs", data_dir)
        pairs, same, folds = (
            np.array([row[key] for row in rows]) for key in ("pair", "same", "fold")
        )
        return ten_folds(_rows(faces, in_order), pairs, same, folds)
    if name == "omniglot":
        train, _ = images.read(name, "train", data_dir, (28, 28))
        test, rows = images.read(name, "test", data_dir, (28, 28))
        data = _image_set(train, test)
        alphabets = np.array([row["alphabet"] for row in rows])
        return [Split(data, all_pairs(data.test.labels), alphabets)]
    if name == "digits":
        digits = images.load("digits")
        pair = zip(digits.train, digits.test, strict=True)
        all_images = Images(*map(np.concatenate, pair))
    else:
        all_images, _ = images.read(name, "train", data_dir, (56, 46))
    is_first = all_images.labels < (all_images.labels.max() + 1) // 2
    data = _image_set(_rows(all_images, is_first), _rows(all_images, ~is_first))
    return [Split(data, all_pairs(data.test.labels))]


def ten_folds(
    faces: Images, pairs: np.ndarray, same: np.ndarray, folds: np.ndarray
) -> list[Split]:
    """LFW's protocol: a split for each fold, whose people are in no other fold.

    Trained on are all images of people whom the pairs of the other folds name, without
    the people of this one; among those with two images or more, the ones with the most,
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
        inside = folds == fold
        numbers, places = np.unique(pairs[inside], return_inverse=True)
        first, second = places.reshape(-1, 2).T
        every = np.arange(len(numbers))
        found = Pairs(every, first, second, same[inside], folds[inside])
        splits.append(Split(_image_set(train, _rows(faces, numbers)), found))
    return splits


def all_pairs(labels: np.ndarray, paired: int = _PAIRED) -> Pairs:
    """All pairs of test images, or of ``paired`` of them, drawn at random.

    Pairs of the same and of different classes are put in ten folds at random, as many
    of either kind: 300 in each, or as many as there are.
    """
    rng = np.random.default_rng(0)
    numbers = np.arange(len(labels))
    if len(numbers) > paired:
        numbers = np.sort(rng.choice(numbers, paired, replace=False))
    first, second = np.triu_indices(len(numbers), 1)
    same = labels[numbers][first] == labels[numbers][second]
    kinds = np.flatnonzero(same), np.flatnonzero(~same)
    per_fold = min(_PER_FOLD, *(len(kind) // FOLDS for kind in kinds))
    folds = np.full(len(same), -1)
    for kind in kinds:
        drawn = rng.choice(kind, FOLDS * per_fold, replace=False)
        folds[drawn] = np.arange(len(drawn)) % FOLDS
    return Pairs(numbers, first, second, same, folds)


def _image_set(train: Images, test: Images) -> ImageSet:
    train, test = (
        Images(x.images, np.unique(x.labels, return_inverse=True)[1].astype(np.int32))
        for x in (train, test)
    )
    return ImageSet(train, test, int(train.labels.max()) + 1)


def _rows(side: Images, index: np.ndarray) -> Images:
    return Images(side.images[index], side.labels[index])


def sizes(splits: Sequence[Split]) -> dict[str, int]:
    """Numbers of classes, images and pairs, as means over the splits."""
    each = [
        {
            "train_classes": data.classes,
            "train_images": len(data.train.labels),
            "test_classes": int(data.test.labels.max()) + 1,
            "test_images": len(data.test.labels),
            "genuine_pairs": int(pairs.same.sum()),
            "impostor_pairs": int((~pairs.same).sum()),
        }
        for data, pairs, _ in splits
    ]
    means = {key: round(float(np.mean([s[key] for s in each]))) for key in each[0]}
    return {"splits": len(splits), **means}


def measure(
    splits: Sequence[Split],
    test: Sequence[np.ndarray],
    train: Sequence[np.ndarray] = (),
    components: int | None = None,
) -> dict[str, Any]:
    """All that is reported of one run.

    Args:
        splits: Of the protocol.
        test: Embeddings of the test images of each split, by the network trained on it.
        train: Embeddings of the training images, for principal components.
        components: Number of principal components, for accuracy with PCA too.

    Returns:
        In percent, ``accuracy`` and its ``standard_error`` over the folds, ``eer``,
        ``tar`` (at FAR = 1 %), ``rank_1``, where there are groups ``one_shot``, with
        ``components`` also ``accuracy_pca``; and ``roc``, the TAR at :data:`FAR`, with
        None where impostors are too few for it.
    """
    pairs = [split.pairs for split in splits]
    both = list(zip(splits, test, strict=True))
    found = verification(pairs, test)
    ranks = [identification.rank_1(x, split.data.test.labels) for split, x in both]
    found["rank_1"] = 100.0 * float(np.mean(ranks))
    trials = [
        identification.one_shot(x, split.data.test.labels, split.groups)
        for split, x in both
        if split.groups is not None
    ]
    if trials:
        found["one_shot"] = 100.0 * float(np.mean(trials))
    if components is not None:
        sides = zip(train, test, strict=True)
        reduced = [principal(*each, components) for each in sides]
        found["accuracy_pca"] = verification(pairs, reduced)["accuracy"]
    return found


def verification(
    pairs: Sequence[Pairs], embeddings: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Accuracy over the folds, and the ROC over all pairs, of all splits together.

    Every pair is scored by a network that has not seen its classes. Where each fold has
    a network, a threshold goes from the networks of nine to that of the tenth.
    """
    scores = []
    for each, x in zip(pairs, embeddings, strict=True):
        cosines = np.asarray(_cosines(x[each.images], x[each.images]))
        scores.append(cosines[each.first, each.second])
    scores = np.concatenate(scores)
    same = np.concatenate([each.same for each in pairs])
    folds = np.concatenate([each.folds for each in pairs])
    judged = folds >= 0
    found = sx.metrics.verification_accuracy(
        scores[judged], same[judged], folds[judged]
    )
    at = sx.metrics.tar_at_far(scores, same, np.append(FAR, 0.01))
    curve = zip(at.tar[:-1], at.is_supported[:-1], strict=True)
    return {
        "accuracy": 100.0 * float(found.accuracy),
        "standard_error": 100.0 * float(found.standard_error),
        "eer": 100.0 * float(sx.metrics.equal_error_rate(scores, same)),
        "tar": 100.0 * float(at.tar[-1]),
        "roc": [round(float(t), 4) if known else None for t, known in curve],
    }


def principal(train: np.ndarray, test: np.ndarray, components: int) -> np.ndarray:
    """``test`` less the mean of ``train``, in the principal axes of the latter."""
    mean = train.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    return ((test - mean) @ axes[:components].T).astype(np.float32)
