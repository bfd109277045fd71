"""P2SGrad, as the gradient of squared errors of the cosines."""

import jax
import jax.numpy as jnp

from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.losses._core.blocked import Blocks, as_blocks
from sphax.losses._core.class_logits import sum_over_others, target_products


@explain_names(OF_LOSSES)
def p2sgrad(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean over examples of the squared error of the cosines (P2SGrad).

    The paper prescribes no loss but a gradient, in which the cosine itself takes the
    place of the probability, so that there is no scale to choose:
    :math:`\sum_j (c_j - 1_{j=y}) \nabla c_j`. It is the gradient of

    .. math:: L = \tfrac12 \sum_j (c_j - 1_{j=y})^2.

    The loss of pytorch-metric-learning is a mean over examples and classes without the
    half, :math:`2 / C` times this one.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.
        block_size: Number of classes handled at a time; ``None`` for all at once. The
            blocked form keeps no array of ``batch x classes``, forms its cosines twice,
            and has no forward-mode derivative.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or prototype has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, w = jnp.eye(2, 3), jnp.array([[2.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
        >>> sx.losses.p2sgrad(x, w, jnp.array([0, 1]))  # 0.6**2 / 2 and 1 / 2
        Array(0.34, dtype=float32)

    References:
        Zhang et al., `P2SGrad <https://arxiv.org/abs/1905.02479>`_, CVPR 2019.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    labels, where = as_batch(embeddings, labels, where)
    return _p2sgrad(
        embeddings,
        prototypes,
        labels,
        where,
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("classes", "blocks", "precision")
def _p2sgrad(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    *,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x, prototypes = vary_alike(x, prototypes)
    target = target_products(x, prototypes, labels, "both", classes)
    others = sum_over_others(
        _square,
        (),
        x,
        prototypes,
        labels,
        classes=classes,
        blocks=blocks,
        precision=precision,
    )
    return weighted_mean(0.5 * ((target - 1.0) ** 2 + others), weights)


def _square(nothing: tuple[()], cosines: jax.Array) -> jax.Array:
    del nothing
    return jnp.square(cosines)
