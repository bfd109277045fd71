"""The circle loss on pairs."""

from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms


@explain_names(OF_LOSSES)
def circle(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    margin: jax.typing.ArrayLike = 0.4,
    scale: jax.typing.ArrayLike = 80.0,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Weighs every cosine by its distance from its optimum (circle loss on pairs).

    For an anchor with cosines :math:`s_p` to its positives and :math:`s_n` to its
    negatives,

    .. math::
        L = \log\Big(1 + \sum_p e^{-\gamma \alpha_p (s_p - (1 - m))}
            \sum_n e^{\gamma \alpha_n (s_n - m)}\Big), \quad
        \alpha_p = [1 + m - s_p]_+, \quad \alpha_n = [s_n + m]_+,

    averaged over the anchors that have a positive. The weights :math:`\alpha` have no
    gradient, as in the gradients that the paper gives; some libraries differentiate
    through them. Published pairs :math:`m, \gamma` are 0.4, 80 (retrieval), 0.25, 256
    (faces) and 0.25, 128 (persons). With prototypes in place of pairs it is the margin
    :class:`sphax.margins.Circle`.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        margin: :math:`m`, a cosine, above -1.
        scale: :math:`\gamma`, positive.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no anchor has a
        positive, or none a negative. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> sx.losses.circle(x, jnp.array([0, 0, 1]), scale=4.0)
        Array(0.57414, dtype=float32)

    References:
        Sun et al., `Circle Loss <https://arxiv.org/abs/2002.10857>`_, CVPR 2020,
        Section 3.
    """
    batch, plan = as_pairwise(embeddings, labels, options)
    margin = as_scalar("margin", margin, batch.dtype, -1.0, is_open=True)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    return _circle(batch, margin, scale, plan=plan)


@compiled("plan")
def _circle(
    batch: Batch, margin: jax.Array, scale: jax.Array, *, plan: Plan
) -> jax.Array:
    pairs = compare(batch, plan)

    def terms(tile, shared, *_):
        (margin, scale), cosines = shared, tile.products
        fixed = jax.lax.stop_gradient(cosines)
        pull = jnp.maximum(1.0 + margin - fixed, 0.0) * (cosines - (1.0 - margin))
        push = jnp.maximum(fixed + margin, 0.0) * (cosines - margin)
        exponents = tile.positives(-scale * pull), tile.negatives(scale * push)
        return Terms(tile.count(tile.is_positive), exponents)

    positives, exponents, _ = pairs.reduce(terms, (margin, scale))
    is_paired = positives > 0
    losses = jnp.where(is_paired, jax.nn.softplus(sum(exponents)), 0.0)
    return pairs.mean(losses, is_paired.astype(losses.dtype))
