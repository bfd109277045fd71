"""The lifted structure loss, and its generalized form."""

from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._checks import check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
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


@explain_names(
    OF_LOSSES,
    neg_margin="it is called margin",
    pos_margin="it is called positive_margin",
)
def lifted(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    margin: jax.typing.ArrayLike = 1.0,
    positive_margin: jax.typing.ArrayLike = 0.0,
    generalized: bool = False,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Sets each positive pair against all negatives of both rows (lifted structure).

    With :math:`D` the distance of two directions, a positive pair of an anchor
    :math:`i` and a reference :math:`p` costs :math:`\tfrac12 [J_{ip}]_+^2`,

    .. math::
        J_{ip} = D_{ip} - m_p + \log\Big(\sum_{n} e^{m - D_{in}}
        + \sum_{a} e^{m - D_{ap}}\Big),

    where :math:`n` are the negatives of the anchor, and :math:`a` the anchors that the
    reference is a negative of; within a batch these are the reference's negatives. The
    loss is the mean over all positive pairs. If neither sum has a term, the pair costs
    0, and counts; PyTorch Metric Learning has :math:`D^2 / 2` there, and takes other
    pairs in the second sum if references are given.

    The generalized form adds all positives of an anchor up as well,

    .. math::
        L = \Big[\log \sum_p e^{D_{ip} - m_p} + \log \sum_n e^{m - D_{in}}\Big]_+,

    and is the mean over the anchors that have a positive and a negative. PyTorch Metric
    Learning takes it over all anchors, and an empty sum as 1. The paper's distances are
    those of the embeddings themselves, ours those of their directions.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        margin: :math:`m`, a distance, positive.
        positive_margin: :math:`m_p`, a distance, not negative.
        generalized: Whether the generalized form is taken.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if nothing counts. The
        distance of coincident directions has zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> sx.losses.lifted(x, jnp.array([0, 0, 1, 1]))
        Array(1.43282, dtype=float32)
        >>> sx.losses.lifted(x, jnp.array([0, 0, 1, 1]), generalized=True)
        Array(0.9731, dtype=float32)

    References:
        Song et al., `Deep Metric Learning via Lifted Structured Feature Embedding
        <https://arxiv.org/abs/1511.06452>`_, CVPR 2016, Eq. 4; Hermans et al., `In
        Defense of the Triplet Loss <https://arxiv.org/abs/1703.07737>`_, 2017, Section
        2 (generalized).
    """
    check_flag("generalized", generalized)
    batch, plan = as_pairwise(embeddings, labels, options)
    margin = as_scalar("margin", margin, batch.dtype, 0.0, is_open=True)
    positive_margin = as_scalar("positive_margin", positive_margin, batch.dtype, 0.0)
    margins = margin, positive_margin
    return _lifted(batch, margins, generalized=bool(generalized), plan=plan)


@compiled("generalized", "plan")
def _lifted(
    batch: Batch, margins: tuple[jax.Array, jax.Array], *, generalized: bool, plan: Plan
) -> jax.Array:
    pairs = compare(batch, plan)
    return _generalized(pairs, margins) if generalized else _of_pairs(pairs, margins)


def _of_pairs(pairs: Pairs, margins: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean of what the positive pairs cost, each by itself."""

    def of_negatives(tile, margins, *_):
        return Terms(exponents=tile.negatives(margins[0] - tile.distances))

    def of_positives(tile, margins, of_anchors, of_references):
        apart = jnp.logaddexp(of_anchors[:, None], of_references[None, :])
        costs = 0.5 * jax.nn.relu(apart + tile.distances - margins[1]) ** 2
        costs = jnp.where(tile.is_positive, costs, 0.0)
        return Terms((costs, tile.count(tile.is_positive)))

    of_anchors, of_references = pairs.reduce_both(of_negatives, margins)
    columns = tuple(terms.exponents for terms in of_references)
    return pairs.mean(
        *pairs.reduce(of_positives, margins, of_anchors.exponents, columns).sums
    )


def _generalized(pairs: Pairs, margins: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean over the anchors that have pairs of both kinds."""

    def terms(tile, margins, *_):
        margin, positive_margin = margins
        near = tile.positives(tile.distances - positive_margin)
        apart = tile.negatives(margin - tile.distances)
        counts = tile.count(tile.is_positive), tile.count(tile.is_negative)
        return Terms(counts, (near, apart))

    (positives, negatives), (near, apart), _ = pairs.reduce(terms, margins)
    has_both = (positives > 0) & (negatives > 0)
    losses = jnp.where(has_both, jax.nn.relu(near + apart), 0.0)
    return pairs.mean(losses, has_both.astype(losses.dtype))
