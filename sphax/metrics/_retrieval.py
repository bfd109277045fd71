"""Retrieval by cosine: Recall@K, precisions and gains, from the ranks of mates."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_choice, check_count
from sphax.metrics._mate_ranks import mate_ranks
from sphax.metrics._tiles import Exclude, as_exclusion, as_sets

Average = Literal["queries", "classes"]


class RecallAtK(NamedTuple):
    """Recall at several depths; see :func:`recall_at_k`.

    Attributes:
        recall: Share of queries with a mate among the k nearest, ``[len(k)]``.
        k: The values of k, in the order given.
        per_query: 1 for each query with a mate among the k nearest, 0 without, NaN if
            it has no mate at all, ``[n, len(k)]``.
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
    per_query: np.ndarray
    queries: int
    excluded: int
    rule: str


class RetrievalPrecision(NamedTuple):
    """A precision averaged over queries; see :func:`mean_average_precision_at_r`.

    Attributes:
        precision: Mean over the queries with a mate, in [0, 1].
        per_query: The precision of each query, NaN without a mate, ``[n]``.
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
    per_query: np.ndarray
    queries: int
    excluded: int
    rule: str


class RetrievalValue(NamedTuple):
    """A measure of the ranks of mates; see :func:`mean_average_precision`.

    Attributes:
        value: Mean over the queries with a mate, in [0, 1].
        per_query: The value of each query, NaN without a mate, ``[n]``.
        queries: Number of queries with a mate.
        excluded: Number of queries without a mate, which are left out.
        rule: What was done, in words.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> sx.metrics.mean_reciprocal_rank(x, [0, 0, 1]).per_query
        array([ 1., 1., nan])
    """

    value: float
    per_query: np.ndarray
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
    exclude: Exclude | None = None,
    average: Average = "queries",
    block_size: int = 256,
) -> RecallAtK:
    """Share of queries with at least one mate among their k nearest references.

    A mate is a reference of the query's class. Ties are pessimistic: among equal
    cosines, mates come last.

    Host code over tiles of cosines: concrete arrays, not under ``jit``. NumPy arrays
    stay on the host, and tiles of them are sent to the device; JAX arrays stay on their
    device.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        k: Numbers of nearest references, positive, one or several.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        exclude: Pairs that do not exist: integer ``[pairs, 2]``, each the index of a
            query and of a reference; or a function of both indices, NumPy arrays ``[q,
            1]`` and ``[1, r]``, that returns booleans ``[q, r]``, True for such pairs.
            Mates are counted without them.
        average: The mean over "queries" with a mate, or over "classes" the mean of each
            class that has such queries, so that large classes do not weigh more.
        block_size: Number of queries in a tile, which has 16 times as many references:
            memory is a few arrays of ``16 block_size**2`` numbers.

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
    found = _measure(
        "a mate among the k nearest",
        lambda ranks, mates: ranks[:, :1] <= np.array(depths),
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
        nearest_only=True,
    )
    return RecallAtK(np.array(found.value), depths, *found[1:])


