"""The intra-pair variance loss."""

from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import divide
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms


@explain_names(
    OF_LOSSES,
    pos_eps="it is called positive_slack",
    neg_eps="it is called negative_slack",
)
def pair_variance(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    positive_slack: jax.typing.ArrayLike = 0.01,
    negative_slack: jax.typing.ArrayLike = 0.01,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Keeps cosines on the right side of their mean (intra-pair variance loss).

    With :math:`\mu_p` and :math:`\mu_n` the mean cosines of all positive and of all
    negative pairs, the loss is the mean over the positive pairs plus the mean over the
    negative pairs of

    .. math::
        [(1 - \epsilon_p) \mu_p - s]_+^2, \qquad [s - (1 + \epsilon_n) \mu_n]_+^2.

    It is added, with a weight, to a loss that tells classes apart, such as
    :func:`tuplet_margin`. The means have a gradient, as in the authors' code. If the
    mean of the negative pairs is negative, the slack tightens the bound, as published.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        positive_slack: :math:`\epsilon_p`, in ``[0, 1)``.
        negative_slack: :math:`\epsilon_n`, in ``[0, 1)``.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`. Weights count in the mean
            cosines too. With ``reduction="none"``, the costs of an anchor are averaged,
            while the mean cosines remain those of all pairs.

    Returns:
        The loss, ``[]``, float32 at least; a kind of which there is no pair adds 0,
        with zero gradient. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> sx.losses.pair_variance(x, jnp.array([0, 0, 1, 1]))
        Array(0.09, dtype=float32)

    References:
        Yu, Tao, `Deep Metric Learning with Tuplet Margin Loss
        <https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html>`_,
        ICCV 2019, Eqs. 10-12.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    slacks = (
        as_scalar("positive_slack", positive_slack, batch.dtype, 0.0, 1.0),
        as_scalar("negative_slack", negative_slack, batch.dtype, 0.0, 1.0),
    )
    return _pair_variance(batch, slacks, plan=plan)


@compiled("plan")
def _pair_variance(
    batch: Batch, slacks: tuple[jax.Array, jax.Array], *, plan: Plan
) -> jax.Array:
    pairs = compare(batch, plan)

    def cosines(tile, *_):
        positive = jnp.where(tile.is_positive, tile.products, 0.0)
        negative = jnp.where(tile.is_negative, tile.products, 0.0)
        counts = tile.count(tile.is_positive), tile.count(tile.is_negative)
        return Terms(((positive, negative), counts))

    def costs(tile, bounds, *_):
        below = jax.nn.relu(bounds[0] - tile.products) ** 2
        above = jax.nn.relu(tile.products - bounds[1]) ** 2
        below = jnp.where(tile.is_positive, below, 0.0)
        return Terms((below, jnp.where(tile.is_negative, above, 0.0)))

    sums, counts = pairs.reduce(cosines).sums
    # Of all pairs, whichever way the loss is reduced.
    means = [
        divide(pairs.total(total), pairs.total(count))
        for total, count in zip(sums, counts, strict=True)
    ]
    bounds = (1.0 - slacks[0]) * means[0], (1.0 + slacks[1]) * means[1]
    below, above = pairs.reduce(costs, bounds).sums
    return pairs.mean(below, counts[0]) + pairs.mean(above, counts[1])
