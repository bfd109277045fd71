"""The decoupled contrastive loss."""

from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._checks import check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import divide
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Pairs,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms


@explain_names(OF_LOSSES)
def dcl(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    weighted: bool = False,
    sigma: jax.typing.ArrayLike = 0.5,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Cross-entropy of cosines without the positive in the denominator (DCL).

    The mean over the positive pairs of the anchors that have negatives, with cosines
    :math:`s_p, s_n` to the positive and to the negatives, of

    .. math::
        -w_p \gamma s_p + \log \sum_n e^{\gamma s_n}, \qquad w_p = 1 \quad\text{or}\quad
        w_p = 2 - \frac{e^{s_p / \sigma}}{\operatorname{mean} e^{s_p / \sigma}}.

    It is :func:`nt_xent` without the factor that makes the gradient of a close pair
    small. It may be negative: with :math:`N` negatives and :math:`w_p = 1`, it is at
    least :math:`\log N - 2 \gamma`. The weights of the weighted form (DCLW) have mean 1
    over all these pairs, and a gradient, as in the authors' code. If one pair is close
    and many are distant, the weight of the close one is negative: it is pushed apart.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        scale: :math:`\gamma`, the inverse temperature, positive.
        weighted: Whether positive pairs are weighted.
        sigma: :math:`\sigma` of the weights, positive.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no anchor has both a
        positive and a negative. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> sx.losses.dcl(x, jnp.array([0, 0, 1]))  # cosines 0.6, and 0.8 and 0.96
        Array(2.8, dtype=float32)

    References:
        Yeh et al., `Decoupled Contrastive Learning
        <https://arxiv.org/abs/2110.06848>`_, ECCV 2022, Eqs. 6 and 7.
    """
    check_flag("weighted", weighted)
    batch, plan = as_pairwise(embeddings, labels, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    sigma = as_scalar("sigma", sigma, batch.dtype, 0.0, is_open=True)
    return _dcl(batch, scale, sigma, weighted=bool(weighted), plan=plan)


@compiled("weighted", "plan")
def _dcl(
    batch: Batch, scale: jax.Array, sigma: jax.Array, *, weighted: bool, plan: Plan
) -> jax.Array:
    pairs = compare(batch, plan)

    def terms(tile, scale, *_):
        counts = tile.count(tile.is_positive), tile.count(tile.is_negative)
        cosines = jnp.where(tile.is_positive, tile.products, 0.0)
        return Terms((counts, cosines), tile.negatives(scale * tile.products))

    ((positives, negatives), cosines), log_sums, _ = pairs.reduce(terms, scale)
    is_anchor = (positives > 0) & (negatives > 0)
    counts = jnp.where(is_anchor, positives, 0.0)
    if weighted:
        cosines = 2.0 * cosines - _by_powers(pairs, sigma, is_anchor, counts)
    totals = counts * jnp.where(is_anchor, log_sums, 0.0) - scale * cosines
    return pairs.mean(jnp.where(is_anchor, totals, 0.0), counts)


def _by_powers(
    pairs: Pairs, sigma: jax.Array, is_anchor: jax.Array, counts: jax.Array
) -> jax.Array:
    """Sums of the positives' cosines times their powers, over the powers' mean."""

    def powers(tile, sigma, *_):
        return Terms(exponents=tile.positives(tile.products / sigma))

    def within(tile, sigma, log_sums, _):
        exponents = tile.products / sigma - log_sums[:, None]
        return Terms(jnp.exp(tile.positives(exponents)) * tile.products)

    log_sums = pairs.reduce(powers, sigma).exponents
    averages = pairs.reduce(within, sigma, log_sums).sums
    lowest = float(jnp.finfo(log_sums.dtype).min)
    top = jnp.max(jax.lax.stop_gradient(log_sums), where=is_anchor, initial=lowest)
    if pairs.plan.axes:
        top = jax.lax.pmax(top, pairs.plan.axes)
    sums = jnp.where(is_anchor, jnp.exp(jnp.where(is_anchor, log_sums, top) - top), 0.0)
    return averages * divide(sums, divide(pairs.total(sums), pairs.total(counts)))
