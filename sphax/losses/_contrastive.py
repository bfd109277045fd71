"""The contrastive loss."""

from typing import Literal, Unpack

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_flag
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
def contrastive(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    margin: jax.typing.ArrayLike = 1.0,
    positive_margin: jax.typing.ArrayLike = 0.0,
    squared: bool = True,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    average: Literal["pairs", "nonzero", "anchors"] = "pairs",
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Pulls the pairs of a class together, pushes others apart (contrastive loss).

    With :math:`D` the distance of two directions, :math:`D^2 = 2 - 2s` of their cosine
    :math:`s`, a pair costs

    .. math::
        \tfrac12 [D - m_p]_+^2 \quad \text{(one class)}, \qquad
        \tfrac12 [m - D]_+^2 \quad \text{(two classes)},

    or, with ``squared=False``, :math:`[D - m_p]_+` and :math:`[m - D]_+`. The distance
    ``"cosine"`` is :math:`D = 1 - s`.

    =============  ===================================================================
    ``average``    the loss
    =============  ===================================================================
    ``"pairs"``    mean of the costs of all pairs, positive and negative together, as in
                   the paper's sum
    ``"nonzero"``  mean of the positive costs above 0, plus mean of the negative ones
                   above 0
    ``"anchors"``  sum of the costs of an anchor, averaged over all anchors
    =============  ===================================================================

    In a batch of many classes most pairs are negative, and most of their costs zero:
    ``"pairs"`` is then small. Two rows of the batch make two pairs, one in each order.
    A row without a positive still takes part in negative pairs. PyTorch Metric Learning
    has by default ``squared=False, average="nonzero"``. Cross-batch memory has
    ``distance="cosine", margin=0.5, squared=False, average="anchors"``, where its paper
    calls the cosine :math:`1 - m` the margin. With :math:`m_p > m`, pairs of one class
    are pulled less far than others are pushed.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        margin: :math:`m`, a distance, positive; 2 is the sphere's diameter.
        positive_margin: :math:`m_p`, a distance, not negative.
        squared: Whether costs are squares.
        distance: Of directions, or 1 less their cosine.
        average: Which mean is taken.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a pair. The
        distance of coincident directions has zero gradient: rows of two classes that
        have collapsed into one point stay there. A cost at its margin has none either.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
        >>> sx.losses.contrastive(x, jnp.array([0, 0, 1]))  # distances 0, 0.63, 0.63
        Array(0.04503, dtype=float32)

        Cross-batch memory as published, which the batch is stored in first:

        >>> memory = sx.losses.init_memory(size=8, features=2)
        >>> rows = memory.position + jnp.arange(3)  # where they will be stored
        >>> memory = sx.losses.enqueue(memory, x, jnp.array([0, 0, 1]))
        >>> given: sx.losses.PairOptions = {
        ...     "references": memory.embeddings,
        ...     "reference_labels": memory.labels,
        ...     "reference_where": jnp.arange(8) < memory.filled,
        ...     "self_index": rows,
        ... }
        >>> sx.losses.contrastive(x, jnp.array([0, 0, 1]), **given)
        Array(0.04503, dtype=float32)

    References:
        Hadsell et al., `Dimensionality Reduction by Learning an Invariant Mapping
        <https://doi.org/10.1109/CVPR.2006.100>`_, CVPR 2006, Eq. 4; Wang et al.,
        `Cross-Batch Memory <https://arxiv.org/abs/1912.06798>`_, CVPR 2020.
    """
    check_flag("squared", squared)
    check_choice("distance", distance, ("euclidean", "cosine"))
    check_choice("average", average, ("pairs", "nonzero", "anchors"))
    batch, plan = as_pairwise(embeddings, labels, options)
    is_polynomial = squared and distance == "euclidean"
    if not isinstance(positive_margin, (int, float)) or positive_margin != 0:
        is_polynomial = False
    return _contrastive(
        batch,
        as_scalar("margin", margin, batch.dtype, 0.0, is_open=True),
        as_scalar("positive_margin", positive_margin, batch.dtype, 0.0),
        squared=bool(squared),
        is_polynomial=is_polynomial,
        distance=distance,
        average=average,
        plan=plan,
    )


@compiled("squared", "is_polynomial", "distance", "average", "plan")
def _contrastive(
    batch: Batch,
    margin: jax.Array,
    positive_margin: jax.Array,
    *,
    squared: bool,
    is_polynomial: bool,
    distance: Literal["euclidean", "cosine"],
    average: Literal["pairs", "nonzero", "anchors"],
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan)

    def terms(tile, margins, *_):
        margin, positive_margin = margins
        is_cosine = distance == "cosine"
        apart = 1.0 - tile.products if is_cosine else tile.distances
        pull = jax.nn.relu(apart - positive_margin)
        push = jax.nn.relu(margin - apart)
        if squared:
            pull, push = 0.5 * pull**2, 0.5 * push**2
        if is_polynomial:  # D^2 / 2, exact near 0
            pull = 1.0 - tile.products
        is_pair = tile.is_positive | tile.is_negative
        if average != "nonzero":
            costs = jnp.where(tile.is_positive, pull, push)
            return Terms((jnp.where(is_pair, costs, 0.0), tile.count(is_pair)))
        pull = jnp.where(tile.is_positive, pull, 0.0)
        push = jnp.where(tile.is_negative, push, 0.0)
        # Not `> 0`: a NaN counts.
        counts = tile.count(~(pull <= 0.0)), tile.count(~(push <= 0.0))
        return Terms((pull, counts[0], push, counts[1]))

    sums = pairs.reduce(terms, (margin, positive_margin)).sums
    if average == "nonzero":
        return pairs.mean(*sums[:2]) + pairs.mean(*sums[2:])
    totals, counts = sums
    return pairs.mean(totals, counts if average == "pairs" else jnp.ones_like(counts))
