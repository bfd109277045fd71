"""What is measured of the embeddings of classes that no training has seen.

Scores are cosines. All random draws are fixed, so that they are the same for every loss
and seed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import sphax as sx
from experiments._open_set import Pairs, Split

# False accept rates at which the curves of the figure are read.
FAR = np.logspace(-4.0, 0.0, 41)

_GALLERIES = 20  # draws of one image of each class
_TRIALS = 400  # of 20 classes with one image each
_WAYS = 20

_cosines = jax.jit(sx.sphere.cosine_similarity)


class Embedded(NamedTuple):
    """Embeddings of the images of a split, ``[n, features]`` each."""

    test: np.ndarray
    train: np.ndarray | None = None  # for principal components alone


def measure(
    splits: Sequence[Split],
    embedded: Sequence[Embedded],
    components: int | None = None,
) -> dict[str, Any]:
    """All that is reported of one run.

    Args:
        splits: Of the protocol.
        embedded: For each of them, from the network trained on it.
        components: Number of principal components, for accuracy with PCA too.

    Returns:
        In percent, ``accuracy`` and its ``standard_error`` over the folds, ``eer``,
        ``tar`` (at FAR = 1 %), ``rank_1``, where there are groups ``one_shot``, with
        ``components`` also ``accuracy_pca``; and ``roc``, the TAR at :data:`FAR`, with
        None where impostors are too few for it.
    """
    pairs = [split.pairs for split in splits]
    both = list(zip(splits, embedded, strict=True))
    out = verification(pairs, [found.test for found in embedded])
    ranks = [rank_1(found.test, split.data.test.labels) for split, found in both]
    out["rank_1"] = 100.0 * float(np.mean(ranks))
    trials = [
        one_shot(found.test, split.data.test.labels, split.groups)
        for split, found in both
        if split.groups is not None
    ]
    if trials:
        out["one_shot"] = 100.0 * float(np.mean(trials))
    if components is not None:
        reduced = [
            principal(found.train, found.test, components)
            for found in embedded
            if found.train is not None
        ]
        out["accuracy_pca"] = verification(pairs, reduced)["accuracy"]
    return out


def measure_pixels(splits: Sequence[Split]) -> dict[str, Any]:
    """As :func:`measure`, of the images less the mean training image: no network."""
    centered = [split.data.test.images / 255.0 - split.data.mean for split in splits]
    flat = [images.reshape(len(images), -1).astype(np.float32) for images in centered]
    return measure(splits, [Embedded(images) for images in flat])


def verification(
    pairs: Sequence[Pairs], embeddings: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Accuracy over the folds, and the ROC over all pairs, of all splits together.

    Every pair is scored by a network that has not seen its classes. Where each fold has
    its own network, a threshold goes from the networks of nine to that of the tenth.
    """
    scored = zip(pairs, embeddings, strict=True)
    scores = np.concatenate([_scores(*each) for each in scored])
    same = np.concatenate([each.same for each in pairs])
    folds = np.concatenate([each.folds for each in pairs])
    judged = folds >= 0
    found = sx.metrics.verification_accuracy(
        scores[judged], same[judged], folds[judged]
    )
    at = sx.metrics.tar_at_far(scores, same, np.append(FAR, 0.01))
    tars = [
        float(t) if known else None
        for t, known in zip(at.tar, at.is_supported, strict=True)
    ]
    return {
        "accuracy": 100.0 * float(found.accuracy),
        "standard_error": 100.0 * float(found.standard_error),
        "eer": 100.0 * float(sx.metrics.equal_error_rate(scores, same)),
        "tar": 100.0 * float(at.tar[-1]),
        "roc": tars[:-1],
    }


def _scores(pairs: Pairs, embeddings: np.ndarray) -> np.ndarray:
    paired = embeddings[pairs.images]
    cosines = np.asarray(_cosines(paired, paired))
    return cosines[pairs.first, pairs.second]


def rank_1(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Share of probes whose nearest gallery image is of their class.

    The gallery has one image of each class of which there are two, drawn at random;
    all their other images are probes. The mean over 20 galleries.
    """
    known = np.flatnonzero(np.bincount(labels)[labels] >= 2)
    rates = []
    for draw in range(_GALLERIES):
        order = np.random.default_rng(draw).permutation(known)
        # The first of each class in a random order.
        gallery = order[np.unique(labels[order], return_index=True)[1]]
        probes = np.setdiff1d(known, gallery)
        rates.append(_identified(embeddings, labels, probes, gallery))
    return float(np.mean(rates))


def one_shot(embeddings: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """As :func:`rank_1`, among 20 classes of one group, with one probe of each.

    Groups and classes are drawn at random; those of 400 trials.
    """
    rates = []
    for trial in range(_TRIALS):
        rng = np.random.default_rng(trial)
        inside = np.flatnonzero(groups == rng.choice(np.unique(groups)))
        classes = rng.choice(np.unique(labels[inside]), _WAYS, replace=False)
        two = [
            rng.choice(np.flatnonzero(labels == c), 2, replace=False) for c in classes
        ]
        rates.append(_identified(embeddings, labels, *np.transpose(two)))
    return float(np.mean(rates))


def _identified(embeddings, labels, probes, gallery) -> float:
    scores = _cosines(embeddings[probes], embeddings[gallery])
    found = sx.metrics.cmc(scores, labels[probes], labels[gallery], max_rank=1)
    return float(found.rates[0])


def principal(train: np.ndarray, test: np.ndarray, components: int) -> np.ndarray:
    """``test`` less the mean of ``train``, in the principal axes of the latter."""
    mean = train.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    return ((test - mean) @ axes[:components].T).astype(np.float32)
