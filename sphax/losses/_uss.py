"""The unified threshold loss of pairs, and its initial bias."""

import math
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


@explain_names(OF_LOSSES)
def uss(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    bias: jax.typing.ArrayLike,
    scale: jax.typing.ArrayLike = 64.0,
    margin: jax.typing.ArrayLike = 0.1,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Separates all pairs of cosines by one learned threshold (USS loss).

    For an anchor with cosines :math:`s_p` to its positives and :math:`s_n` to its
    negatives,

    .. math::
        L = \sum_p \log\big(1 + e^{b - \gamma (s_p - m)}\big)
            + \sum_n \log\big(1 + e^{\gamma s_n - b}\big),

    averaged over the anchors that have any pair. :math:`b / \gamma` is the cosine above
    which two embeddings are taken for one identity, the same for all of them, also once
    the network is in use. The paper has references of one row for each identity,
    ``references=bank, reference_labels=jnp.arange(len(bank))``, from the second epoch
    on, and adds a loss of classes. The authors' code bounds the exponents by
    :math:`\gamma`, so that pairs far beyond the threshold have no gradient; here they
    are not bounded.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        bias: :math:`b`, a learned number, at first that of :func:`uss_bias`.
        scale: :math:`\gamma`, positive.
        margin: :math:`m`, a cosine, not negative.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a pair. A zero
        row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> labels = jnp.array([0, 0, 1])
        >>> bias = sx.losses.uss_bias(x, labels, scale=8.0)
        >>> sx.losses.uss(x, labels, bias=bias, scale=8.0)
        Array(2.0629, dtype=float32)

    References:
        Li et al., `UniTSFace: Unified Threshold Integrated Sample-to-Sample Loss for
        Face Recognition <https://arxiv.org/abs/2311.02523>`_, NeurIPS 2023, Eq. 11.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    bias = as_scalar("bias", bias, batch.dtype, -math.inf, is_open=True)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    margin = as_scalar("margin", margin, batch.dtype, 0.0)
    return _uss(batch, bias, scale, margin, plan=plan)


@compiled("plan")
def _uss(
    batch: Batch,
    bias: jax.Array,
    scale: jax.Array,
    margin: jax.Array,
    *,
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan)

    def terms(tile, shared, *_):
        bias, scale, margin = shared
        pull = jax.nn.softplus(bias - scale * (tile.products - margin))
        push = jax.nn.softplus(scale * tile.products - bias)
        pull = jnp.where(tile.is_positive, pull, 0.0)
        push = jnp.where(tile.is_negative, push, 0.0)
        return Terms((pull + push, tile.count(tile.is_positive | tile.is_negative)))

    totals, counts = pairs.reduce(terms, (bias, scale, margin)).sums
    return pairs.mean(totals, (counts > 0).astype(totals.dtype))


@explain_names(OF_LOSSES)
def uss_bias(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    scale: jax.typing.ArrayLike = 64.0,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Initial bias of :func:`uss`, from the cosines of a first batch.

    The mean over the anchors that have negatives, at cosines :math:`s_n`, of
    :math:`\log \sum_n e^{\gamma s_n}`.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: As in :func:`uss`.
        scale: :math:`\gamma` of :func:`uss`, positive.
        options: What is compared, and how; see :class:`PairOptions`.

    Returns:
        The bias, ``[]``, float32 at least, without gradient; 0 without a negative pair.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> sx.losses.uss_bias(x, jnp.array([0, 0, 1]), scale=8.0)
        Array(4.26722, dtype=float32)

    References:
        Li et al., `UniTSFace <https://arxiv.org/abs/2311.02523>`_, NeurIPS 2023, and
        the authors' code.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    batch, scale = jax.lax.stop_gradient((batch, scale))
    return _uss_bias(batch, scale, plan=plan)


@compiled("plan")
def _uss_bias(batch: Batch, scale: jax.Array, *, plan: Plan) -> jax.Array:
    pairs = compare(batch, plan)

    def terms(tile, scale, *_):
        negatives = tile.negatives(scale * tile.products)
        return Terms(tile.count(tile.is_negative), negatives)

    counts, log_sums, _ = pairs.reduce(terms, scale)
    has_negatives = counts > 0
    log_sums = jnp.where(has_negatives, log_sums, 0.0)
    return pairs.mean(log_sums, has_negatives.astype(log_sums.dtype))
