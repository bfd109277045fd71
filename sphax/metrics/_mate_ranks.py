"""Ranks of all mates of each query among the references, in tiles."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import as_comparable
from sphax._compiled import compiled
from sphax.metrics._nearest import BLOCKS, WIDTH
from sphax.metrics._tiles import Exclusion, check_cosines, directions, in_blocks
from sphax.sphere import inner_products

# With more mates than these, NumPy sorts the scores of a tile on the host, instead of
# comparing all of them with each mate's on the device. (On a CPU, a sort by XLA takes
# tens of times as long as one by NumPy.)
_FEW = 8


def mate_ranks(
    queries: tuple[np.ndarray | jax.Array, np.ndarray],
    references: tuple[np.ndarray | jax.Array, np.ndarray],
    excluded: Exclusion | None,
    *,
    is_one_set: bool,
    nearest_only: bool,
    block_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    r"""Ranks of the mates, and their number, for a block of queries at a time.

    The :math:`i`-th mate has rank :math:`k_i = i +` the number of other references that
    score at least as high: mates come last among equal scores.

    Args:
        queries: Vectors and labels.
        references: Vectors and labels; those of the queries if ``is_one_set``.
        excluded: Pairs that do not exist.
        is_one_set: Whether a query is the reference of its own index, and not a mate.
        nearest_only: Whether the rank of the nearest mate is enough.
        block_size: Number of queries in a tile.

    Yields:
        Indices of queries, ``[q]``; the rising ranks of the mates of each, ``[q,
        mates]``, infinite where a query has fewer; and their numbers, ``[q]``. Queries
        of classes without mates are left out, and the last query may come twice.
    """
    (x, labels), (w, others) = queries, references
    labels, others = as_comparable(labels, others)
    classes, numbers = np.unique(np.concatenate([labels, others]), return_inverse=True)
    numbers = numbers.astype(np.int32)
    mine, theirs = numbers[: len(x)], numbers[len(x) :]
    most = np.bincount(theirs, minlength=len(classes))[mine] - is_one_set
    # Queries of one class are in one block, so that a block has few mates to find, and
    # classes of one size are side by side.
    order = np.lexsort((mine, most))
    order = order[most[order] > 0]
    if not order.size:
        return
    width = in_blocks(np.arange(len(w)), WIDTH * block_size, 32).shape[1]
    blocks = in_blocks(order, block_size)
    largest = np.zeros(len(x))
    for first in range(0, len(blocks), BLOCKS):
        group, mates = [], []
        for rows in blocks[first : first + BLOCKS]:
            # Few different sizes, since each is compiled.
            size = 1 if nearest_only else 1 << int(most[rows].max() - 1).bit_length()
            itself = rows if is_one_set else np.full_like(rows, -1)
            block = _Block(
                rows, mine[rows], itself.astype(np.int32), directions(x, rows)
            )
            group.append(block)
            mates.append(_mate_scores(block, w, theirs, excluded, size, width))
        found = _count_others(group, mates, w, theirs, excluded, width)
        for block, (_, best) in zip(group, found, strict=True):
            largest[block.rows] = best
        check_cosines("embeddings", largest)
        for block, (scores, number), (others, _) in zip(
            group, mates, found, strict=True
        ):
            place = np.arange(1, scores.shape[1] + 1)
            is_mate = place <= number[:, None]
            yield block.rows, np.where(is_mate, place + others, np.inf), number


class _Block(NamedTuple):
    """Some of the queries."""

    rows: np.ndarray  # their indices
    classes: np.ndarray  # the number of the class of each, int32
    itself: np.ndarray  # the reference that is the query, or -1
    vectors: jax.Array  # their directions


def _mate_scores(block, references, classes, excluded, size, width):
    """The ``size`` largest scores of mates, in falling order, and the number of mates.

    The mates are put in tiles as wide as those in which others are compared with them:
    products of one shape give two equal vectors equal scores, and so a tie.
    """
    scores = np.full((len(block.rows), size), -np.inf, block.vectors.dtype)
    number = np.zeros(len(block.rows), np.int32)
    found = np.flatnonzero(np.isin(classes, block.classes))
    for columns, of_columns in _tiles(found, classes, width):
        scores, number = _merge_mates(
            scores,
            number,
            block,
            directions(references, columns),
            of_columns,
            columns,
            None if excluded is None else excluded(block.rows, columns),
        )
    return np.asarray(scores), np.asarray(number)


def _tiles(indices, classes, width):
    """Indices of references in tiles, and their classes, -1 where one is repeated.

    The last index is repeated to fill the last tile.
    """
    for start in range(0, len(indices), width):
        part = indices[start : start + width]
        columns = np.pad(part, (0, width - len(part)), mode="edge")
        is_part = np.arange(width) < len(part)
        yield columns.astype(np.int32), np.where(is_part, classes[columns], -1)


@compiled()
def _merge_mates(best, number, block, tile, classes, columns, excluded):
    scores = inner_products(block.vectors, tile, precision="highest")
    is_mate = block.classes[:, None] == classes[None, :]
    is_mate &= block.itself[:, None] != columns[None, :]
    if excluded is not None:
        is_mate &= ~excluded
    scores = jnp.where(is_mate, scores, -jnp.inf)
    best, _ = jax.lax.top_k(jnp.concatenate([best, scores], axis=1), best.shape[1])
    return best, number + jnp.sum(is_mate, axis=1, dtype=jnp.int32)


def _count_others(group, mates, references, classes, excluded, width):
    """How many others reach the score of each mate, and the largest score of all.

    A list for the blocks of the group: ``([q, mates], [q])``.
    """
    found = [(np.zeros(scores.shape, np.int32), scores[:, 0]) for scores, _ in mates]
    for columns, of_columns in _tiles(np.arange(len(classes)), classes, width):
        tile = directions(references, columns)
        # The host would be far ahead of the device, with many tiles in memory.
        jax.block_until_ready(found)
        for i, block in enumerate(group):
            mask = None if excluded is None else excluded(block.rows, columns)
            scores, _ = mates[i]
            if scores.shape[1] <= _FEW:
                found[i] = _count(found[i], scores, block, tile, of_columns, mask)
                continue
            counts, largest = found[i]
            others = np.sort(np.asarray(_others(block, tile, of_columns, mask)), axis=1)
            for count, row, thresholds in zip(counts, others, scores, strict=True):
                count += width - np.searchsorted(row, thresholds)
            found[i] = counts, np.maximum(largest, others[:, -1])
    return jax.device_get(found)


@compiled()
def _count(found, scores, block, tile, classes, excluded):
    counts, largest = found
    others = _others(block, tile, classes, excluded).reshape(len(scores), 32, -1)
    largest = jnp.maximum(largest, others.max(axis=1).max(axis=1))
    for i in range(scores.shape[1]):
        reaches = others >= scores[:, i, None, None]
        # In two steps, the first in bytes: in one, a CPU takes several times as long.
        reaching = reaches.astype(jnp.uint8).sum(axis=1, dtype=jnp.uint8)
        counts = counts.at[:, i].add(reaching.sum(axis=1, dtype=jnp.int32))
    return counts, largest


@compiled()
def _others(block, tile, classes, excluded):
    """Cosines to references of other classes, minus infinity for all else."""
    scores = inner_products(block.vectors, tile, precision="highest")
    is_other = block.classes[:, None] != classes[None, :]
    is_other &= (classes >= 0)[None, :]
    if excluded is not None:
        is_other &= ~excluded
    return jnp.where(is_other, scores, -jnp.inf)
