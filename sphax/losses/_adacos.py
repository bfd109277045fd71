"""AdaCos: scales of the sphere-normalized softmax that follow from the data."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from sphax._checks import check_count
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import widen
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.losses._core.blocked import Blocks, as_blocks, reduce_classes
from sphax.losses._core.class_logits import (
    Rows,
    block_logits,
    check_scale,
    nearest_subcenter,
)
from sphax.sphere import angle, length


def adacos_fixed_scale(classes: int) -> float:
    r"""Scale for a number of classes: :math:`\sqrt 2 \ln(C - 1)` (AdaCos).

    With it, the probability of the target is most sensitive to the angle around
    :math:`\pi / 4`, where the other classes are orthogonal.

    Args:
        classes: :math:`C`, at least 3.

    Returns:
        The scale.

    Raises:
        TypeError: If ``classes`` is not an integer.
        ValueError: If ``classes`` is below 3, where there is no such scale.

    Example:
        >>> sx.losses.adacos_fixed_scale(10_572)
        13.104

    References:
        Zhang et al., `AdaCos <https://arxiv.org/abs/1905.00292>`_, CVPR 2019, Eq. 11.
    """
    check_count("classes", classes, 3)
    return math.sqrt(2.0) * math.log(classes - 1)


@explain_names(OF_LOSSES)
def adacos_dynamic_scale(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    scale: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Scale for a batch, from the scale before (AdaCos).

    .. math::
        s = \frac{\ln B}{\cos\min(\pi / 4, \theta_{\mathrm{med}})}, \qquad
        B = \frac{1}{N} \sum_i \sum_{j \ne y_i} e^{s_{\mathrm{old}} \cos\theta_{ij}},

    with the median :math:`\theta_{\mathrm{med}}` of the angles to the targets. It is
    state without gradient, updated before the loss of the same batch; under one ``jit``
    the two share their matrix product. Start from :func:`adacos_fixed_scale`.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, or ``[classes, k, features]``, as
            in :func:`margin_softmax`; at least three classes.
        labels: Integer, ``[...]``, in ``[0, classes)``. Any other makes the scale NaN,
            unless ``where`` masks it.
        scale: :math:`s_{\mathrm{old}}`, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; an example counts or
            does not.
        block_size: Number of classes handled at a time, as in :func:`margin_softmax`.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The scale, a scalar, float32 at least; ``scale`` itself if no example counts.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or there are fewer than three classes.

    Example:
        >>> x, labels, scale = jnp.eye(4), jnp.arange(4), 2.0
        >>> scale = sx.losses.adacos_dynamic_scale(x, x, labels, scale)
        >>> print(scale)  # ln 3: the others are orthogonal, the targets at angle 0
        1.0986
        >>> loss = sx.losses.margin_softmax(
        ...     x, x, labels, sx.margins.NoMargin(), scale=scale
        ... )

    References:
        Zhang et al., `AdaCos <https://arxiv.org/abs/1905.00292>`_, CVPR 2019, Eqs. 13
        to 15.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(2, 3))
    classes = as_class_axis(class_axis, num_classes, len(prototypes))
    if classes.number < 3:
        raise ValueError(
            "adacos_dynamic_scale: prototypes must be of at least 3 classes, got"
            f" {classes.number}."
        )
    labels, where = as_batch(embeddings, labels, where)
    check_scale(scale, "both", ())
    return _adacos_dynamic_scale(
        embeddings,
        prototypes,
        labels,
        scale,
        where,
        classes=classes,
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("classes", "blocks", "precision")
def _adacos_dynamic_scale(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    scale: jax.typing.ArrayLike,
    where: jax.Array | None,
    *,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    embeddings, prototypes = jax.lax.stop_gradient((embeddings, prototypes))
    if not labels.size:  # where a median does not exist
        return jnp.asarray(scale, jnp.result_type(embeddings, prototypes, jnp.float32))
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x, prototypes = vary_alike(x, prototypes)
    is_kept = weights != 0.0
    x_wide = widen(x)
    target = nearest_subcenter(x_wide, widen(classes.take(prototypes, labels)))
    theta = classes.from_owners(angle(x_wide, target), labels)
    old = jax.lax.stop_gradient(jnp.asarray(scale, theta.dtype))
    others = reduce_classes(
        partial(block_logits, classes=classes, normalize="both", precision=precision),
        Rows(x, length(x_wide), old, theta, margin=None),
        prototypes,
        labels,
        classes,
        blocks,
    )
    count = jnp.sum(is_kept.astype(old.dtype))
    log_mean = jax.nn.logsumexp(others.log_sum, where=is_kept) - jnp.log(count)
    median = jnp.nanmedian(jnp.where(is_kept, theta, jnp.nan))
    new = log_mean / jnp.cos(jnp.minimum(math.pi / 4, median))
    is_unknown = jnp.any(jnp.isnan(weights))
    return jnp.where(count > 0.0, jnp.where(is_unknown, jnp.nan, new), old)
