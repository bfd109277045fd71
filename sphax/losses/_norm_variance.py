"""Spherical embedding constraint: the lengths of embeddings become alike."""

import jax
import jax.numpy as jnp

from sphax._checks import as_vectors
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, weighted_mean, zero_masked
from sphax._numerics import widen
from sphax.losses._core.batch import as_scalar
from sphax.sphere import length


@explain_names(OF_LOSSES)
def norm_variance(
    embeddings: jax.typing.ArrayLike,
    *,
    center: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Variance of the lengths of embeddings (spherical embedding constraint).

    .. math:: L = \operatorname{mean}_i (\|x_i\| - \mu)^2, \qquad
        \mu = \operatorname{mean}_i \|x_i\|

    A loss of directions moves a long embedding less than a short one. This makes their
    lengths alike, whatever they are; :func:`ring` pulls them towards one that is
    learned. The authors add it to a pairwise loss with a weight of 0.5 to 1.

    Args:
        embeddings: Floating, ``[..., features]``.
        center: :math:`\mu`, such as a running mean of the lengths, not negative, a
            scalar; no gradient passes to it. By default the mean of this batch.
        where: Boolean mask or weights, ``[...]``. Examples of weight zero are zeroed
            before anything else: a NaN in them reaches nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average, and for one embedding and its own mean. A zero embedding has
        length 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``center`` is negative.

    Example:
        >>> x = jnp.array([[3.0, 4.0], [0.0, 1.0]])
        >>> sx.losses.norm_variance(x)  # lengths 5 and 1
        Array(4., dtype=float32)
        >>> sx.losses.norm_variance(x, center=2.0)
        Array(5., dtype=float32)

    References:
        Zhang, Li, Zhang, `Deep Metric Learning with Spherical Embedding
        <https://arxiv.org/abs/2011.02785>`_, NeurIPS 2020, Eq. 10.
    """
    (embeddings,) = as_vectors(embeddings=embeddings)
    shape = embeddings.shape[:-1]
    where = as_weights(where, shape, "embeddings without their last axis")
    if center is not None:
        dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
        center = as_scalar("center", center, dtype, 0.0)
    return _norm_variance(embeddings, center, where)


@compiled()
def _norm_variance(
    embeddings: jax.Array, center: jax.Array | None, where: jax.Array | None
) -> jax.Array:
    lengths = length(widen(zero_masked(embeddings, where)))
    if center is None:
        mean = weighted_mean(lengths, where)
    else:
        mean = jax.lax.stop_gradient(center)
    return weighted_mean(jnp.square(lengths - mean), where)
