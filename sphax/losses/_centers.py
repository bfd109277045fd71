"""Regularisers of features and of running class centres, beside a classification loss.

They look at the vectors as they are, not at their directions.
"""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, as_vectors
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, pair_weights, weighted_mean, zero_masked
from sphax._numerics import dot, inverse_power, widen
from sphax.losses import _checks
from sphax.losses._examples import as_examples
from sphax.losses._numbers import as_scalar
from sphax.sphere import inner_products, length


@explain_names(OF_LOSSES)
def center(
    embeddings: jax.typing.ArrayLike,
    centers: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    weight: jax.typing.ArrayLike = 0.003,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared distance of embeddings from their class centre (center loss).

    :math:`L = \frac\lambda2\, \operatorname{mean}_i \|x_i - v_{y_i}\|^2`. The paper
    writes a sum over the batch, and so does it for the softmax beside it; where that is
    a mean, so is this. In the paper the centres follow the embeddings by
    :func:`update_centers`, not by this gradient, which exists all the same.

    Args:
        embeddings: Floating, ``[..., features]``.
        centers: Floating, ``[classes, features]``, a row for each class.
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
    embeddings, centers = _checks.as_operands(embeddings, centers, name="centers")
    labels, where = _checks.as_batch(embeddings, labels, where)
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
    examples = as_examples(embeddings, centers, labels, where)
    gaps = _gaps(examples, centers)
    return 0.5 * weighted_mean(dot(gaps, gaps), examples.weights)


@explain_names(OF_LOSSES)
def update_centers(
    centers: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    rate: jax.typing.ArrayLike = 0.5,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Class centres moved towards the embeddings of a batch (center loss).

    With :math:`n_j` examples of class :math:`j` in the batch,

    .. math::
        v_j \leftarrow v_j + \alpha\, \frac{\sum_{i: y_i = j} (x_i - v_j)}{1 + n_j}.

    A class that the batch lacks stays where it is. The new centres are differentiable
    by the embeddings.

    Args:
        centers: Floating, ``[classes, features]``, a row for each class.
        embeddings: Floating, ``[..., features]``.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes all
            centres NaN.
        rate: :math:`\alpha`, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; a weight counts its
            example that many times. Examples of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.

    Returns:
        New centres, shape and dtype of ``centers``, computed in float32 at least.

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
    embeddings, centers = _checks.as_operands(embeddings, centers, name="centers")
    labels, where = _checks.as_batch(embeddings, labels, where)
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
    examples = as_examples(embeddings, centers, labels, where)
    gaps = _gaps(examples, centers)
    weights, labels = examples.weights.ravel(), examples.labels.ravel()
    moves = weights[:, None] * gaps.reshape(-1, gaps.shape[-1])
    moves = jnp.zeros(centers.shape, gaps.dtype).at[labels].add(moves)
    counts = jnp.zeros(len(centers), gaps.dtype).at[labels].add(weights)
    # An unknown label has weight NaN, and no class of its own to show it in.
    moves = jnp.where(jnp.isnan(jnp.sum(weights)), jnp.nan, moves)
    return (centers + rate * moves / (1.0 + counts)[:, None]).astype(centers.dtype)


def _gaps(examples, centers):
    """From every example's centre to it, float32 at least."""
    vectors = widen(examples.embeddings)
    return vectors - centers[examples.labels].astype(vectors.dtype)


@explain_names(OF_LOSSES)
def ring(
    embeddings: jax.typing.ArrayLike,
    radius: jax.typing.ArrayLike,
    *,
    weight: jax.typing.ArrayLike = 0.01,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared distance of embeddings from a sphere (ring loss).

    :math:`L = \frac\lambda2\, \operatorname{mean}_i (\|x_i\| - R)^2`: soft feature
    normalisation, to a radius that is learned along.

    Args:
        embeddings: Floating, ``[..., features]``.
        radius: :math:`R`, learned, floating, a scalar. The authors start it at the mean
            length of the first batch.
        weight: :math:`\lambda`, a scalar.
        where: Boolean mask or weights, ``[...]``. Examples of weight zero are zeroed
            before anything else: a NaN in them reaches nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding has length 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> sx.losses.ring(jnp.array([[3.0, 4.0], [0.0, 1.0]]), 3.0, weight=1.0)
        Array(2., dtype=float32)

    References:
        Zheng et al., `Ring loss <https://arxiv.org/abs/1803.00130>`_, CVPR 2018.
    """
    (embeddings,) = as_vectors(embeddings=embeddings)
    shape = embeddings.shape[:-1]
    where = as_weights(where, shape, "embeddings without their last axis")
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
    radius = as_scalar("radius", as_floating("radius", radius), dtype)
    return as_scalar("weight", weight, dtype) * _ring(embeddings, radius, where)


@compiled()
def _ring(embeddings: jax.Array, radius: jax.Array, where: jax.Array | None):
    lengths = length(widen(zero_masked(embeddings, where)))
    return 0.5 * weighted_mean(jnp.square(lengths - radius), where)


@explain_names(OF_LOSSES)
def uniform_face(
    centers: jax.typing.ArrayLike,
    *,
    weight: jax.typing.ArrayLike = 1.0,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Repulsion of class centres from each other (UniformFace).

    .. math::
        L = \frac{\lambda}{C (C - 1)} \sum_{a \ne b} \frac{1}{\|v_a - v_b\| + 1}

    With running centres, take the loss of the centres that :func:`update_centers` makes
    of the batch, whose gradient reaches the embeddings, and keep these centres for the
    next step, as in the example. With prototypes, take it of them.

    Args:
        centers: Floating, ``[classes, features]``, a row for each class.
        weight: :math:`\lambda`, a scalar.
        where: Boolean mask or weights of the centres, ``[classes]``, such as the
            classes that the batch has. A pair has the product of its weights; centres
            of weight zero are zeroed before anything else: a NaN in them reaches
            nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when no pair is
        left. Coincident centres count 1 and have zero gradient; so have centres as
        close as rounding: in float32, 1e-3 of their distance from the mean of all.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> def loss(x, centers, labels):
        ...     centers = sx.losses.update_centers(centers, x, labels)
        ...     return sx.losses.uniform_face(centers), centers
        >>> step = jax.value_and_grad(loss, has_aux=True)
        >>> (value, centers), grad = step(4 * jnp.eye(2), jnp.eye(2), jnp.array([0, 1]))
        >>> print(value, grad[0])  # 1 / (sqrt(2) 1.75 + 1)
        0.28778 [-0.01464 0.01464]

    References:
        Duan, Lu, Zhou, `UniformFace
        <https://openaccess.thecvf.com/content_CVPR_2019/html/Duan_UniformFace_Learning_Deep_Equidistributed_Representation_for_Face_Recognition_CVPR_2019_paper.html>`_,
        CVPR 2019.
    """
    centers = as_floating("centers", centers)
    if centers.ndim != 2:
        raise ValueError(f"centers must be [classes, features], got {centers.shape}.")
    where = as_weights(where, centers.shape[:1], "centers without their last axis")
    dtype = jnp.promote_types(centers.dtype, jnp.float32)
    return as_scalar("weight", weight, dtype) * _uniform_face(centers, where)


@compiled()
def _uniform_face(centers: jax.Array, where: jax.Array | None) -> jax.Array:
    points = widen(zero_masked(centers, where))
    weights = pair_weights(where, len(points), points.dtype)
    return weighted_mean(1.0 / (_distances(points) + 1.0), weights)


def _distances(points: jax.Array) -> jax.Array:
    """Between all rows, ``[n, n]``; 0 with zero gradient where rounding decides."""
    # A power of two, so that no square leaves the range.
    scale = inverse_power(jnp.max(length(jax.lax.stop_gradient(points)), initial=0.0))
    points = points * scale
    # Distances do not change, and what cancels in them is smaller.
    points = points - jax.lax.stop_gradient(jnp.mean(points, axis=0, keepdims=True))
    # Accelerators round the operands otherwise, far above the threshold below.
    product = inner_products(points, points, precision=jax.lax.Precision.HIGHEST)
    squares = dot(points, points)
    sums = squares[:, None] + squares[None, :]
    square = sums - 2.0 * product
    is_noise = square <= 8.0 * jnp.finfo(points.dtype).eps * sums
    return jnp.where(is_noise, 0.0, jnp.sqrt(jnp.where(is_noise, 1.0, square))) / scale
