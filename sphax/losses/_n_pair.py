"""The N-pair loss: cross-entropy of plain inner products."""

from typing import Unpack

import jax

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
    mean_cross_entropy,
)
from sphax.losses._core.tiles import Terms


@explain_names(OF_LOSSES)
def n_pair(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    regularization: jax.typing.ArrayLike = 0.002,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Cross-entropy of plain inner products, with a penalty on lengths (N-pair loss).

    The mean over all positive pairs of an anchor :math:`x` and a row :math:`x_p` of its
    class, with :math:`x_n` the rows of other classes, of

    .. math::
        \log\Big(1 + \sum_n e^{x \cdot x_n - x \cdot x_p}\Big) + \lambda \|x\|^2.

    The paper has separate anchors and positives, and compares an anchor with one row of
    every other class. Given only labels, here every row serves as an anchor and every
    row of another class as a negative. Nothing is normalized.

    Args:
        embeddings: Rows, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        regularization: :math:`\lambda`, not negative.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a positive
        pair; NaN where a product leaves the range, from lengths of 1e19 on in float32.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.n_pair(x, jnp.array([0, 0, 1]))  # log(1 + 1 / e) + 0.002
        Array(0.31526, dtype=float32)

    References:
        Sohn, `Improved Deep Metric Learning with Multi-class N-pair Loss Objective
        <https://papers.nips.cc/paper/6200>`_, NeurIPS 2016.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    weight = as_scalar("regularization", regularization, batch.dtype, 0.0)
    return _n_pair(batch, weight, plan=plan)


@compiled("plan")
def _n_pair(batch: Batch, weight: jax.Array, *, plan: Plan) -> jax.Array:
    pairs = compare(batch, plan, normalize=False)
    positives = pairs.reduce(
        lambda tile, *_: Terms(sums=tile.count(tile.is_positive))
    ).sums
    vectors = widen(pairs.anchors.vectors)
    penalty = pairs.mean(dot(vectors, vectors) * positives, positives)
    return mean_cross_entropy(lambda tile, _: tile.products, pairs) + weight * penalty
