"""Identification in an open set: some probes have no mate in the gallery."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.metrics._inputs import as_rate
from sphax.metrics._mates import RANK_RULE, find_mates
from sphax.metrics._steps import operate_at, steps_of_scores


class DirAtFar(NamedTuple):
    """Detection and identification rates; see :func:`dir_at_far`.

    Attributes:
        dir: Share of mated probes detected and identified, of the shape of the rates
            asked for; NaN if unsupported.
        threshold: The threshold that gives it, of that shape.
        far: The false alarm rate reached there, at most the one asked for.
        is_supported: Whether there are non-mated probes enough, boolean, of that shape.
        mated: Number of probes with a mate in the gallery.
        non_mated: Number of probes without.
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
        tpir: Mean over the galleries, of the shape of the rates asked for; NaN if any
            of them does not support the rate.
        per_gallery: A :class:`DirAtFar` for each.
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
    r"""Detection and identification rate at a false alarm rate, of an open set.

    With :math:`P_{FA}(t)` the share of non-mated probes (without a mate in the gallery)
    whose best score is :math:`\ge t`, and :math:`P_{DI}(t, r)` the share of mated ones
    whose mate scores :math:`\ge t` and is among the best :math:`r` identities: the
    latter at the smallest threshold with :math:`P_{FA}(t) \le f`.

    Host code: concrete arrays, compared in their own precision, not under ``jit``.

    Args:
        scores: Similarities, floating, ``[probes, gallery]``.
        probe_labels: Identity of each probe, integer, ``[probes]``.
        gallery_labels: Identity of each template, integer, ``[gallery]``.
        far: :math:`f` in [0, 1], one or several.
        rank: :math:`r`; ties as in :func:`cmc`.

    Returns:
        A :class:`DirAtFar` of the shape of ``far``. With fewer than :math:`1 / f`
        non-mated probes the rate is NaN, and ``is_supported`` False; ``far=0`` asks for
        no false alarm among these.

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
    rates = as_rate("far", far)
    mates = find_mates(scores, probe_labels, gallery_labels)
    mated = int(np.count_nonzero(mates.is_mated))
    non_mated = len(mates.is_mated) - mated
    if not mated or not non_mated:
        raise ValueError(
            "probe_labels must have some that are in the gallery and some that are not,"
            f" got {mated} mated and {non_mated} non-mated probes; without the latter"
            " there is no false alarm rate, use cmc."
        )
    # A mate beyond the rank is found at no threshold, yet counts in the total.
    is_found = mates.is_mated & (mates.rank <= rank)
    is_counted = is_found | ~mates.is_mated
    best = np.where(mates.is_mated, mates.score, mates.best)
    steps = steps_of_scores(best[is_counted], is_found[is_counted])
    return DirAtFar(
        *operate_at(steps._replace(genuine_total=mated), rates),
        mated,
        non_mated,
        f"mate within rank {rank} and score >= threshold; {RANK_RULE}; the smallest"
        " threshold with a false alarm rate, over non-mated probes, <= the given one",
    )


def tpir_at_fpir(
    scores: ArrayLike | Sequence[ArrayLike],
    probe_labels: ArrayLike,
    gallery_labels: ArrayLike | Sequence[ArrayLike],
    fpir: ArrayLike,
) -> TpirAtFpir:
    """True positive identification rate at a false positive one (IJB 1:N).

    :func:`dir_at_far` at rank 1 for each gallery, and the mean over the galleries. The
    two galleries of IJB-B and IJB-C are disjoint, so that the probes without a mate in
    one are those with a mate in the other. Codes that merge the galleries have no
    non-mated probe left; what they report instead is not this rate.

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
        TypeError: As :func:`dir_at_far`.
        ValueError: As :func:`dir_at_far`, or if the numbers of galleries differ.

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
        dir_at_far(of_gallery, probe_labels, own, fpir)
        for of_gallery, own in zip(galleries, labels, strict=True)
    )
    mean = np.mean([each.dir for each in found], axis=0)
    return TpirAtFpir(mean, found, f"{found[0].rule}; mean over {len(found)} galleries")
