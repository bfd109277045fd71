"""Cosines of all pairs of embeddings, block by block, from the device to the host."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax._numerics import widen
from sphax.metrics._tiles import as_sets
from sphax.sphere import cosine_similarity


def pair_scores(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    *,
    block_size: int = 1024,
    precision: jax.lax.PrecisionLike = "highest",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cosines of all pairs of embeddings, a block at a time.

    The pairs ``i < j`` of one set, or all pairs of two sets. At most
    ``block_size x block_size`` scores are in memory at a time. Pass the blocks to
    :class:`ScoreCounts` for the ROC of all pairs.

    Args:
        embeddings: Vectors, floating, ``[n, features]``; they need not be unit.
        labels: Identity of each, integer, ``[n]``.
        references: A second set, floating, ``[m, features]``.
        reference_labels: Identity of each, integer, ``[m]``; given with ``references``.
        block_size: Rows and columns of a block.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.
            A lower one is faster on an accelerator, and may move scores that are near a
            threshold across it.

    Yields:
        ``(scores, same)``: cosines, float32 at least, and whether the pair is genuine,
        boolean, one axis each. A zero vector has cosine 0 to everything.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, or only one of ``references`` and
            ``reference_labels`` is given.

    Example:
        >>> x, labels = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]]), [0, 0, 1]
        >>> for scores, same in sx.metrics.pair_scores(x, labels):
        ...     print(scores, same)
        [0.6 0.  0.8] [ True False False]
    """
    check_count("block_size", block_size)
    queries, others = as_sets(embeddings, labels, references, reference_labels)
    is_one_set = references is None
    # The generator is another function, so that this call itself raises the errors.
    return _pairs(queries, others, is_one_set, block_size, precision)


def _pairs(queries, others, is_one_set, size, precision):
    # NumPy, since slicing JAX arrays would compile.
    all_x, all_w = np.asarray(queries[0]), np.asarray(others[0])
    for i in range(0, len(all_x), size):
        for j in range(i if is_one_set else 0, len(all_w), size):
            x, w = all_x[i : i + size], all_w[j : j + size]
            same = queries[1][i : i + size, None] == others[1][None, j : j + size]
            scores = np.asarray(cosines(x, w, precision))
            if is_one_set and i == j:
                above = np.triu_indices(len(x), 1)
                scores, same = scores[above], same[above]
            if scores.size:
                yield scores.ravel(), same.ravel()


@partial(jax.jit, static_argnames="precision")
def cosines(x: jax.Array, w: jax.Array, precision) -> jax.Array:
    """Cosines ``[n, m]`` of rows, in float32 at least."""
    return cosine_similarity(widen(x), widen(w), precision=precision)
