"""The N-pair loss: cross-entropy of plain inner products."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import Batch, as_pairwise, compare, mean_cross_entropy
from sphax.losses._memory import MemoryBank


@explain_names(OF_LOSSES)
def n_pair(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    regularization: jax.typing.ArrayLike = 0.002,
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
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
        labels: Any integers, ``[n]``.
        regularization: :math:`\lambda`, not negative.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no pair, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

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
    batch = as_pairwise(embeddings, labels, where, memory)
    weight = as_scalar("regularization", regularization, batch.dtype, 0.0)
    return _n_pair(batch, weight, precision=precision)


@compiled("precision")
def _n_pair(
    batch: Batch, weight: jax.Array, *, precision: jax.lax.PrecisionLike
) -> jax.Array:
    pairs = compare(batch, precision, normalize=False)
    squared_lengths = jnp.diagonal(pairs.products)
    penalty = pairs.mean(squared_lengths * pairs.positives, pairs.positives)
    return mean_cross_entropy(pairs.products, pairs) + weight * penalty
