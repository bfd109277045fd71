"""Proxy-NCA: every example against one learned proxy per class."""

from functools import partial

import jax
import jax.numpy as jnp

from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import widen
from sphax.losses._core.batch import as_batch, as_operands, as_scalar, masked_batch
from sphax.losses._core.blocked import reduce_classes
from sphax.losses._core.class_logits import (
    Rows,
    block_logits,
    target_products,
)
from sphax.sphere import length


@explain_names(OF_LOSSES)
def proxy_nca(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 1.0,
    include_target: bool = False,
    where: jax.typing.ArrayLike | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean log-ratio of the target's proxy to the other proxies (Proxy-NCA).

    With :math:`d_j = s\,\|\hat x - \hat p_j\|^2 = 2s\,(1 - \cos\theta_j)`,

    .. math:: L = -\log \frac{e^{-d_y}}{\sum_{j \ne y} e^{-d_j}}.

    The sum leaves the target out, as in the paper: the loss may be negative, and its
    pull towards the target does not fade once the target is near. With
    ``include_target`` the sum is over all proxies, as in pytorch-metric-learning: this
    is :func:`margin_softmax` without a margin at twice the scale.

    Args:
        embeddings: Floating, ``[..., features]``.
        proxies: Floating, ``[classes, features]``, two classes or more.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        scale: :math:`s`, positive, a scalar.
        include_target: Whether the target counts in the denominator.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or proxy has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``scale`` is out of range.

    Example:
        >>> x, proxies, labels = jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 1])
        >>> sx.losses.proxy_nca(x, proxies, labels)  # log(2 e^-2)
        Array(-1.3068528, dtype=float32)

    References:
        Movshovitz-Attias et al., `No Fuss Distance Metric Learning using Proxies
        <https://arxiv.org/abs/1703.07464>`_, ICCV 2017.
    """
    embeddings, proxies = as_operands(embeddings, proxies, name="proxies")
    labels, where = as_batch(embeddings, labels, where)
    classes = as_class_axis(class_axis, num_classes, len(proxies), "proxies")
    if classes.number < 2:
        raise ValueError(
            "proxies must be of two or more classes, got"
            f" {classes.number}, proxies {proxies.shape}."
        )
    dtype = jnp.result_type(embeddings, proxies, jnp.float32)
    scale = as_scalar("scale", scale, dtype, 0.0, is_open=True)
    return _proxy_nca(
        embeddings,
        proxies,
        labels,
        where,
        scale,
        include_target=include_target,
        classes=classes,
        precision=precision,
    )


@compiled("include_target", "classes", "precision")
def _proxy_nca(
    embeddings: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    *,
    include_target: bool,
    classes: Classes,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, proxies, labels, where, classes.number
    )
    x, proxies = vary_alike(x, proxies)
    target = target_products(x, proxies, labels, "both", classes)
    # -d = 2 s (cos - 1), and the 1 cancels.
    twice = 2.0 * scale
    terms = partial(
        block_logits, classes=classes, normalize="both", precision=precision
    )
    others = reduce_classes(
        terms,
        Rows(x, length(widen(x)), twice, target, margin=None),
        proxies,
        labels,
        classes,
        blocks=None,
    )
    losses = others.log_sum - twice * target
    if include_target:
        losses = jax.nn.softplus(losses)
    return weighted_mean(losses, weights)
