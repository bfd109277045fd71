"""Identification of embeddings by their nearest image, with one image of each class."""

import jax
import numpy as np

import sphax as sx

_GALLERIES = 20  # draws of one image of each class
_TRIALS = 400  # of 20 classes with one image each
_WAYS = 20

_cosines = jax.jit(sx.sphere.cosine_similarity)


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

    Groups and classes are drawn at random, in 400 trials.
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
