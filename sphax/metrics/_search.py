"""Nearest references of queries, a block at a time, with ties against the mates."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.metrics._blocks import as_sets, cosines
from sphax.metrics._inputs import check_finite

_RULE = (
    "references by falling cosine in float32, mates last among equals; {self}queries"
    " without a mate left out"
)


class Search(NamedTuple):
    """Queries that have a mate, and what they search."""

    queries: tuple[np.ndarray, np.ndarray]
    references: tuple[np.ndarray, np.ndarray]
    rows: np.ndarray  # of the queries that count
    mates: np.ndarray  # R of each of them
    is_one_set: bool
    block_size: int
    excluded: int
    rule: str


def prepare(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    references: jax.typing.ArrayLike | None,
    reference_labels: ArrayLike | None,
    block_size: int,
) -> Search:
    """The queries that count; raises unless the arguments fit and some do."""
    check_count("block_size", block_size)
    is_one_set = references is None
    queries, others = as_sets(embeddings, labels, references, reference_labels)
    classes, sizes = np.unique(others[1], return_counts=True)
    column = np.searchsorted(classes, queries[1]).clip(max=len(classes) - 1)
    mates = np.where(classes[column] == queries[1], sizes[column], 0) - is_one_set
    rows = np.flatnonzero(mates)
    if not rows.size:
        raise ValueError(
            "labels must have mates among the references, got none for any of the"
            f" {len(mates)} queries."
        )
    removed = "the query itself removed; " if is_one_set else ""
    rule = _RULE.format(self=removed)
    return Search(
        queries,
        others,
        rows,
        mates[rows],
        is_one_set,
        block_size,
        len(mates) - len(rows),
        rule,
    )


def nearest(search: Search, depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whether each of the ``depth`` nearest is a mate, and R, a block at a time."""
    references, labels = search.references
    depth = min(depth, len(labels) - search.is_one_set)
    references = jnp.asarray(references)  # to the device once, not for every block
    for start in range(0, len(search.rows), search.block_size):
        block = slice(start, start + search.block_size)
        rows = search.rows[block]
        scores = np.asarray(cosines(search.queries[0][rows], references, "highest"))
        check_finite("cosines of embeddings", scores)
        keys = _keys(scores, search.queries[1][rows, None] != labels[None, :])
        if search.is_one_set:
            keys[np.arange(len(rows)), rows] = _LAST
        keys = np.partition(keys, len(labels) - depth, axis=1)[:, -depth:]
        keys = np.sort(keys, axis=1)[:, ::-1]
        yield (keys & 1) == 0, search.mates[block]


_LAST = np.iinfo(np.int32).min + 1  # below all keys, and odd, so not a mate


def _keys(scores: np.ndarray, is_other: np.ndarray) -> np.ndarray:
    """Integers in the order of the float32 scores, the other classes before mates.

    Twice the number that orders the scores, plus one for the other classes: one sort of
    small integers then settles ties and carries the labels along. The bits of a float,
    without its sign, rise with its size; those of numbers below 2, as cosines are, stay
    below 2 ** 30 and leave room for the factor.
    """
    bits = scores.astype(np.float32).view(np.int32)
    size = bits & np.iinfo(np.int32).max
    return 2 * np.where(bits < 0, -size, size) + is_other
