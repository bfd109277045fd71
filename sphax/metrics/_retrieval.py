"""Retrieval by cosine: Recall@K, R-precision and MAP@R."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count, check_finite
from sphax.metrics._pair_scores import as_sets, cosines


class RecallAtK(NamedTuple):
    """Recall at several depths; see :func:`recall_at_k`.

    Attributes:
        recall: Share of queries with a mate among the k nearest, ``[len(k)]``.
        k: The values of k, in the order given.
        queries: Number of queries with a mate.
        excluded: Number of queries without a mate, which are left out.
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
        precision: Mean over the queries with a mate, in [0, 1].
        queries: Number of queries with a mate.
        excluded: Number of queries without a mate, which are left out.
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
        k: Numbers of nearest references, positive, one or several.
        references: Vectors to search, floating, ``[m, features]``. By default the
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
    search = _prepare(embeddings, labels, references, reference_labels, block_size)
    found = []
    for hits, _ in _nearest(search, max(depths)):
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
    """Share of mates among the R nearest references, where R is the number of mates.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        block_size: Number of queries handled at a time, as in :func:`recall_at_k`.

    Returns:
        A :class:`RetrievalPrecision`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.r_precision(x, [0, 0, 1, 0]).precision
        0.5
    """
    search = _prepare(embeddings, labels, references, reference_labels, block_size)
    values = [
        _within(hits, mates).sum(1) / mates
        for hits, mates in _nearest(search, int(search.mates.max()))
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

    The sum is divided by :math:`R`, not by the number of mates found, as some
    implementations do: if the nearest reference is the only mate of ten that is found,
    they give 1 and this function gives 0.1.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        block_size: Number of queries handled at a time, as in :func:`recall_at_k`.

    Returns:
        A :class:`RetrievalPrecision`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.mean_average_precision_at_r(x, [0, 0, 1, 0]).precision
        0.3333333

    References:
        Musgrave et al., `A Metric Learning Reality Check
        <https://arxiv.org/abs/2003.08505>`_, ECCV 2020, Eqs. 1 and 2.
    """
    search = _prepare(embeddings, labels, references, reference_labels, block_size)
    values = []
    for hits, mates in _nearest(search, int(search.mates.max())):
        hits = _within(hits, mates)
        precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
        values.append((precision * hits).sum(1) / mates)
    return _averaged(values, search, "(1/R) sum of P(i) over the mates among the R")


class _Search(NamedTuple):
    """Queries that have a mate, and the references."""

    vectors: np.ndarray  # of all queries
    labels: np.ndarray  # of all queries
    references: np.ndarray
    reference_labels: np.ndarray
    rows: np.ndarray  # numbers of the queries with a mate
    mates: np.ndarray  # number of mates, R, of each of these
    is_one_set: bool
    block_size: int
    excluded: int  # number of queries without a mate
    rule: str


def _prepare(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    references: jax.typing.ArrayLike | None,
    reference_labels: ArrayLike | None,
    block_size: int,
) -> _Search:
    """The queries that have a mate; raises unless the arguments fit and some do."""
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
    return _Search(
        *queries,
        *others,
        rows,
        mates[rows],
        is_one_set,
        block_size,
        len(mates) - len(rows),
        "references by falling cosine in float32, mates last among equals;"
        f" {removed}queries without a mate left out",
    )


def _nearest(search: _Search, depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whether each of the ``depth`` nearest is a mate, and R, a block at a time."""
    labels = search.reference_labels
    depth = min(depth, len(labels) - search.is_one_set)
    references = jnp.asarray(search.references)  # to the device once
    for start in range(0, len(search.rows), search.block_size):
        block = slice(start, start + search.block_size)
        rows = search.rows[block]
        scores = np.asarray(cosines(search.vectors[rows], references, "highest"))
        check_finite("cosines of embeddings", scores)
        # NumPy orders complex numbers by their real part, then by their imaginary part:
        # one partial sort settles ties and carries along which references are mates.
        # `np.lexsort` of scores and labels takes about five times as long.
        keys = np.empty(scores.shape, np.complex64)
        keys.real = scores
        keys.imag = search.labels[rows, None] != labels[None, :]
        if search.is_one_set:
            keys[np.arange(len(rows)), rows] = complex(-np.inf, 1.0)
        keys = np.partition(keys, len(labels) - depth, axis=1)[:, -depth:]
        keys = np.sort(keys, axis=1)[:, ::-1]
        yield keys.imag == 0.0, search.mates[block]


def _within(hits: np.ndarray, mates: np.ndarray) -> np.ndarray:
    """Hits among the first R."""
    return hits & (np.arange(hits.shape[1]) < mates[:, None])


def _averaged(
    values: list[np.ndarray], search: _Search, measure: str
) -> RetrievalPrecision:
    mean = float(np.concatenate(values).mean())
    rule = f"{measure}; {search.rule}"
    return RetrievalPrecision(mean, len(search.rows), search.excluded, rule)
