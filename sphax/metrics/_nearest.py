"""The nearest references of each query, in tiles."""

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_count, check_range
from sphax._compiled import compiled
from sphax.metrics._tiles import (
    Exclude,
    as_exclusion,
    as_rows,
    check_alike,
    check_cosines,
    directions,
    dtype_of_cosines,
    in_blocks,
)
from sphax.sphere import inner_products

# References in a tile for each of its queries.
WIDTH = 16
# Blocks of queries that are on the device together. Each tile of the references is sent
# there once for all of them.
BLOCKS = 16


def nearest(
    queries: jax.typing.ArrayLike,
    references: jax.typing.ArrayLike,
    k: int,
    *,
    exclude: Exclude | None = None,
    block_size: int = 256,
    precision: jax.lax.PrecisionLike = "highest",
    approximate: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` references with the largest cosines to each query.

    Cosines are computed tile by tile on the device, and only the ``k`` largest so far
    are kept. Among equal cosines, the reference with the lower index comes first.

    Host code: concrete arrays, not under ``jit``. NumPy arrays stay on the host, and
    tiles of them are sent to the device; JAX arrays stay on their device. On an
    accelerator a larger ``block_size``, such as 2048, keeps it busy.

    Args:
        queries: Vectors, floating, ``[n, features]``; they need not be unit.
        references: Vectors to search, dtype of ``queries``, ``[m, features]``.
        k: Number of references for each query, 1 or more.
        exclude: Pairs that do not exist: integer ``[pairs, 2]``, each the index of a
            query and of a reference; or a function of both indices, NumPy arrays ``[q,
            1]`` and ``[1, r]``, that returns booleans ``[q, r]``, True for such pairs.
        block_size: Number of queries in a tile, which has 16 times as many references:
            memory is a few arrays of ``16 block_size**2`` numbers.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.
        approximate: Share of the ``k`` nearest in a tile that should be found, in (0,
            1), to search tiles by :func:`jax.lax.approx_max_k`, which is fast on a TPU.
            By default all are found.

    Returns:
        ``(scores, indices)``: cosines in falling order, float32 at least, and indices
        of references, integer, ``[n, k]`` each. A query with fewer than ``k``
        references has scores of minus infinity and indices -1 at the end.

    Raises:
        TypeError: If vectors are not floating.
        ValueError: If shapes do not fit or a cosine is NaN.

    Example:
        The nearest other rows of one set:

        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
        >>> scores, indices = sx.metrics.nearest(x, x, 1, exclude=lambda q, r: q == r)
        >>> print(scores.ravel(), indices.ravel())
        [0.6 0.8 0.8] [1 2 1]

    References:
        Chern et al., `TPU-KNN: K Nearest Neighbor Search at Peak FLOP/s
        <https://arxiv.org/abs/2206.14286>`_, NeurIPS 2022, for ``approximate``.
    """
    check_count("k", k)
    check_count("block_size", block_size)
    if approximate is not None:
        check_range("approximate", approximate, 0.0, 1.0, exclude_low=True)
    x, w = as_rows("queries", queries), as_rows("references", references)
    check_alike("queries", x, "references", w)
    excluded = as_exclusion(exclude, len(x), len(w))
    tiles = in_blocks(np.arange(len(w)), WIDTH * block_size)
    blocks = in_blocks(np.arange(len(x)), block_size)
    start = (
        np.full((blocks.shape[1], k), -np.inf, dtype_of_cosines(x)),
        np.full((blocks.shape[1], k), -1, np.int32),
    )
    scores, indices = (np.empty((len(x), k), each.dtype) for each in start)
    for first in range(0, len(blocks), BLOCKS):
        group = blocks[first : first + BLOCKS]
        vectors = [directions(x, rows) for rows in group]
        found: list[tuple] = [start] * len(group)
        for number, columns in enumerate(tiles):
            tile = directions(w, columns)
            # The host would be far ahead of the device, with many tiles in memory.
            jax.block_until_ready(found)
            for i, rows in enumerate(group):
                found[i] = _merge(
                    found[i],
                    vectors[i],
                    tile,
                    np.int32(number * len(columns)),
                    np.int32(len(w)),
                    None if excluded is None else excluded(rows, columns),
                    precision=precision,
                    approximate=approximate,
                )
        for rows, each in zip(group, found, strict=True):
            scores[rows], indices[rows] = map(np.asarray, each)
    check_cosines("queries and references", scores[:, 0])
    return scores, indices


@compiled("precision", "approximate")
def _merge(found, queries, tile, first, end, excluded, *, precision, approximate):
    """The best so far, merged with a tile of the references from ``first`` on.

    Those from ``end`` on are copies, which only fill the tile.
    """
    scores = inner_products(queries, tile, precision=precision)
    # `top_k` takes zero for larger than minus zero.
    scores = jnp.where(scores == 0.0, 0.0, scores)
    index = first + jnp.arange(len(tile), dtype=jnp.int32)
    scores = jnp.where((index < end)[None, :], scores, -jnp.inf)
    if excluded is not None:
        scores = jnp.where(excluded, -jnp.inf, scores)
    k = found[0].shape[1]
    if approximate is None:
        top, place = jax.lax.top_k(scores, min(k, len(tile)))
    else:
        top, place = jax.lax.approx_max_k(
            scores, min(k, len(tile)), recall_target=approximate
        )
    # Those so far come first: they win ties, and -1 wins against an excluded index.
    scores = jnp.concatenate([found[0], top], axis=1)
    indices = jnp.concatenate([found[1], first + place], axis=1)
    scores, place = jax.lax.top_k(scores, k)
    return scores, jnp.take_along_axis(indices, place, axis=1)
