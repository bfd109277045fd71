"""The tuplet margin loss."""

import math
from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import safe_sqrt
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
    mean_cross_entropy,
)


@explain_names(OF_LOSSES)
def tuplet_margin(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    scale: jax.typing.ArrayLike = 64.0,
    margin: jax.typing.ArrayLike = 0.1,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Sets each positive against all negatives, less an angle (tuplet margin loss).

    A positive pair at the angle :math:`\theta_p`, whose anchor has its negatives at the
    angles :math:`\theta_n`, costs

    .. math::
        \log\Big(1 + \sum_n e^{s (\cos\theta_n - \cos(\theta_p - \beta))}\Big),

    and the loss is the mean over all positive pairs. The margin, the *slack*, is
    subtracted from the angle: a positive that is nearer than :math:`\beta` is not
    pulled any nearer, but pushed out to :math:`\beta`, and classes do not collapse. The
    paper adds :func:`pair_variance`, with a weight, to keep the pairs of a kind alike.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        scale: :math:`s`, positive.
        margin: :math:`\beta`, an angle in radians, in ``[0, pi / 2)``; 0.1 is 5.7
            degrees.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no anchor has a
        positive, or none a negative. Directions that coincide, or nearly so (3e-4 in
        float32), or are opposite, have no gradient from the margin. A zero row has
        cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range, such as a margin
            in degrees.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> sx.losses.tuplet_margin(x, jnp.array([0, 0, 1, 1]), scale=8.0)
        Array(0.06171, dtype=float32)

    References:
        Yu, Tao, `Deep Metric Learning with Tuplet Margin Loss
        <https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html>`_,
        ICCV 2019, Eq. 7.
    """
    if isinstance(margin, (int, float)) and margin >= 2:
        raise ValueError(
            f"margin must be in radians, in [0, pi / 2), got {margin}; for degrees,"
            " give math.radians(margin)."
        )
    batch, plan = as_pairwise(embeddings, labels, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    margin = as_scalar("margin", margin, batch.dtype, 0.0, math.pi / 2)
    return _tuplet_margin(batch, scale, margin, plan=plan)


@compiled("plan")
def _tuplet_margin(
    batch: Batch, scale: jax.Array, margin: jax.Array, *, plan: Plan
) -> jax.Array:
    def logits(tile, shared):
        (scale, margin), cosines = shared, tile.products
        square = (1.0 - cosines) * (1.0 + cosines)
        # Below, the slope of the sine times that of the cosine is rounding noise.
        floor = max(float(jnp.finfo(cosines.dtype).eps), tile.resolution**2)
        at_end = jax.lax.stop_gradient(jnp.maximum(square, 0.0))
        sines = safe_sqrt(jnp.where(square < floor, at_end, square))
        nearer = cosines * jnp.cos(margin) + sines * jnp.sin(margin)
        return scale * jnp.where(tile.is_positive, nearer, cosines)

    return mean_cross_entropy(logits, compare(batch, plan), (scale, margin))
