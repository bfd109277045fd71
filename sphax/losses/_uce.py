"""UniFace: one threshold separates the targets of all classes from all others."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_count, check_range
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses._core.batch import as_batch, as_operands, as_scalar, masked_batch
from sphax.losses._core.blocked import Blocks, as_blocks
from sphax.losses._core.class_logits import sum_over_others, target_products


@explain_names(OF_LOSSES)
def uce(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    bias: jax.typing.ArrayLike,
    scale: jax.typing.ArrayLike = 64.0,
    margin: jax.typing.ArrayLike = 0.4,
    negative_weight: jax.typing.ArrayLike = 1.0,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean over examples of unified cross-entropy, one threshold for all (UniFace).

    .. math::
        L = \log\big(1 + e^{b - \gamma (\cos\theta_y - m)}\big) +
            \lambda \sum_{j \ne y} \log\big(1 + e^{\gamma \cos\theta_j - b}\big)

    All cosines, of all examples, are compared with one threshold, :math:`b / \gamma`,
    where softmax compares those of one example with each other. It is the threshold
    at which two images are verified once the network is trained.

    The authors' code clips each exponent to :math:`[-\gamma, \gamma]`, beyond which it
    has no gradient. This does not.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        bias: :math:`b`, learned, a scalar; start it at :func:`uce_bias`.
        scale: :math:`\gamma`, positive, a scalar.
        margin: :math:`m`, a cosine, not negative, a scalar.
        negative_weight: :math:`\lambda`, not negative, a scalar.
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
        left to average. A zero embedding or prototype has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, w, labels = jnp.eye(2, 3), jnp.eye(4, 3), jnp.array([0, 1])
        >>> bias = sx.losses.uce_bias(classes=4)
        >>> sx.losses.uce(x, w, labels, bias=bias, scale=8.0)
        Array(0.358647, dtype=float32)

    References:
        Zhou et al., `UniFace: Unified Cross-Entropy Loss for Deep Face Recognition
        <https://openaccess.thecvf.com/content/ICCV2023/html/Zhou_UniFace_Unified_Cross-Entropy_Loss_for_Deep_Face_Recognition_ICCV_2023_paper.html>`_,
        ICCV 2023.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, prototypes, jnp.float32)
    return _uce(
        embeddings,
        prototypes,
        labels,
        where,
        as_scalar("bias", as_floating("bias", bias), dtype),
        as_scalar("scale", scale, dtype, 0.0, is_open=True),
        as_scalar("margin", margin, dtype, 0.0),
        as_scalar("negative_weight", negative_weight, dtype, 0.0),
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("classes", "blocks", "precision")
def _uce(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    bias: jax.Array,
    scale: jax.Array,
    margin: jax.Array,
    negative_weight: jax.Array,
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
    negatives = sum_over_others(
        _negative_loss,
        (bias, scale),
        x,
        prototypes,
        labels,
        classes=classes,
        blocks=blocks,
        precision=precision,
    )
    positive = jax.nn.softplus(bias - scale * (target - margin))
    return weighted_mean(positive + negative_weight * negatives, weights)


def _negative_loss(
    parameters: tuple[jax.Array, jax.Array], cosines: jax.Array
) -> jax.Array:
    """The loss of the classes that are not the target, elementwise."""
    bias, scale = parameters
    return jax.nn.softplus(scale * cosines - bias)


def uce_bias(classes: int, *, share: float = 1.0) -> float:
    r"""Initial bias of :func:`uce`, :math:`b = \log(10\, C r)`.

    Where all cosines are 0, as they are approximately at the start, all negatives
    together then cost about 0.1, however many classes there are.

    Args:
        classes: :math:`C`, number of classes.
        share: :math:`r`, share of the classes that a step has, in ``(0, 1]``; less than
            1 if classes are sampled.

    Returns:
        The bias, a Python float.

    Raises:
        TypeError: If ``classes`` is not an integer.
        ValueError: If ``classes`` is below 1 or ``share`` out of range.

    Example:
        >>> sx.losses.uce_bias(93431)
        13.747564

    References:
        Zhou et al., `UniFace: Unified Cross-Entropy Loss for Deep Face Recognition
        <https://openaccess.thecvf.com/content/ICCV2023/html/Zhou_UniFace_Unified_Cross-Entropy_Loss_for_Deep_Face_Recognition_ICCV_2023_paper.html>`_,
        ICCV 2023, whose code starts there.
    """
    check_count("classes", classes)
    check_range("share", share, 0.0, 1.0, exclude_low=True, include_high=True)
    return math.log(10.0 * classes * share)
