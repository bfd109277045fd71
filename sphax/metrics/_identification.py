"""Identification in a closed set: every probe has a mate in the gallery."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.metrics._mates import RANK_RULE, find_mates


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
    r"""Rank-k identification rates of a closed set (cumulative match characteristic).

    A probe's rank is the number of gallery identities that score at least as high as
    its mate, the mate included. An identity with several templates scores as the best
    of them. Ties are pessimistic: a constant score gives rank 1 to nobody.

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
    mates = find_mates(scores, probe_labels, gallery_labels)
    lonely = np.count_nonzero(~mates.is_mated)
    if lonely:
        raise ValueError(
            "probe_labels must all be in the gallery (a closed set), got"
            f" {lonely} of {len(mates.is_mated)} probes without a mate; for an open set"
            " use dir_at_far."
        )
    ranks = np.arange(1, (max_rank or mates.identities) + 1)
    rates = np.searchsorted(np.sort(mates.rank), ranks, "right") / len(mates.rank)
    return Cmc(rates, mates.rank, RANK_RULE)
