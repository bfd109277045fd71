"""Angular hardness, Fisher score and class angles: pure functions of JAX arrays."""

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
    r"""Angle to the target prototype over the sum of the angles to all (AVH).

    .. math::
        \mathrm{AVH}(x, y) = \frac{\theta(x, w_y)}{\sum_i \theta(x, w_i)}

    The sum includes the target class :math:`y`. Easy examples have a small value; equal
    angles give one over the number of classes. All angles are computed from the
    vectors, since a cosine does not resolve the small ones that matter here; this takes
    several times as long as the matrix product.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        prototypes: :math:`w`, floating, ``[classes, features]``.
        labels: :math:`y`, integer, ``[...]``, in ``[0, classes)``; any other label
            makes the example's value and gradient NaN.
        block_size: Number of prototypes handled at a time.

    Returns:
        Hardness in [0, 1], ``[...]``, float32 at least; 0 if all angles are 0. A zero
        vector is at a right angle to every vector.

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
    # Widened here, so that the gradients of all angles are added in float32 at least.
    x, w = widen(x), widen(w)
    targets = w[classes]

    # Recomputed in the backward pass: the intermediate arrays of all angles would take
    # memory of examples x classes x features.
    @jax.checkpoint
    def to_all(prototype):
        return angle(x, jnp.broadcast_to(prototype, x.shape))

    total = jnp.sum(jax.lax.map(to_all, w, batch_size=block_size), axis=0)
    # A factor, not a replacement: the gradient has to be NaN as well.
    return divide(angle(x, targets), total) * jnp.where(is_known, 1.0, jnp.nan)


def angular_fisher_score(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    num_classes: int,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Within-class over between-class scatter of angles (AFS); smaller is better.

    With :math:`m_c` the mean of the :math:`n_c` embeddings of class :math:`c`, and
    :math:`m` the mean of all embeddings,

    .. math::
        \mathrm{AFS} = \frac{\sum_c \sum_{x \in c} (1 - \cos(x, m_c))}
            {\sum_c n_c\, (1 - \cos(m_c, m))}.

    The means are of the embeddings as they are, as in the paper. Normalize the
    embeddings first to give all of them the same influence.

    Args:
        embeddings: :math:`x`, floating, ``[n, features]``.
        labels: Class of each, integer, ``[n]``, in ``[0, num_classes)``; any other
            label makes value and gradient NaN, unless ``where`` masks it.
        num_classes: Number of classes; some of them may be absent.
        where: Boolean mask or weights, ``[n]``. Examples of weight zero are zeroed
            before anything else.

    Returns:
        The score, a scalar in float32 at least; infinite, without gradient, where all
        class means have the same direction (as with a single class); 0 if there are no
        examples, or all are masked.

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
    x, labels, weights = _as_arrays(embeddings, labels, num_classes, where)
    return _fisher_score(x, labels, weights, num_classes=num_classes)


@compiled("num_classes")
def _fisher_score(
    x: jax.Array, labels: jax.Array, weights: jax.Array | None, *, num_classes: int
) -> jax.Array:
    x, labels, weights, validity = _prepare(x, labels, weights, num_classes)
    sums, counts = _class_sums(x, labels, weights, num_classes)
    means = divide(sums, counts[:, None])
    center = divide(jnp.sum(sums, axis=0), jnp.sum(counts))
    within = jnp.sum(weights * _one_minus_cosine(x, means[labels]))
    between = jnp.sum(counts * _one_minus_cosine(means, center[None]))
    score = divide(within, between)
    return validity * jnp.where((between == 0.0) & (within > 0.0), jnp.inf, score)


class ClassAngles(NamedTuple):
    """Angles within and between classes, in radians; see :func:`class_angles`.

    Attributes:
        count: Number of examples, or sum of weights, of each class, ``[classes]``.
        within: Mean angle of a class's examples to its mean direction, ``[classes]``.
        widest: Largest angle of a class's examples to it, ``[classes]``.
        between: Mean angle of a class's mean direction to the mean directions of the
            other classes, ``[classes]``.
        nearest: Smallest angle to another class's mean direction, ``[classes]``.

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
    """Angles within classes, and between the mean directions of classes.

    The mean direction of a class is the direction of the sum of its examples'
    directions.

    Args:
        embeddings: Floating, ``[n, features]``.
        labels: Class of each, integer, ``[n]``, in ``[0, num_classes)``; any other
            label makes everything NaN, unless ``where`` masks it.
        num_classes: Number of classes; some of them may be absent.
        where: Boolean mask or weights, ``[n]``. Examples of weight zero are zeroed
            before anything else.

    Returns:
        :class:`ClassAngles`, float32 at least. All angles of a class without examples
        are NaN, as are the angles between classes if there is only one;
        ``jnp.nanmean`` averages the rest.

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
    x, labels, weights = _as_arrays(embeddings, labels, num_classes, where)
    return _class_angles(x, labels, weights, num_classes=num_classes)


@compiled("num_classes")
def _class_angles(
    x: jax.Array, labels: jax.Array, weights: jax.Array | None, *, num_classes: int
) -> ClassAngles:
    x, labels, weights, validity = _prepare(x, labels, weights, num_classes)
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
        return validity * jnp.where(where, values, jnp.nan)

    return ClassAngles(
        validity * counts,
        known(divide(total, counts), exists),
        known(widest, exists),
        known(between, is_paired),
        known(nearest, is_paired),
    )


def _as_arrays(embeddings, labels, num_classes, where):
    """Embeddings, labels and weights (or None) as arrays; raises unless they fit."""
    check_count("num_classes", num_classes)
    x = as_floating("embeddings", embeddings)
    if x.ndim != 2:
        raise ValueError(f"embeddings must be [n, features], got shape {x.shape}.")
    check_dimensions("embeddings", x)
    labels = as_labels(labels, x.shape[:1], "embeddings")
    return x, labels, as_weights(where, labels.shape, "labels")


def _prepare(x, labels, where, num_classes):
    """Embeddings and labels, zero where masked, weights, and the factor of results.

    The factor is 1, or NaN if the label of an example that is not masked is unknown.
    """
    x = widen(x)
    weights = jnp.ones_like(x[:, 0]) if where is None else where.astype(x.dtype)
    x = zero_masked(x, weights)
    labels, is_known = as_classes(labels, num_classes)
    is_invalid = jnp.any(~is_known & (weights != 0))
    return x, labels, weights, jnp.where(is_invalid, jnp.nan, 1.0).astype(x.dtype)


def _class_sums(x, labels, weights, num_classes):
    sums = jax.ops.segment_sum(weights[:, None] * x, labels, num_classes)
    return sums, jax.ops.segment_sum(weights, labels, num_classes)


def _one_minus_cosine(x, y):
    """``1 - cos`` from the angle, since the difference loses its digits near 0."""
    return 2.0 * jnp.sin(0.5 * angle(x, y)) ** 2
