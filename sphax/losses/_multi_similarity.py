"""The Multi-Similarity loss, with its mining."""

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms
from sphax.losses._mining import contradicted


@explain_names(
    OF_LOSSES,
    alpha="it is called positive_scale",
    beta="it is called negative_scale",
    base="it is called threshold",
    epsilon="it is called mining_margin",
)
def multi_similarity(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    positive_scale: jax.typing.ArrayLike = 2.0,
    negative_scale: jax.typing.ArrayLike = 50.0,
    threshold: jax.typing.ArrayLike = 0.5,
    mining_margin: jax.typing.ArrayLike | None = 0.1,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Weighs each pair by the other pairs of its anchor (Multi-Similarity loss).

    For an anchor with cosines :math:`s_p` to its positives and :math:`s_n` to its
    negatives,

    .. math::
        L = \frac1\alpha \log\Big(1 + \sum_p e^{-\alpha (s_p - \lambda)}\Big)
        + \frac1\beta \log\Big(1 + \sum_n e^{\beta (s_n - \lambda)}\Big),

    averaged over all anchors, also those that cost nothing. The sums are over the pairs
    that are mined: with a margin :math:`\epsilon`, the positives with :math:`s_p <
    \max_n s_n + \epsilon` and the negatives with :math:`s_n > \min_p s_p - \epsilon`.
    An anchor that lacks positives or negatives mines no pair, and costs 0. Without
    mining it costs the term of the pairs that it has. :func:`mine_multi_similarity` has
    this mining for other losses.

    The paper has :math:`\lambda = 1`, the authors' code 0.5, as here. That code also
    leaves out positives with cosines close to 1, which drops duplicates; here they are
    pairs like any others.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        positive_scale: :math:`\alpha`, positive.
        negative_scale: :math:`\beta`, positive.
        threshold: :math:`\lambda`, a cosine.
        mining_margin: :math:`\epsilon`, a difference of cosines, not negative; None for
            all pairs.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no pair is mined.
        Which pairs are mined has no gradient. A zero row has cosine 0 to all and no
        gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = jnp.array([0, 0, 1, 1])
        >>> sx.losses.multi_similarity(x, labels)  # cosines 0.8, and 0.6 or less
        Array(0., dtype=float32)
        >>> sx.losses.multi_similarity(x, labels, mining_margin=None)
        Array(0.26881, dtype=float32)

    References:
        Wang et al., `Multi-Similarity Loss <https://arxiv.org/abs/1904.06627>`_, CVPR
        2019, Eqs. 10, 11 and 15; the authors' code for the threshold.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    scales = (
        as_scalar("positive_scale", positive_scale, batch.dtype, 0.0, is_open=True),
        as_scalar("negative_scale", negative_scale, batch.dtype, 0.0, is_open=True),
    )
    threshold = as_scalar("threshold", threshold, batch.dtype, -jnp.inf, is_open=True)
    if mining_margin is not None:
        mining_margin = as_scalar("mining_margin", mining_margin, batch.dtype, 0.0)
    return _multi_similarity(batch, scales, threshold, mining_margin, plan=plan)


@compiled("plan")
def _multi_similarity(
    batch: Batch,
    scales: tuple[jax.Array, jax.Array],
    threshold: jax.Array,
    mining_margin: jax.Array | None,
    *,
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan)

    def extremes(tile, *_):
        cosines = tile.products
        return Terms(largest=(tile.positives(-cosines), tile.negatives(cosines)))

    def terms(tile, shared, extremes, _):
        (positive_scale, negative_scale), threshold, mining_margin = shared
        cosines = tile.products
        if mining_margin is not None:
            lowest, highest = -extremes[0][:, None], extremes[1][:, None]
            is_positive, is_negative = contradicted(
                jax.lax.stop_gradient(cosines),
                *(tile.is_positive, tile.is_negative),
                *(lowest, highest),
                mining_margin,
            )
            tile = dataclasses.replace(
                tile, is_positive=is_positive, is_negative=is_negative
            )
        pull = tile.positives(-positive_scale * (cosines - threshold))
        push = tile.negatives(negative_scale * (cosines - threshold))
        return Terms(exponents=(pull, push))

    found = () if mining_margin is None else pairs.reduce(extremes).largest
    shared = scales, threshold, mining_margin
    pull, push = pairs.reduce(terms, shared, found).exponents
    losses = jax.nn.softplus(pull) / scales[0] + jax.nn.softplus(push) / scales[1]
    return pairs.mean(losses, jnp.ones_like(losses))
