"""SoftTriple: softmax over classes that have several centers each."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import divide, dot, safe_sqrt, widen
from sphax.losses._core.batch import as_batch, as_operands, as_scalar, masked_batch
from sphax.losses._core.blocked import Blocks, Terms, as_blocks, reduce_classes
from sphax.losses._core.class_logits import class_masks
from sphax.sphere import direction, inner_products, length


@explain_names(
    OF_LOSSES,
    la="it is called scale",
    gamma="give inner_scale, its inverse: inner_scale=1 / gamma",
    tau="it is called regularization",
    centers_per_class="prototypes are [classes, centers, features]",
)
def soft_triple(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 20.0,
    inner_scale: jax.typing.ArrayLike = 10.0,
    margin: jax.typing.ArrayLike = 0.01,
    regularization: jax.typing.ArrayLike = 0.2,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean cross-entropy with several centers for each class (SoftTriple).

    The similarity to a class is a mean of the cosines to its :math:`K` centers, in
    which near centers weigh more:

    .. math::
        S_{ij} = \sum_t q_t \cos\theta_{ijt}, \qquad
        q = \operatorname{softmax}_t(\kappa \cos\theta_{ijt}).

    The loss of an example is the cross-entropy of the logits :math:`\lambda S_{ij}`,
    where the target's is :math:`\lambda (S_{iy} - \delta)`. A regularizer, the same for
    all examples, draws the centers of a class together, so that a class uses no more
    of them than it needs:

    .. math::
        R = \frac{\tau}{C K (K - 1)} \sum_j \sum_{t < u} \|\hat w_{jt} - \hat w_{ju}\|

    It is half of :math:`\tau` times the mean distance, as in the authors' code, which
    also adds 1e-5 inside the root: centers that coincide then have distance 3e-3 and a
    gradient of several hundred times their difference. Here both are 0.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Centers, floating, ``[classes, K, features]``; the authors take
            ``K = 10``. With one center, this is :func:`margin_softmax` with
            :class:`sphax.margins.CosFace`, and there is no regularizer.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        scale: :math:`\lambda`, positive, a scalar.
        inner_scale: :math:`\kappa`, positive, a scalar, the inverse of the paper's
            :math:`\gamma`. Towards 0 all centers weigh the same; towards infinity the
            nearest one counts alone, as in :func:`margin_softmax`.
        margin: :math:`\delta`, a cosine, not negative, a scalar.
        regularization: :math:`\tau`, not negative, a scalar.
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
        The loss, a scalar in float32 at least; 0, with zero gradient and without the
        regularizer, when nothing is left to average. A zero embedding or center has
        cosine 0 with zero gradient, and a zero center distance :math:`\sqrt 2` from the
        others of its class. Centers closer than four epsilons, 5e-7 in float32, have
        distance 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, labels = jnp.eye(2), jnp.array([0, 1])
        >>> centers = jnp.array([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.0, 2.0]]])
        >>> sx.losses.soft_triple(x, centers, labels, scale=2.0)
        Array(0.3707022, dtype=float32)

    References:
        Qian et al., `SoftTriple Loss <https://arxiv.org/abs/1909.05235>`_, ICCV 2019,
        Eqs. 8 to 11.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(3,))
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, prototypes, jnp.float32)
    return _soft_triple(
        embeddings,
        prototypes,
        labels,
        where,
        as_scalar("scale", scale, dtype, 0.0, is_open=True),
        as_scalar("inner_scale", inner_scale, dtype, 0.0, is_open=True),
        as_scalar("margin", margin, dtype, 0.0),
        as_scalar("regularization", regularization, dtype, 0.0),
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("classes", "blocks", "precision")
def _soft_triple(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    inner_scale: jax.Array,
    margin: jax.Array,
    regularization: jax.Array,
    *,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x, prototypes = vary_alike(x, prototypes)
    # From the vectors themselves: in half precision, products are not exact enough.
    wide = widen(x)
    own = direction(widen(classes.take(prototypes, labels)))
    cosines = dot(direction(wide)[..., None, :], own)
    similarity = _similarity(inner_scale, cosines)
    target = scale * (classes.from_owners(similarity, labels) - margin)
    others = reduce_classes(
        partial(_terms_of_others, classes=classes, precision=precision),
        (x, length(wide), scale, inner_scale),
        prototypes,
        labels,
        classes,
        blocks,
    )
    k = prototypes.shape[1]
    pairs = classes.number * max(k * (k - 1), 1)
    regularizer = regularization * others.total / pairs
    losses = jax.nn.softplus(others.log_sum - target) + regularizer
    return weighted_mean(losses, weights)


def _terms_of_others(
    rows: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    centers: jax.Array,
    labels: jax.Array,
    start: jax.typing.ArrayLike,
    *,
    classes: Classes,
    precision: jax.lax.PrecisionLike,
) -> Terms:
    x, x_lengths, scale, inner_scale = rows
    flat = centers.reshape(-1, centers.shape[-1])
    lengths = x_lengths, length(widen(flat))
    cosines = inner_products(x, flat, *lengths, precision=precision)
    cosines = cosines.reshape(*labels.shape, *centers.shape[:2])
    logits = scale * _similarity(inner_scale, cosines)
    _, is_other = class_masks(labels, start, len(centers), classes)
    logits = jnp.where(is_other, logits, jnp.finfo(logits.dtype).min)
    # The same for all examples, so that it is a term of their mean: a batch without any
    # costs nothing, and the mean of parts of a batch is that of the whole.
    unit = direction(widen(centers))
    is_class = start + jnp.arange(len(centers)) < classes.number
    distances = jnp.sum(_sums_of_distances(unit), where=is_class)
    return Terms(logits, logits, jnp.broadcast_to(distances, labels.shape))


def _similarity(inner_scale: jax.Array, cosines: jax.Array) -> jax.Array:
    """Mean of cosines over the centers, on the last axis; near ones weigh more."""
    return jnp.sum(jax.nn.softmax(inner_scale * cosines, axis=-1) * cosines, axis=-1)


@jax.custom_jvp
def _sums_of_distances(unit: jax.Array) -> jax.Array:
    """For each class, the sum over all pairs of its centers, ``[classes]``."""
    return _distances_and_slopes(unit)[0]


@_sums_of_distances.defjvp
def _sums_of_distances_jvp(primals, tangents):
    # An array like the centers is kept, and none of the differences of all pairs.
    total, slopes = _distances_and_slopes(*primals)
    return total, jnp.sum(dot(slopes, *tangents), axis=-1)


def _distances_and_slopes(unit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of distances, ``[classes]``, and their gradients, like the centers.

    From differences, since centers may merge, where cosines have lost the digits.
    """
    exists = jnp.any(unit != 0.0, axis=-1)
    least = (4.0 * float(jnp.finfo(unit.dtype).eps)) ** 2

    def add(carry, center):
        total, slopes = carry
        own, own_exists = center
        gap = unit - own[:, None]
        square = dot(gap, gap)
        is_zero = ~(exists & own_exists[:, None]) | (square <= least)
        distance = safe_sqrt(jnp.where(is_zero, 0.0, square))
        total += 0.5 * jnp.sum(distance, axis=-1)
        return (total, slopes + divide(gap, distance[..., None])), None

    start = jnp.zeros_like(unit[:, 0, 0]), jnp.zeros_like(unit)
    centers = jnp.moveaxis(unit, 1, 0), jnp.moveaxis(exists, 1, 0)
    (total, slopes), _ = jax.lax.scan(add, start, centers)
    # A center without a direction is at a right angle to the others.
    number, k = jnp.sum(exists, axis=-1, dtype=unit.dtype), unit.shape[1]
    missing = 0.5 * (k * (k - 1) - number * (number - 1.0))
    return total + math.sqrt(2.0) * missing, slopes
