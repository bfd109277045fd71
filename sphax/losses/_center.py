"""Center loss, and the update of its class centers.

Both take the vectors as they are, not their directions.
"""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_batch, as_operands, as_scalar, masked_batch
from sphax.losses._core.class_sums import class_sums


@explain_names(OF_LOSSES)
def center(
    embeddings: jax.typing.ArrayLike,
    centers: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    weight: jax.typing.ArrayLike = 0.003,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared distance of embeddings from their class center (center loss).

    :math:`L = \frac\lambda2\, \operatorname{mean}_i \|x_i - v_{y_i}\|^2`. The paper
    sums over the batch, for this term and for the softmax; we average both. In the
    paper the centers follow the embeddings by :func:`update_centers`, not by this
    gradient, which exists all the same.

    Args:
        embeddings: Floating, ``[..., features]``.
        centers: Floating, ``[classes, features]``, one row per class.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes the
            loss and its gradients NaN.
        weight: :math:`\lambda`, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> x, centers = jnp.array([[3.0, 4.0], [1.0, 0.0]]), jnp.eye(2)
        >>> sx.losses.center(x, centers, jnp.array([1, 0]), weight=1.0)  # 18 / 4
        Array(4.5, dtype=float32)

    References:
        Wen et al., `A Discriminative Feature Learning Approach for Deep Face
        Recognition <https://ydwen.github.io/papers/WenECCV16.pdf>`_, ECCV 2016, Eq. 2.
    """
    embeddings, centers = as_operands(embeddings, centers, name="centers")
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, centers, jnp.float32)
    weight = as_scalar("weight", weight, dtype)
    return weight * _center(embeddings, centers, labels, where)


@compiled()
def _center(
    embeddings: jax.Array,
    centers: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    x, labels, weights = masked_batch(embeddings, centers, labels, where, len(centers))
    gaps = _gaps(x, centers, labels)
    return 0.5 * weighted_mean(dot(gaps, gaps), weights)


@explain_names(OF_LOSSES)
def update_centers(
    centers: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    rate: jax.typing.ArrayLike = 0.5,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Class centers moved towards the embeddings of a batch (center loss).

    With :math:`n_j` examples of class :math:`j` in the batch,

    .. math::
        v_j \leftarrow v_j + \alpha\, \frac{\sum_{i: y_i = j} (x_i - v_j)}{1 + n_j}.

    The center of a class that the batch lacks stays where it is. The new centers are
    differentiable with respect to the embeddings.

    Args:
        centers: Floating, ``[classes, features]``, one row per class.
        embeddings: Floating, ``[..., features]``.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes all
            centers NaN.
        rate: :math:`\alpha`, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; a weight counts its
            example that many times. Examples of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.

    Returns:
        New centers, shape and dtype of ``centers``, computed in float32 at least.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> x, labels = jnp.array([[3.0, 0.0], [0.0, 3.0]]), jnp.array([1, 1])
        >>> sx.losses.update_centers(jnp.zeros((2, 2)), x, labels)
        Array([[0. , 0. ], [0.5, 0.5]], dtype=float32)

    References:
        Wen et al., `A Discriminative Feature Learning Approach for Deep Face
        Recognition <https://ydwen.github.io/papers/WenECCV16.pdf>`_, ECCV 2016, Eq. 4.
    """
    embeddings, centers = as_operands(embeddings, centers, name="centers")
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, centers, jnp.float32)
    rate = as_scalar("rate", rate, dtype)
    return _update_centers(centers, embeddings, labels, rate, where)


@compiled()
def _update_centers(
    centers: jax.Array,
    embeddings: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    x, labels, weights = masked_batch(embeddings, centers, labels, where, len(centers))
    gaps = _gaps(x, centers, labels)
    shifts, counts = class_sums(gaps, labels, weights, len(centers))
    return (centers + rate * shifts / (1.0 + counts)[:, None]).astype(centers.dtype)


def _gaps(x: jax.Array, centers: jax.Array, labels: jax.Array) -> jax.Array:
    """From every example's center to the example, float32 at least."""
    x = widen(x)
    return x - centers[labels].astype(x.dtype)
