"""Ring loss: the lengths of embeddings are pulled towards one radius."""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, as_vectors
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, weighted_mean, zero_masked
from sphax._numerics import widen
from sphax.losses._core.batch import as_scalar
from sphax.sphere import length


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
    normalization, with a learned radius.

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
