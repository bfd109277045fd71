"""Angles between embeddings, prototypes and class means: pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_classes,
    as_floating,
    as_labels,
    check_count,
    check_dimensions,
)
from sphax._compiled import compiled
from sphax._masking import as_weights, zero_masked
from sphax._numerics import divide, widen
from sphax.sphere import angle, direction


def angular_visual_hardness(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    block_size: int = 64,
) -> jax.Array:
    r"""Angle to the own prototype, as a share of those to all (AVH).

    .. math::
        \mathrm{AVH}(x, y) = \frac{\theta(x, w_y)}{\sum_i \theta(x, w_i)}

    The sum is over all classes, :math:`y` included: small is easy, and equal angles
    give one over the number of classes. All angles are formed from the vectors, since a
    cosine loses the small ones that matter here; that takes several times as long as
    the matrix product.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        prototypes: :math:`w`, floating, ``[classes, features]``.
        labels: :math:`y`, integer, ``[...]``, in ``[0, classes)``; any other makes the
            example's value NaN, and the gradient.
        block_size: Number of prototypes handled at a time.

    Returns:
        Hardness in [0, 1], ``[...]``, float32 at least; 0 if all angles are. A zero
        vector is at a right angle to everything.

    Raises:
        TypeError: If vectors are not floating or labels not integer.
        ValueError: If shapes do not fit, or labels in NumPy's 64 bits do not fit in
            JAX's 32.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> sx.metrics.angular_visual_hardness(x, jnp.eye(2), jnp.array([0, 0]))
        Array([0., 1.], dtype=float32)

    References:
        Chen et al., `Angular Visual Hardness <https://arxiv.org/abs/1912.02279>`_,
        ICML 2020, Definition 1.
    """
    check_count("block_size", block_size)
    x = as_floating("embeddings", embeddings)
    w = as_floating("prototypes", prototypes)
    if w.ndim != 2 or x.ndim < 1 or w.shape[0] < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            "prototypes must be [classes, features] and embeddings [..., features], got"
            f" prototypes {w.shape} and embeddings {x.shape}."
        )
    check_dimensions("embeddings", x)
    labels = as_labels(labels, x.shape[:-1], "embeddings")
    return _visual_hardness(x, w, labels, block_size=block_size)


@compiled("block_size")
def _visual_hardness(
    x: jax.Array, w: jax.Array, labels: jax.Array, *, block_size: int
) -> jax.Array:
    classes, is_known = as_classes(labels, len(w))
    # Here, so that the gradients of all angles are added in it.
    x, w = widen(x), widen(w)
    own = w[classes]

    # Formed again backward: to keep what the angles depend on would take memory of
    # examples x classes x features.
    @jax.checkpoint
    def to_all(prototype):
        return angle(x, jnp.broadcast_to(prototype, x.shape))

    total = jnp.sum(jax.lax.map(to_all, w, batch_size=block_size), axis=0)
    # Multiplied, not replaced: the gradient has to be NaN as well.
    return divide(angle(x, own), total) * jnp.where(is_known, 1.0, jnp.nan)


def angular_fisher_score(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    num_classes: int,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Within-class over between-class scatter of angles (AFS); smaller is better.

    With :math:`m_c` the mean embedding of class :math:`c`, of :math:`n_c` examples, and
    :math:`m` that of all,

    .. math::
        \mathrm{AFS} = \frac{\sum_c \sum_{x \in c} (1 - \cos(x, m_c))}
            {\sum_c n_c\, (1 - \cos(m_c, m))}.

    The means are those of the embeddings as they are, as in the paper; normalise first
    for all of them to count alike.

    Args:
        embeddings: :math:`x`, floating, ``[n, features]``.
        labels: Class of each, integer, ``[n]``, in ``[0, num_classes)``; any other
            makes value and gradient NaN, unless ``where`` masks it.
        num_classes: Number of classes; they need not all occur.
        where: Boolean mask or weights, ``[n]``. Examples of weight zero are zeroed
            before anything else.

    Returns:
        The score, a scalar in float32 at least; infinite, without gradient, where all
        the means point one way (as with a single class); 0 when nothing is left.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, labels in NumPy's 64 bits do not fit in JAX's
            32, or a weight is negative (NaN is returned where it is traced).

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> labels = jnp.array([0, 1, 1, 1])
        >>> sx.metrics.angular_fisher_score(x, labels, num_classes=2)
        Array(1.7096194, dtype=float32)

    References:
        Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017,
        Appendix E.
    """
    x, labels, weights = _checked(embeddings, labels, num_classes, where)
    return _fisher_score(x, labels, weights, num_classes=num_classes)


@compiled("num_classes")
def _fisher_score(
    x: jax.Array, labels: jax.Array, weights: jax.Array | None, *, num_classes: int
) -> jax.Array:
    x, labels, weights, spoilt = _examples(x, labels, weights, num_classes)
    sums, counts = _class_sums(x, labels, weights, num_classes)
    means = divide(sums, counts[:, None])
    center = divide(jnp.sum(sums, axis=0), jnp.sum(counts))
    within = jnp.sum(weights * _one_less_cosine(x, means[labels]))
    between = jnp.sum(counts * _one_less_cosine(means, center[None]))
    score = divide(within, between)
    return spoilt * jnp.where((between == 0.0) & (within > 0.0), jnp.inf, score)


