"""Probes and their mates in a gallery, as closed and open sets ask for them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax.metrics._inputs import as_common, as_labels, as_scores

RANK_RULE = (
    "gallery templates are collapsed to identities by their largest score; a tie counts"
    " against the probe"
)


class Mates(NamedTuple):
    """What identification asks of each probe, ``[probes]`` each."""

    is_mated: np.ndarray
    score: np.ndarray  # of the mate; anything if there is none
    rank: np.ndarray  # of the mate, from 1; anything if there is none
    best: np.ndarray  # the largest score
    identities: int


def find_mates(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
) -> Mates:
    """Mate, rank and best score of each probe; raises unless the arguments fit."""
    scores = as_scores("scores", scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be [probes, gallery], got shape {scores.shape}.")
    probes = as_labels("probe_labels", probe_labels, len(scores), "probes of scores")
    gallery = as_labels(
        "gallery_labels", gallery_labels, scores.shape[1], "gallery columns of scores"
    )
    probes, gallery = as_common(probes, gallery)
    order = np.argsort(gallery, kind="stable")
    identities, first = np.unique(gallery[order], return_index=True)
    scores = np.maximum.reduceat(scores[:, order], first, axis=1)
    column = np.searchsorted(identities, probes).clip(max=len(identities) - 1)
    mate = np.take_along_axis(scores, column[:, None], 1)
    return Mates(
        identities[column] == probes,
        mate[:, 0],
        np.count_nonzero(scores >= mate, axis=1),
        scores.max(axis=1),
        len(identities),
    )
