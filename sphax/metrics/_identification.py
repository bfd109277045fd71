"""Identification of probes in a gallery: CMC (closed set), DIR and TPIR (open set)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_comparable, as_finite, as_numpy_labels, check_count
from sphax.metrics._accept_counts import count_accepts, operating_points

_RANK_RULE = (
    "gallery templates are collapsed to identities by their largest score; a tie counts"
    " against the probe"
)


class Cmc(NamedTuple):
    """Cumulative match characteristic; see :func:`cmc`.

    Attributes:
        rates: Share of probes whose mate is among the best 1, 2, ..., ``[max_rank]``.
        ranks: Rank of each probe's mate, from 1, integer, ``[probes]``.
        rule: What was done, in words.

    Example:
        >>> scores = jnp.array([[0.9, 0.3], [0.6, 0.5]])
        >>> sx.metrics.cmc(scores, [7, 8], [7, 8]).ranks
        array([1, 2])
    """

    rates: np.ndarray
    ranks: np.ndarray
    rule: str


def cmc(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
    *,
    max_rank: int | None = None,
) -> Cmc:
    """Rank-k identification rates of a closed set (cumulative match characteristic).

    A probe's rank is the number of gallery identities that score at least as high as
    its mate, including the mate itself. The score of an identity with several templates
    is the largest of theirs. Ties are pessimistic: if all scores are equal, no probe
    has rank 1.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[probes, gallery]``.
        probe_labels: Identity of each probe, integer, ``[probes]``.
        gallery_labels: Identity of each template, integer, ``[gallery]``.
        max_rank: Number of ranks; all identities of the gallery if not given.

    Returns:
        A :class:`Cmc`; the rank-k rate is ``rates[k - 1]``.

    Raises:
        TypeError: If scores are not floating or labels not integer.
        ValueError: If shapes do not fit, scores are not finite, or a probe has no mate.

    Example:
        >>> scores = jnp.array([[0.9, 0.3, 0.1], [0.6, 0.5, 0.5]])
        >>> sx.metrics.cmc(scores, [7, 8], [7, 8, 8]).rates
        array([0.5, 1. ])
    """
    if max_rank is not None:
        check_count("max_rank", max_rank)
    mates = _nearest_mates(scores, probe_labels, gallery_labels)
    unmated = np.count_nonzero(~mates.is_mated)
    if unmated:
        raise ValueError(
            "probe_labels must all be in the gallery (a closed set), got"
            f" {unmated} of {len(mates.is_mated)} probes without a mate; for an open"
            " set use dir_at_far."
        )
    ranks = np.arange(1, (max_rank or mates.identities) + 1)
    rates = np.searchsorted(np.sort(mates.rank), ranks, "right") / len(mates.rank)
    return Cmc(rates, mates.rank, _RANK_RULE)


class DirAtFar(NamedTuple):
    """Detection and identification rates; see :func:`dir_at_far`.

    Attributes:
        dir: Share of mated probes detected and identified, in the shape of the
            requested rates; NaN if unsupported.
        threshold: Threshold at which it is reached, in the same shape.
        far: False alarm rate reached there, at most the requested one.
        is_supported: Whether there are enough non-mated probes for the rate, boolean.
        mated: Number of probes with a mate in the gallery.
        non_mated: Number of probes without a mate.
        rule: What was done, in words.

    Example:
        >>> scores = jnp.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2]])
        >>> found = sx.metrics.dir_at_far(scores, [0, 1, 2], [0, 1], far=1.0)
        >>> print(found.mated, found.non_mated, found.dir)
        2 1 0.5
    """

    dir: np.ndarray
    threshold: np.ndarray
    far: np.ndarray
    is_supported: np.ndarray
    mated: int
    non_mated: int
    rule: str


class TpirAtFpir(NamedTuple):
    """True positive identification rates; see :func:`tpir_at_fpir`.

    Attributes:
        tpir: Mean over the galleries, in the shape of the requested rates; NaN if any
            gallery does not support the rate.
        per_gallery: A :class:`DirAtFar` for each gallery.
        rule: What was done, in words.

    Example:
        >>> scores = jnp.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2]])
        >>> print(sx.metrics.tpir_at_fpir(scores, [0, 1, 2], [0, 1], fpir=1.0).tpir)
        0.5
    """

    tpir: np.ndarray
    per_gallery: tuple[DirAtFar, ...]
    rule: str


def dir_at_far(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
    far: ArrayLike,
    *,
    rank: int = 1,
) -> DirAtFar:
    r"""Detection and identification rate at a false alarm rate, for an open set.

    The rate is :math:`P_{DI}(t, r)` at the smallest threshold :math:`t` with
    :math:`P_{FA}(t) \le f`. :math:`P_{FA}(t)` is the share of non-mated probes (without
    a mate in the gallery) whose best score is :math:`\ge t`, and :math:`P_{DI}(t, r)`
    the share of mated probes whose mate scores :math:`\ge t` and is among the best
    :math:`r` identities.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[probes, gallery]``.
        probe_labels: Identity of each probe, integer, ``[probes]``.
        gallery_labels: Identity of each template, integer, ``[gallery]``.
        far: :math:`f` in [0, 1], one or several.
        rank: :math:`r`, 1 or more; ties count against the probe, as in :func:`cmc`.

    Returns:
        A :class:`DirAtFar` of the shape of ``far``. With fewer than :math:`1 / f`
        non-mated probes the rate is NaN, and ``is_supported`` False; ``far=0`` gives
        the rate without a single false alarm.

    Raises:
        TypeError: If scores are not floating or labels not integer.
        ValueError: If shapes do not fit, scores are not finite, ``far`` is not within
            [0, 1], or there are no mated or no non-mated probes.

    Example:
        >>> scores = jnp.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2], [0.4, 0.1]])
        >>> found = sx.metrics.dir_at_far(scores, [0, 1, 2, 3], [0, 1], 0.5)
        >>> print(found.dir, found.threshold)
        0.5 0.55

    References:
        Phillips, Grother and Micheals, Evaluation methods in face recognition, Handbook
        of Face Recognition, 2005.
    """
    check_count("rank", rank)
    mates = _nearest_mates(scores, probe_labels, gallery_labels)
    mated = int(np.count_nonzero(mates.is_mated))
    non_mated = len(mates.is_mated) - mated
    if not mated or not non_mated:
        raise ValueError(
            "probe_labels must have some that are in the gallery and some that are not,"
            f" got {mated} mated and {non_mated} non-mated probes; without the latter"
            " there is no false alarm rate, use cmc."
        )
    # A mate beyond the rank is not found at any threshold, yet counts in the total.
    is_found = mates.is_mated & (mates.rank <= rank)
    is_counted = is_found | ~mates.is_mated
    best = np.where(mates.is_mated, mates.score, mates.best)
    counts = count_accepts(best[is_counted], is_found[is_counted])
    return DirAtFar(
        *operating_points(counts._replace(genuine_total=mated), far),
        mated,
        non_mated,
        f"mate within rank {rank} and score >= threshold; {_RANK_RULE}; the smallest"
        " threshold with a false alarm rate, over non-mated probes, <= the given one",
    )


def tpir_at_fpir(
    scores: ArrayLike | Sequence[ArrayLike],
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike | Sequence[ArrayLike],
    fpir: ArrayLike,
) -> TpirAtFpir:
    """True positive identification rate at a false positive identification rate (IJB).

    The mean over the galleries of :func:`dir_at_far` at rank 1, the 1:N protocol. The
    two galleries of IJB-B and IJB-C are disjoint: probes without a mate in one have a
    mate in the other. Implementations that merge the galleries are left without
    non-mated probes, and report another quantity.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[probes, gallery]``, or a list or tuple of
            them, one for each gallery.
        probe_labels: Identity of each probe, integer, ``[probes]``, for all galleries.
        gallery_labels: Identity of each template, integer, ``[gallery]``, or a list or
            tuple of them.
        fpir: False positive identification rate in [0, 1], one or several.

    Returns:
        A :class:`TpirAtFpir`, rates of the shape of ``fpir``.

    Raises:
        TypeError: If scores are not floating or labels not integer.
        ValueError: If shapes or the numbers of galleries do not fit, scores are not
            finite, ``fpir`` is not within [0, 1], or a gallery leaves no mated or no
            non-mated probes.

    Example:
        >>> scores = jnp.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2], [0.4, 0.1]])
        >>> both, labels = [scores, scores[:, ::-1]], [[0, 1], [2, 3]]
        >>> print(sx.metrics.tpir_at_fpir(both, [0, 1, 2, 3], labels, 0.5).tpir)
        0.25

    References:
        Maze et al., `IARPA Janus Benchmark - C
        <https://doi.org/10.1109/ICB2018.2018.00033>`_, ICB 2018.
    """
    galleries: list[Any] = [scores]
    labels: list[Any] = [gallery_labels]
    if isinstance(scores, (list, tuple)):
        galleries, labels = list(scores), list(gallery_labels)  # pyright: ignore[reportArgumentType]
    if len(labels) != len(galleries) or not labels:
        raise ValueError(
            "scores and gallery_labels must have an entry for each gallery, got"
            f" {len(galleries)} and {len(labels)}."
        )
    found = tuple(
        dir_at_far(gallery, probe_labels, identities, fpir)
        for gallery, identities in zip(galleries, labels, strict=True)
    )
    mean = np.mean([each.dir for each in found], axis=0)
    return TpirAtFpir(mean, found, f"{found[0].rule}; mean over {len(found)} galleries")


class _NearestMates(NamedTuple):
    """The mate of each probe in the gallery, ``[probes]`` each."""

    is_mated: np.ndarray  # whether the gallery has the probe's identity
    score: np.ndarray  # the mate's score; undefined for probes without a mate
    rank: np.ndarray  # the mate's rank, from 1; undefined for probes without a mate
    best: np.ndarray  # the largest score of any identity
    identities: int  # number of identities in the gallery


def _nearest_mates(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
) -> _NearestMates:
    """The mate of each probe, its score and rank; raises unless the arguments fit."""
    scores = as_finite("scores", scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be [probes, gallery], got shape {scores.shape}.")
    probes = as_numpy_labels(
        "probe_labels", probe_labels, len(scores), "probes of scores"
    )
    gallery = as_numpy_labels(
        "gallery_labels", gallery_labels, scores.shape[1], "gallery columns of scores"
    )
    probes, gallery = as_comparable(probes, gallery)
    order = np.argsort(gallery, kind="stable")
    identities, first = np.unique(gallery[order], return_index=True)
    scores = np.maximum.reduceat(scores[:, order], first, axis=1)
    column = np.searchsorted(identities, probes).clip(max=len(identities) - 1)
    mate = np.take_along_axis(scores, column[:, None], 1)
    return _NearestMates(
        identities[column] == probes,
        mate[:, 0],
        np.count_nonzero(scores >= mate, axis=1),
        scores.max(axis=1),
        len(identities),
    )