def r_precision(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    exclude: Exclude | None = None,
    average: Average = "queries",
    block_size: int = 256,
) -> RetrievalPrecision:
    """Share of mates among the R nearest references, where R is the number of mates.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        exclude: Pairs that do not exist, as in :func:`recall_at_k`.
        average: "queries" or "classes", as in :func:`recall_at_k`.
        block_size: Number of queries in a tile, as in :func:`recall_at_k`.

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
    found = _measure(
        "share of mates among the R nearest",
        lambda ranks, mates: np.sum(ranks <= mates[:, None], axis=1) / mates,
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
    )
    return RetrievalPrecision(*found)


def mean_average_precision_at_r(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    exclude: Exclude | None = None,
    average: Average = "queries",
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
        exclude: Pairs that do not exist, as in :func:`recall_at_k`.
        average: "queries" or "classes", as in :func:`recall_at_k`.
        block_size: Number of queries in a tile, as in :func:`recall_at_k`.

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

    def precision_at_r(ranks, mates):
        is_within = ranks <= mates[:, None]
        return np.sum(np.where(is_within, _place(ranks) / ranks, 0), axis=1) / mates

    found = _measure(
        "(1/R) sum of P(i) over the mates among the R",
        precision_at_r,
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
    )
    return RetrievalPrecision(*found)


def mean_average_precision(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    exclude: Exclude | None = None,
    rule: Literal["standard", "trapezoid"] = "standard",
    average: Average = "queries",
    block_size: int = 256,
) -> RetrievalValue:
    r"""Mean average precision (mAP) over all mates of each query.

    If the mates of a query have ranks :math:`k_1 < \dots < k_R`, its average precision
    is

    .. math::
        \frac1R \sum_{i=1}^{R} \frac{i}{k_i}, \qquad \text{or by trapezoids} \qquad
        \frac1R \sum_{i=1}^{R}
            \frac12 \left( \frac{i}{k_i} + \frac{i - 1}{k_i - 1} \right),

    the second quotient being 1 for :math:`k_i = 1`. The trapezoids are those of the
    official code of Market-1501 and of Oxford5k; most code for re-identification has
    the standard sum today. They may differ by a point.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        exclude: Pairs that do not exist, as in :func:`recall_at_k`.
        rule: "standard" or "trapezoid".
        average: "queries" or "classes", as in :func:`recall_at_k`.
        block_size: Number of queries in a tile, as in :func:`recall_at_k`.

    Returns:
        A :class:`RetrievalValue`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        The rule of Market-1501: images of the same person by the same camera are left
        out, and so are parts of persons, whose identity is -1. Identity 0, distractors,
        stays.

        >>> x = jnp.array([[1.0, 0.0]])
        >>> w = jnp.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4], [1.0, 0.5]])
        >>> person, camera = np.array([7]), np.array([1])
        >>> people, cameras = np.array([7, -1, 7, 0, 7]), np.array([1, 3, 2, 3, 3])
        >>> def is_junk(q, r):
        ...     same = (person[q] == people[r]) & (camera[q] == cameras[r])
        ...     return same | (people[r] == -1)
        >>> found = sx.metrics.mean_average_precision(
        ...     x, person, references=w, reference_labels=people, exclude=is_junk
        ... )
        >>> print(found.value)  # mates at ranks 1 and 3
        0.8333333333333333

    References:
        Zheng et al., `Scalable Person Re-identification: A Benchmark
        <https://doi.org/10.1109/ICCV.2015.133>`_, ICCV 2015.
    """
    check_choice("rule", rule, ("standard", "trapezoid"))

    def average_precision(ranks, mates):
        precision = _place(ranks) / ranks
        if rule == "trapezoid":
            before = (_place(ranks) - 1) / np.maximum(ranks - 1, 1)
            precision = (precision + np.where(ranks == 1, 1, before)) / 2
        return precision.sum(axis=1) / mates

    return _measure(
        f"average precision over all mates, {rule}",
        average_precision,
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
    )


def mean_reciprocal_rank(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    exclude: Exclude | None = None,
    average: Average = "queries",
    block_size: int = 256,
) -> RetrievalValue:
    r"""Mean reciprocal rank (MRR) of the nearest mate, :math:`1 / k_1`.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        exclude: Pairs that do not exist, as in :func:`recall_at_k`.
        average: "queries" or "classes", as in :func:`recall_at_k`.
        block_size: Number of queries in a tile, as in :func:`recall_at_k`.

    Returns:
        A :class:`RetrievalValue`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.mean_reciprocal_rank(x, [0, 0, 1, 0]).value
        0.6666667
    """
    return _measure(
        "1 / rank of the nearest mate",
        lambda ranks, mates: 1 / ranks[:, 0],
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
        nearest_only=True,
    )


def ndcg(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    *,
    k: int | None = None,
    references: jax.typing.ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    exclude: Exclude | None = None,
    average: Average = "queries",
    block_size: int = 256,
) -> RetrievalValue:
    r"""Normalized discounted cumulative gain (nDCG) with gain 1 for mates.

    If the mates of a query have ranks :math:`k_1 < \dots < k_R`,

    .. math::
        \sum_{k_i \le k} \frac1{\log_2(1 + k_i)} \Big/
            \sum_{i=1}^{\min(R, k)} \frac1{\log_2(1 + i)}.

    Args:
        embeddings: Queries, floating, ``[n, features]``; they need not be unit.
        labels: Class of each, integer, ``[n]``.
        k: Depth :math:`k`, 1 or more; all references if not given.
        references: Vectors to search, floating, ``[m, features]``. By default the
            queries themselves, each without itself.
        reference_labels: Class of each, integer, ``[m]``; given with ``references``.
        exclude: Pairs that do not exist, as in :func:`recall_at_k`.
        average: "queries" or "classes", as in :func:`recall_at_k`.
        block_size: Number of queries in a tile, as in :func:`recall_at_k`.

    Returns:
        A :class:`RetrievalValue`.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, a cosine is NaN, or no query has a mate.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.metrics.ndcg(x, [0, 0, 1, 0], k=1).value
        0.3333333

    References:
        Järvelin and Kekäläinen, `Cumulated gain-based evaluation of IR techniques
        <https://doi.org/10.1145/582415.582418>`_, TOIS 2002.
    """
    if k is not None:
        check_count("k", k)
    depth = np.inf if k is None else k

    def gain(ranks, mates):
        gains = np.where(ranks <= depth, 1 / np.log2(1 + ranks), 0).sum(axis=1)
        ideal = np.cumsum(1 / np.log2(1 + _place(ranks)))
        return gains / ideal[np.minimum(mates, depth).astype(int) - 1]

    within = "all references" if k is None else f"the {k} nearest"
    return _measure(
        f"gain 1 / log2(1 + rank) within {within}",
        gain,
        (embeddings, labels, references, reference_labels, exclude, block_size),
        average,
    )


def _place(ranks: np.ndarray) -> np.ndarray:
    """1, 2, ..., for the nearest mate, the second, ..."""
    return np.arange(1, ranks.shape[1] + 1)


def _measure(
    name: str,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    arguments: tuple,
    average: Average,
    *,
    nearest_only: bool = False,
) -> RetrievalValue:
    """The mean and the values of a measure.

    ``measure(ranks, mates)`` has the rising ranks of the mates of some queries, ``[q,
    mates]``, infinite where a query has fewer, and their numbers ``[q]``, none of which
    is 0.
    """
    embeddings, labels, references, reference_labels, exclude, block_size = arguments
    check_count("block_size", block_size)
    check_choice("average", average, ("queries", "classes"))
    queries, others = as_sets(embeddings, labels, references, reference_labels)
    size = len(queries[1])
    values = None
    for rows, ranks, mates in mate_ranks(
        queries,
        others,
        as_exclusion(exclude, size, len(others[1])),
        is_one_set=references is None,
        nearest_only=nearest_only,
        block_size=block_size,
    ):
        has_mate = mates > 0
        if np.any(has_mate):
            found = measure(ranks[has_mate], mates[has_mate])
            if values is None:
                values = np.full((size, *found.shape[1:]), np.nan)
            values[rows[has_mate]] = found
    if values is None:
        raise ValueError(
            "labels must have mates among the references, got none for any of the"
            f" {size} queries."
        )
    is_counted = ~np.isnan(values.reshape(size, -1)[:, 0])
    _, number, count = np.unique(
        queries[1][is_counted], return_inverse=True, return_counts=True
    )
    weights = np.ones(len(number))
    if average == "classes":
        weights = 1 / count[number]
    mean = np.average(values[is_counted], axis=0, weights=weights)
    rule = f"{name}; references by falling cosine in float32, mates last among equals"
    if references is None:
        rule += "; the query itself removed"
    if exclude is not None:
        rule += "; excluded pairs removed"
    rule += f"; queries without a mate left out; mean over {average}"
    counted = int(np.count_nonzero(is_counted))
    return RetrievalValue(mean.tolist(), values, counted, size - counted, rule)
