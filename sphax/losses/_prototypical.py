"""Prototypical networks: the prototypes of classes are means of a few examples."""

import jax
import jax.numpy as jnp

from sphax._checks import as_labels, check_count, check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, weighted_mean
from sphax._numerics import divide, dot, widen
from sphax.losses._core.batch import (
    as_batch,
    as_operands,
    as_rows,
    as_scalar,
    masked_batch,
)
from sphax.losses._core.class_sums import class_sums
from sphax.sphere import direction

_SCALES = {False: 1.0, True: 10.0}


@explain_names(OF_LOSSES)
def prototypical_logits(
    embeddings: jax.typing.ArrayLike,
    support: jax.typing.ArrayLike,
    support_labels: jax.typing.ArrayLike,
    *,
    num_classes: int,
    on_sphere: bool = False,
    scale: jax.typing.ArrayLike | None = None,
    support_where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Logits by the distance to the mean of each class's support (prototypical).

    With the support :math:`S_n` of class :math:`n`, a few embeddings with known labels,

    .. math::
        z_n = -s \|x - c_n\|^2, \quad c_n = \operatorname{mean}_{S_n} x_i
        \qquad\text{or}\qquad
        z_n = s\, \hat x \cdot \hat c_n, \quad c_n = \sum_{S_n} \hat x_i.

    The second form, ``on_sphere``, has the class means of the sphere, normalized
    resultants, and is the classifier of von Mises-Fisher distributions of one
    concentration :math:`s`. A concentration for each class, estimated from the length
    of its resultant, would need more than one example: that of one is infinite.

    Args:
        embeddings: Queries :math:`x`, floating, ``[..., features]``.
        support: Floating, ``[m, features]``.
        support_labels: Class of each, integer, ``[m]``, each in ``[0, num_classes)``.
            Any other makes the logits NaN.
        num_classes: Number of classes of the episode.
        on_sphere: Whether directions count alone.
        scale: :math:`s`, positive, a scalar, possibly learned; by default 1, on the
            sphere 10.
        support_where: Boolean mask or weights of the support, ``[m]``. Examples of
            weight zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        Logits, ``[..., num_classes]``, float32 at least. A class without support has
        the most negative number, without gradient. On the sphere, a zero embedding, or
        a support that cancels out, has logit 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> support = jnp.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
        >>> x, labels = jnp.array([[1.0, 1.0]]), jnp.array([0, 0, 1])
        >>> sx.losses.prototypical_logits(x, support, labels, num_classes=2)
        Array([[-2., -2.]], dtype=float32)

    References:
        Snell, Swersky, Zemel, `Prototypical Networks for Few-shot Learning
        <https://arxiv.org/abs/1703.05175>`_, NeurIPS 2017.
    """
    x, support, labels, where = _as_episode(
        embeddings, support, support_labels, support_where, num_classes, on_sphere
    )
    scale = _as_scale(scale, on_sphere, x, support)
    return _logits(
        x, support, labels, where, scale, classes=num_classes, on_sphere=on_sphere
    )[0]


@explain_names(OF_LOSSES)
def prototypical(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    support: jax.typing.ArrayLike,
    support_labels: jax.typing.ArrayLike,
    *,
    num_classes: int,
    on_sphere: bool = False,
    scale: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
    support_where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean softmax cross-entropy of an episode's queries (prototypical networks).

    :math:`L = \operatorname{mean}_i (\log \sum_n e^{z_{in}} - z_{i y_i})` with
    :func:`prototypical_logits` :math:`z`. The gradient reaches the support as well.
    Episodes are drawn by :func:`sphax.data.episodes`; within one, labels count from 0.

    Args:
        embeddings: Queries, floating, ``[..., features]``.
        labels: Their classes, integer, ``[...]``, each in ``[0, num_classes)``. Any
            other, or a class without support, makes loss and gradients NaN.
        support: Floating, ``[m, features]``.
        support_labels: As in :func:`prototypical_logits`.
        num_classes: Number of classes of the episode.
        on_sphere: Whether directions count alone.
        scale: As in :func:`prototypical_logits`.
        where: Boolean mask or weights of the queries, of the shape of ``labels``.
            Queries of weight zero are zeroed before anything else: a NaN in them
            reaches nothing.
        support_where: The same of the support, ``[m]``.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> support = jnp.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
        >>> x, labels = jnp.array([[1.0, 1.0]]), jnp.array([1])
        >>> sx.losses.prototypical(
        ...     x, labels, support, jnp.array([0, 0, 1]), num_classes=2
        ... )
        Array(0.6931, dtype=float32)

    References:
        Snell, Swersky, Zemel, `Prototypical Networks for Few-shot Learning
        <https://arxiv.org/abs/1703.05175>`_, NeurIPS 2017.
    """
    x, support, of_support, support_where = _as_episode(
        embeddings, support, support_labels, support_where, num_classes, on_sphere
    )
    labels, where = as_batch(x, labels, where)
    scale = _as_scale(scale, on_sphere, x, support)
    return _prototypical(
        *(x, labels, where, support, of_support, support_where, scale),
        classes=num_classes,
        on_sphere=on_sphere,
    )


def _as_episode(embeddings, support, labels, where, num_classes, on_sphere):
    """The checked arguments that both functions have."""
    check_count("num_classes", num_classes)
    check_flag("on_sphere", on_sphere)
    support = as_rows(support, name="support")
    embeddings, support = as_operands(embeddings, support, name="support")
    labels = as_labels(labels, support.shape[:-1], "support", name="support_labels")
    where = as_weights(where, labels.shape, "support_labels")
    return embeddings, support, labels, where


def _as_scale(scale, on_sphere, x, support):
    scale = _SCALES[on_sphere] if scale is None else scale
    dtype = jnp.result_type(x, support, jnp.float32)
    return as_scalar("scale", scale, dtype, 0.0, is_open=True)


@compiled("classes", "on_sphere")
def _prototypical(
    x,
    labels,
    where,
    support,
    support_labels,
    support_where,
    scale,
    *,
    classes,
    on_sphere,
):
    x, labels, weights = masked_batch(x, support, labels, where, classes)
    logits, counts = _logits(
        *(x, support, support_labels, support_where, scale),
        classes=classes,
        on_sphere=on_sphere,
    )
    is_known = (counts[labels] != 0.0) | (weights == 0.0)
    target = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    costs = jax.nn.logsumexp(logits, axis=-1) - target
    return weighted_mean(costs, jnp.where(is_known, weights, jnp.nan))


@compiled("classes", "on_sphere")
def _logits(x, support, labels, where, scale, *, classes, on_sphere):
    """Logits, and the weight of the support of each class, ``[classes]``."""
    support, labels, weights = masked_batch(support, x, labels, where, classes)
    x, support = widen(x.astype(support.dtype)), widen(support)
    if on_sphere:
        x, support = direction(x), direction(support)
    sums, counts = class_sums(support, labels, weights, classes)
    x, outer = x[..., None, :], range(x.ndim - 1)
    if on_sphere:
        logits = dot(x, jnp.expand_dims(direction(sums), outer))
    else:
        gaps = x - jnp.expand_dims(divide(sums, counts[:, None]), outer)
        logits = -dot(gaps, gaps)
    has_support = jnp.expand_dims(counts != 0.0, outer)
    lowest = jnp.finfo(logits.dtype).min
    return jnp.where(has_support, scale * logits, lowest), counts