class ClassAngles(NamedTuple):
    """Angles within and between classes, in radians; see :func:`class_angles`.

    Attributes:
        count: Number of examples, or sum of weights, of each class, ``[classes]``.
        within: Mean angle of a class's examples to its mean direction, ``[classes]``.
        widest: Largest of them, ``[classes]``.
        between: Mean angle of a mean direction to those of the others, ``[classes]``.
        nearest: Smallest of them, ``[classes]``.

    Example:
        >>> x, labels = jnp.eye(2), jnp.array([0, 2])
        >>> sx.metrics.class_angles(x, labels, num_classes=3).nearest
        Array([1.5707964, nan, 1.5707964], dtype=float32)
    """

    count: jax.Array
    within: jax.Array
    widest: jax.Array
    between: jax.Array
    nearest: jax.Array


def class_angles(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    num_classes: int,
    where: jax.typing.ArrayLike | None = None,
) -> ClassAngles:
    """Spread of each class about its mean direction, and separation of the means.

    The mean direction of a class is that of the sum of its examples' directions.

    Args:
        embeddings: Floating, ``[n, features]``.
        labels: As for :func:`angular_fisher_score`.
        num_classes: As there.
        where: As there.

    Returns:
        :class:`ClassAngles`, float32 at least. NaN for a class without examples, and
        between classes where there is no other; ``jnp.nanmean`` averages the rest.

    Raises:
        TypeError: If embeddings are not floating or labels not integer.
        ValueError: If shapes do not fit, labels in NumPy's 64 bits do not fit in JAX's
            32, or a weight is negative (NaN is returned where it is traced).

    Example:
        >>> x = jnp.array([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]])
        >>> angles = sx.metrics.class_angles(x, jnp.array([0, 0, 1]), num_classes=2)
        >>> print(angles.within, angles.nearest)
        [0.0996687 0. ] [1.5707964 1.5707964]
    """
    x, labels, weights = _checked(embeddings, labels, num_classes, where)
    return _class_angles(x, labels, weights, num_classes=num_classes)


@compiled("num_classes")
def _class_angles(
    x: jax.Array, labels: jax.Array, weights: jax.Array | None, *, num_classes: int
) -> ClassAngles:
    x, labels, weights, spoilt = _examples(x, labels, weights, num_classes)
    sums, counts = _class_sums(direction(x), labels, weights, num_classes)
    means, exists = direction(sums), counts > 0
    spread = angle(x, means[labels])
    total = jax.ops.segment_sum(weights * spread, labels, num_classes)
    masked = jnp.where(weights > 0, spread, 0.0)
    widest = jax.ops.segment_max(masked, labels, num_classes)

    @jax.checkpoint
    def to_others(c):
        angles = angle(means, means[c][None])
        is_other = exists & (jnp.arange(num_classes) != c)
        nearest = jnp.min(jnp.where(is_other, angles, jnp.inf))
        others = jnp.sum(jnp.where(is_other, angles, 0.0))
        return divide(others, jnp.sum(is_other, dtype=angles.dtype)), nearest

    between, nearest = jax.lax.map(to_others, jnp.arange(num_classes))
    is_paired = exists & (jnp.sum(exists) > 1)

    def known(values, where):
        return spoilt * jnp.where(where, values, jnp.nan)

    return ClassAngles(
        spoilt * counts,
        known(divide(total, counts), exists),
        known(widest, exists),
        known(between, is_paired),
        known(nearest, is_paired),
    )


def _checked(embeddings, labels, num_classes, where):
    """Embeddings, labels and weights, if there are any, as arrays."""
    check_count("num_classes", num_classes)
    x = as_floating("embeddings", embeddings)
    if x.ndim != 2:
        raise ValueError(f"embeddings must be [n, features], got shape {x.shape}.")
    check_dimensions("embeddings", x)
    labels = as_labels(labels, x.shape[:1], "embeddings")
    return x, labels, as_weights(where, labels.shape, "labels")


def _examples(x, labels, where, num_classes):
    """Embeddings and classes, masked ones zeroed; weights; 1, or NaN if spoilt."""
    x = widen(x)
    weights = jnp.ones_like(x[:, 0]) if where is None else where.astype(x.dtype)
    x = zero_masked(x, weights)
    labels, is_known = as_classes(labels, num_classes)
    is_spoilt = jnp.any(~is_known & (weights != 0))
    return x, labels, weights, jnp.where(is_spoilt, jnp.nan, 1.0).astype(x.dtype)


def _class_sums(x, labels, weights, num_classes):
    sums = jax.ops.segment_sum(weights[:, None] * x, labels, num_classes)
    return sums, jax.ops.segment_sum(weights, labels, num_classes)


def _one_less_cosine(x, y):
    """``1 - cos`` from the angle; the difference would lose its digits near 0."""
    return 2.0 * jnp.sin(0.5 * angle(x, y)) ** 2
