"""The contrastive loss."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import Batch, as_pairwise, compare, distances
from sphax.losses._memory import MemoryBank


@explain_names(OF_LOSSES)
def contrastive(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    margin: jax.typing.ArrayLike = 1.0,
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Pulls the pairs of a class together, pushes others apart (contrastive loss).

    With :math:`D` the distance of two directions, :math:`D^2 = 2 - 2c`, a pair costs

    .. math::
        \tfrac12 D^2 \quad \text{(one class)}, \qquad
        \tfrac12 [m - D]_+^2 \quad \text{(two classes)},

    and the loss is the mean over all pairs of an anchor and a reference, positive and
    negative together, as in the paper's sum: in a batch of many classes most pairs are
    negative, and most of their terms zero. Two rows of the batch make two pairs, one in
    each order. A row without a positive still takes part in negative pairs. Other
    libraries leave out the squares, or average the two kinds separately.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``.
        margin: :math:`m`, a distance, positive; 2 is the sphere's diameter.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no pair, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a pair. The
        distance of coincident directions has zero gradient: rows of two classes that
        have collapsed into one point stay there.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``margin``, as a number, is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
        >>> sx.losses.contrastive(x, jnp.array([0, 0, 1]))  # distances 0, 0.63, 0.63
        Array(0.04503, dtype=float32)

    References:
        Hadsell et al., `Dimensionality Reduction by Learning an Invariant Mapping
        <https://doi.org/10.1109/CVPR.2006.100>`_, CVPR 2006, Eq. 4.
    """
    batch = as_pairwise(embeddings, labels, where, memory)
    margin = as_scalar("margin", margin, batch.dtype, 0.0, is_open=True)
    return _contrastive(batch, margin, precision=precision)


@compiled("precision")
def _contrastive(
    batch: Batch, margin: jax.Array, *, precision: jax.lax.PrecisionLike
) -> jax.Array:
    pairs = compare(batch, precision)
    pull = 1.0 - pairs.products
    push = 0.5 * jnp.maximum(margin - distances(pairs), 0.0) ** 2
    losses = jnp.where(pairs.is_positive, pull, push)
    is_pair = pairs.is_positive | pairs.is_negative
    counts = jnp.sum(is_pair, axis=-1, dtype=losses.dtype)
    return pairs.mean(jnp.sum(losses, axis=-1, where=is_pair), counts)
