"""Hyperspherical prototype networks: embeddings turned to fixed prototypes."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.sphere import angle


@explain_names(OF_LOSSES)
def hyperspherical_prototype(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared cosine distance of embeddings from the prototype of their class.

    With fixed prototypes of :func:`sphax.energy.separated_prototypes`, this is the loss
    of hyperspherical prototype networks,

    .. math::
        L = \operatorname{mean}_i (1 - \cos\theta_i)^2, \qquad
        \frac{\partial L_i}{\partial \theta_i} = 2 (1 - \cos\theta_i) \sin\theta_i.

    It pulls an embedding to its own prototype; the other ones are far away because they
    were placed so, and training both would let them all coincide. The slope is zero at
    the prototype and at its antipode, where an embedding stays, though any push sets it
    free. The paper sums over the batch; we average.

    The prediction is the class of the largest cosine, ``jnp.argmax`` of
    :func:`class_logits`. :func:`margin_softmax` takes fixed prototypes as well, with
    any margin: it is a softmax on them as long as they are not trained.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes the
            loss and its gradients NaN.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        The loss, a scalar in float32 at least, from 0 to 4; 0, with zero gradient, when
        nothing is left to average. A zero embedding or prototype is at a right angle to
        the other, with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> prototypes = sx.energy.separated_prototypes(None, 3, 2).prototypes
        >>> x, labels = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> sx.losses.hyperspherical_prototype(x, prototypes, labels)
        Array(0.00897, dtype=float32)
        >>> jnp.argmax(sx.losses.class_logits(x, prototypes), axis=-1)
        Array([0, 1], dtype=int32)
        >>> margin = sx.margins.NoMargin()
        >>> sx.losses.margin_softmax(x, prototypes, labels, margin, scale=4.0)
        Array(0.0184, dtype=float32)

    References:
        Mettes, van der Pol, Snoek, `Hyperspherical Prototype Networks
        <https://arxiv.org/abs/1901.10514>`_, NeurIPS 2019, Eq. 1.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    labels, where = as_batch(embeddings, labels, where)
    return _hyperspherical_prototype(embeddings, prototypes, labels, where)


@compiled()
def _hyperspherical_prototype(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, len(prototypes)
    )
    # 1 - cos, without its cancellation at small angles.
    distances = 2.0 * jnp.square(jnp.sin(0.5 * angle(x, prototypes[labels])))
    return weighted_mean(jnp.square(distances), weights)
