"""Cosines of all pairs of embeddings, block by block, from the device to the host."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_comparable, as_floating, as_numpy_labels, check_count
from sphax._numerics import widen
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
    for i in range(0, len(queries[0]), size):
        for j in range(i if is_one_set else 0, len(others[0]), size):
            x, w = queries[0][i : i + size], others[0][j : j + size]
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


def as_sets(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    references: jax.typing.ArrayLike | None,
    reference_labels: ArrayLike | None,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Vectors and labels of the queries and of the references, as NumPy arrays.

    Without references, the queries are the references as well. NumPy, since slicing JAX
    arrays would compile.
    """
    x, labels = _as_set("embeddings", embeddings, "labels", labels)
    if (references is None) != (reference_labels is None):
        raise ValueError(
            "references and reference_labels must be given together, or neither of"
            " them for the pairs of one set."
        )
    if references is None or reference_labels is None:
        return (x, labels), (x, labels)
    w, others = _as_set("references", references, "reference_labels", reference_labels)
    if w.shape[1] != x.shape[1] or w.dtype != x.dtype:
        raise ValueError(
            "references must have the features and dtype of embeddings, got references"
            f" {w.shape} {w.dtype} and embeddings {x.shape} {x.dtype}."
        )
    labels, others = as_comparable(labels, others)
    return (x, labels), (w, others)


def _as_set(name, vectors, labels_name, labels):
    array = np.asarray(as_floating(name, vectors))
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} must be [n, features] and not empty, got shape {array.shape}."
        )
    return array, as_numpy_labels(labels_name, labels, len(array), name)
