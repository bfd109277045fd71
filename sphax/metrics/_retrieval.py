"""Retrieval by cosine: Recall@K, R-precision, MAP@R, over blocks of queries."""

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.metrics._search import Search, nearest, prepare


class RecallAtK(NamedTuple):
    """Recall at several depths; see :func:`recall_at_k`.

    Attributes:
        recall: Share of queries with a mate among the k nearest, ``[len(k)]``.
        k: The depths, in the order asked for.
        queries: Number of queries that count.
        excluded: Number of queries left out, since no reference is of their class.
        rule: What was done, in words.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> result = sx.metrics.recall_at_k(x, [0, 0, 1])
        >>> result.queries, result.excluded
        (2, 1)
    """

    recall: np.ndarray
    k: tuple[int, ...]
    queries: int
    excluded: int
    rule: str


class RetrievalPrecision(NamedTuple):
    """A precision averaged over queries; see :func:`mean_average_precision_at_r`.

    Attributes:
        precision: Mean over the queries that count, in [0, 1].
        queries: Their number.
        excluded: Number of queries left out, since no reference is of their class.
        rule: What was done, in words.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> result = sx.metrics.r_precision(x, [0, 0, 1])
        >>> result.precision, result.queries, result.excluded
        (1.0, 2, 1)
    """

    precision: float
    queries: int
    excluded: int
    rule: str


def recall_at_k(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    k: int | tuple[int, ...] = (1,),
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    block_size: int = 256,
) -> RecallAtK:
    """Share of queries with at least one mate among their k nearest references.

    A mate is a reference of the query's class. Ties are pessimistic: among equal
    cosines, mates come last.

    Host code over blocks of queries: concrete arrays, not under ``jit``.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        k: Depths, positive, one or several.
        references: What is searched, floating, ``[m, features]``. If not given, the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        block_size: Number of queries handled at a time: memory is a few arrays of
            ``block_size x m``.

    Returns:
        A :class:`RecallAtK`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.recall_at_k(x, [0, 0, 1, 0], k=(1, 2)).recall
        array([0.3333333, 1. ])
    """
    depths = tuple(np.ravel(k).tolist())
    if not depths:
        raise ValueError("k must have at least one depth, got none.")
    for depth in depths:
        check_count("k", depth)
    search = prepare(embeddings, labels, references, reference_labels, block_size)
    found = []
    for hits, _ in nearest(search, max(depths)):
        first = np.where(hits.any(1), hits.argmax(1), hits.shape[1])
        found.append(first[:, None] < np.array(depths))
    recall = np.concatenate(found).mean(0)
    return RecallAtK(recall, depths, len(search.rows), search.excluded, search.rule)


def r_precision(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    block_size: int = 256,
) -> RetrievalPrecision:
    """Share of mates among the R nearest references, R being the number of mates.

    Args:
        embeddings: As for :func:`recall_at_k`.
        labels: As there.
        references: As there.
        reference_labels: As there.
        block_size: As there.

    Returns:
        A :class:`RetrievalPrecision`.

    Raises:
        TypeError: As :func:`recall_at_k`.
        ValueError: As :func:`recall_at_k`.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.r_precision(x, [0, 0, 1, 0]).precision
        0.5
    """
    search = prepare(embeddings, labels, references, reference_labels, block_size)
    values = [
        _within(hits, mates).sum(1) / mates
        for hits, mates in nearest(search, int(search.mates.max()))
    ]
    return _averaged(values, search, "share of mates among the R nearest")


def mean_average_precision_at_r(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    block_size: int = 256,
) -> RetrievalPrecision:
    r"""Mean average precision at R (MAP@R).

    With :math:`R` mates among the references, and :math:`P(i)` their share among the
    :math:`i` nearest, the mean over queries of

    .. math::
        \frac1R \sum_{i=1}^{R} P(i)\, [i\text{-th nearest is a mate}].

    Divided by :math:`R`, not by the mates found, as some codes do: those give 1 to one
    mate found first out of ten, where this is 0.1.

    Args:
        embeddings: As for :func:`recall_at_k`.
        labels: As there.
        references: As there.
        reference_labels: As there.
        block_size: As there.

    Returns:
        A :class:`RetrievalPrecision`.

    Raises:
        TypeError: As :func:`recall_at_k`.
        ValueError: As :func:`recall_at_k`.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.mean_average_precision_at_r(x, [0, 0, 1, 0]).precision
        0.3333333

    References:
        Musgrave et al., `A Metric Learning Reality Check
        <https://arxiv.org/abs/2003.08505>`_, ECCV 2020, Eqs. 1 and 2.
    """
    search = prepare(embeddings, labels, references, reference_labels, block_size)
    values = []
    for hits, mates in nearest(search, int(search.mates.max())):
        hits = _within(hits, mates)
        precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
        values.append((precision * hits).sum(1) / mates)
    return _averaged(values, search, "(1/R) sum of P(i) over the mates among the R")


def _within(hits: np.ndarray, mates: np.ndarray) -> np.ndarray:
    """The hits among the first R."""
    return hits & (np.arange(hits.shape[1]) < mates[:, None])


def _averaged(
    values: list[np.ndarray], search: Search, measure: str
) -> RetrievalPrecision:
    mean = float(np.concatenate(values).mean())
    rule = f"{measure}; {search.rule}"
    return RetrievalPrecision(mean, len(search.rows), search.excluded, rule)
