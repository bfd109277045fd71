"""UniformFace: class centers repel each other.

It takes the vectors as they are, not their directions.
"""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, pair_weights, weighted_mean, zero_masked
from sphax._numerics import dot, inverse_power, safe_sqrt, widen
from sphax.losses._core.batch import as_scalar
from sphax.sphere import inner_products, length


@explain_names(OF_LOSSES)
def uniform_face(
    centers: jax.typing.ArrayLike,
    *,
    weight: jax.typing.ArrayLike = 1.0,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Repulsion of class centers from each other (UniformFace).

    .. math::
        L = \frac{\lambda}{C (C - 1)} \sum_{a \ne b} \frac{1}{\|v_a - v_b\| + 1}

    With running centers, pass the centers that :func:`update_centers` returns for the
    batch, through which the gradient reaches the embeddings, and keep them for the next
    step, as in the example. Otherwise pass the prototypes.

    Args:
        centers: Floating, ``[classes, features]``, one row per class.
        weight: :math:`\lambda`, a scalar.
        where: Boolean mask or weights of the centers, ``[classes]``, such as the
            classes that the batch has. A pair has the product of its weights; centers
            of weight zero are zeroed before anything else: a NaN in them reaches
            nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when no pair is
        left. Coincident centers count 1 and have zero gradient, as have centers whose
        distance is below rounding: in float32, 1e-3 of that from the mean of all.

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
    """Distances between all rows, ``[n, n]``; 0 without gradient if below rounding."""
    # A power of two, so that no square leaves the range.
    scale = inverse_power(jnp.max(length(jax.lax.stop_gradient(points)), initial=0.0))
    points = points * scale
    # A shift changes no distance, and makes what cancels in it smaller.
    points = points - jax.lax.stop_gradient(jnp.mean(points, axis=0, keepdims=True))
    # Accelerators round the operands otherwise, far above the threshold below.
    product = inner_products(points, points, precision=jax.lax.Precision.HIGHEST)
    squares = dot(points, points)
    sums = squares[:, None] + squares[None, :]
    square = sums - 2.0 * product
    is_noise = square <= 8.0 * jnp.finfo(points.dtype).eps * sums
    return safe_sqrt(jnp.where(is_noise, 0.0, square)) / scale
