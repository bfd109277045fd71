"""Weight imprinting: prototypes of new classes from a few of their examples."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import widen
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.losses._core.class_sums import class_sums
from sphax.sphere import direction, length


@explain_names(OF_LOSSES)
def imprint(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Prototypes whose classes have examples replaced by the mean of these.

    .. math::
        w_j \leftarrow \hat c_j, \qquad c_j = \sum_{i: y_i = j} \hat x_i

    A cosine classifier, trained on other classes, so knows new ones without further
    training: append a row of zeros for each new class, and imprint it. The rows of all
    other classes stay as they are. With a :class:`sphax.layers.MarginHead`,
    ``head.prototypes[...] = imprint(head.prototypes[...], embeddings, labels)``; a
    :class:`sphax.layers.CosineLinear` has prototypes as the columns of its kernel,
    ``layer.kernel[...] = imprint(layer.kernel[...].T, embeddings, labels).T``.

    Args:
        prototypes: Floating, ``[classes, features]``, one row per class.
        embeddings: Floating, ``[..., features]``.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes all
            prototypes NaN.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        New prototypes, shape and dtype of ``prototypes``, computed in float32 at least;
        unit vectors where they are new. A class whose examples are zero or cancel out
        keeps its row.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> x, labels = jnp.array([[0.0, 2.0], [3.0, 0.0]]), jnp.array([1, 1])
        >>> sx.losses.imprint(jnp.array([[1.0, 0.0], [0.0, 0.0]]), x, labels)
        Array([[1.        , 0.        ],
               [0.70710677, 0.70710677]], dtype=float32)

    References:
        Qi, Brown, Lowe, `Low-Shot Learning with Imprinted Weights
        <https://arxiv.org/abs/1712.07136>`_, CVPR 2018.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    labels, where = as_batch(embeddings, labels, where)
    return _imprint(prototypes, embeddings, labels, where)


@compiled()
def _imprint(
    prototypes: jax.Array,
    embeddings: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, len(prototypes)
    )
    sums, _ = class_sums(direction(widen(x)), labels, weights, len(prototypes))
    is_kept = (length(sums) == 0.0)[:, None]
    rows = jnp.where(is_kept, prototypes.astype(sums.dtype), direction(sums))
    return rows.astype(prototypes.dtype)
