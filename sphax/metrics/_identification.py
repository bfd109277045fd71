"""Identification of probes in a gallery: CMC (closed set), DIR and TPIR (open set)."""

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.metrics._accept_counts import count_accepts, operating_points
from sphax.metrics._mates import Mates, mates_of_scores

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


@overload
def cmc(scores: Mates, *, max_rank: int | None = None) -> Cmc: ...


@overload
def cmc(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
    *,
    max_rank: int | None = None,
) -> Cmc: ...


def cmc(
    scores: ArrayLike | Mates,
    probe_labels: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
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
        scores: Similarities, floating, ``[probes, gallery]``, or what
            :func:`find_mates` returns, which needs no such matrix.
        probe_labels: Identity of each probe, integer, ``[probes]``; not given with
            mates, nor is the next.
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
    mates = _as_mates(scores, probe_labels, gallery_labels)
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


@overload
def dir_at_far(scores: Mates, *, far: ArrayLike, rank: int = 1) -> DirAtFar: ...


@overload
def dir_at_far(
    scores: ArrayLike,
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike,
    far: ArrayLike,
    *,
    rank: int = 1,
) -> DirAtFar: ...


def dir_at_far(
    scores: ArrayLike | Mates,
    probe_labels: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    far: ArrayLike | None = None,
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
        scores: Similarities, floating, ``[probes, gallery]``, or what
            :func:`find_mates` returns, which needs no such matrix.
        probe_labels: Identity of each probe, integer, ``[probes]``; not given with
            mates, nor is the next.
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
    rates = _as_given("far", far)
    mates = _as_mates(scores, probe_labels, gallery_labels)
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
        *operating_points(counts._replace(genuine_total=mated), rates),
        mated,
        non_mated,
        f"mate within rank {rank} and score >= threshold; {_RANK_RULE}; the smallest"
        " threshold with a false alarm rate, over non-mated probes, <= the given one",
    )


@overload
def tpir_at_fpir(scores: Mates | Sequence[Mates], *, fpir: ArrayLike) -> TpirAtFpir: ...


@overload
def tpir_at_fpir(
    scores: ArrayLike | Sequence[ArrayLike],
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike | Sequence[ArrayLike],
    fpir: ArrayLike,
) -> TpirAtFpir: ...


def tpir_at_fpir(
    scores: ArrayLike | Sequence[ArrayLike] | Mates | Sequence[Mates],
    probe_labels: ArrayLike | None = None,
    gallery_labels: ArrayLike | Sequence[ArrayLike] | None = None,
    fpir: ArrayLike | None = None,
) -> TpirAtFpir:
    """True positive identification rate at a false positive identification rate (IJB).

    The mean over the galleries of :func:`dir_at_far` at rank 1, the 1:N protocol. The
    two galleries of IJB-B and IJB-C are disjoint: probes without a mate in one have a
    mate in the other. Implementations that merge the galleries are left without
    non-mated probes, and report another quantity.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[probes, gallery]``, or what
            :func:`find_mates` returns, or a list or tuple of them, one for each
            gallery.
        probe_labels: Identity of each probe, integer, ``[probes]``, for all galleries;
            not given with mates, nor is the next.
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
    rates = _as_given("fpir", fpir)
    galleries: list[Any] = [scores]
    labels: list[Any] = [gallery_labels]
    # A Mates is a tuple of another kind.
    if isinstance(scores, (list, tuple)) and not isinstance(scores, Mates):
        galleries = list(scores)
        labels = [None] * len(galleries)
        if gallery_labels is not None:
            labels = list(gallery_labels)  # pyright: ignore[reportArgumentType]
    if len(labels) != len(galleries) or not labels:
        raise ValueError(
            "scores and gallery_labels must have an entry for each gallery, got"
            f" {len(galleries)} and {len(labels)}."
        )
    found = tuple(
        dir_at_far(gallery, probe_labels, identities, rates)  # pyright: ignore[reportArgumentType]
        for gallery, identities in zip(galleries, labels, strict=True)
    )
    mean = np.mean([each.dir for each in found], axis=0)
    return TpirAtFpir(mean, found, f"{found[0].rule}; mean over {len(found)} galleries")


def _as_given(name: str, rates: ArrayLike | None) -> ArrayLike:
    """``rates``; raises if they were left out."""
    if rates is None:
        raise TypeError(f"{name} must be given: by name after mates, {name}=0.01.")
    return rates


def _as_mates(scores, probe_labels, gallery_labels) -> Mates:
    """Mates, given or found in a matrix of scores; raises unless the arguments fit."""
    if isinstance(scores, Mates):
        if probe_labels is not None or gallery_labels is not None:
            raise ValueError(
                "probe_labels and gallery_labels have no effect with the result of"
                " find_mates; leave them out, and give other arguments by name."
            )
        return scores
    if probe_labels is None or gallery_labels is None:
        raise ValueError(
            "probe_labels and gallery_labels must be given, unless scores are the"
            " result of find_mates."
        )
    return mates_of_scores(scores, probe_labels, gallery_labels)
