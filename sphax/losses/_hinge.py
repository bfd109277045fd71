"""The one-versus-all hinge loss of support vector machines."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.losses._core.blocked import Blocks, as_blocks
from sphax.losses._core.class_logits import (
    DEFAULT_SCALE,
    Normalize,
    check_normalize,
    check_scale,
    sum_over_others,
    target_products,
)


@explain_names(OF_LOSSES)
def hinge(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    power: Literal[1, 2] = 1,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Normalize = "none",
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean over examples of one hinge for every class (one-versus-all hinge).

    .. math::
        L = \sum_j \big[1 - t_j z_j\big]_+^p, \qquad
        t_y = 1, \quad t_j = -1 \ (j \ne y).

    The logits :math:`z` are those of :func:`margin_softmax` without a margin. This is
    the baseline that angular margins were first compared with, Caffe's ``HingeLoss``.
    It is not the hinge of the difference between the target and its best rival.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        power: :math:`p`, 1 or 2.
        scale: :math:`s` of ``normalize="both"``, positive, a scalar or of the shape of
            ``labels``; 64 if not given. Not used otherwise, and an error there.
        normalize: ``"both"`` (logits :math:`s \cos\theta_j`), ``"prototypes"``
            (:math:`x \cdot \hat w_j`) or ``"none"`` (:math:`x \cdot w_j`).
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.
        block_size: Number of classes handled at a time; ``None`` for all at once. The
            blocked form keeps no array of ``batch x classes``, forms its logits twice,
            and has no forward-mode derivative.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. The gradient is zero at the corner of a hinge, and where a
        direction is needed that does not exist.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, w = jnp.eye(2), jnp.array([[0.5, 0.0], [0.0, 2.0]])
        >>> sx.losses.hinge(x, w, jnp.array([0, 1]))  # 0.5 + 1 and 0 + 1
        Array(1.25, dtype=float32)

    References:
        Crammer, Singer, `On the Algorithmic Implementation of Multiclass Kernel-based
        Vector Machines <https://www.jmlr.org/papers/v2/crammer01a.html>`_, JMLR 2001,
        for the other hinge; Tang, `Deep Learning using Linear Support Vector Machines
        <https://arxiv.org/abs/1306.0239>`_, 2013, for this one with power 2.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    check_choice("power", power, (1, 2))
    check_normalize(normalize)
    check_scale(scale, normalize, embeddings.shape[:-1])
    labels, where = as_batch(embeddings, labels, where)
    if normalize != "both":
        scale = 1.0
    elif scale is None:
        scale = DEFAULT_SCALE
    return _hinge(
        embeddings,
        prototypes,
        labels,
        where,
        scale,
        power=power,
        normalize=normalize,
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("power", "normalize", "classes", "blocks", "precision")
def _hinge(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.typing.ArrayLike,
    *,
    power: int,
    normalize: Normalize,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x, prototypes = vary_alike(x, prototypes)
    logit_scale = jnp.asarray(scale, dtype=weights.dtype)
    target = logit_scale * target_products(x, prototypes, labels, normalize, classes)
    others = sum_over_others(
        partial(_hinge_of_other, power),
        jnp.broadcast_to(logit_scale, target.shape)[..., None],
        x,
        prototypes,
        labels,
        classes=classes,
        normalize=normalize,
        blocks=blocks,
        precision=precision,
    )
    return weighted_mean(jax.nn.relu(1.0 - target) ** power + others, weights)


def _hinge_of_other(
    power: int, logit_scale: jax.Array, products: jax.Array
) -> jax.Array:
    return jax.nn.relu(1.0 + logit_scale * products) ** power
