"""The angular loss of triplets."""

import math
from typing import Unpack

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import widen
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.blocked import Blocks
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import map_rows
from sphax.sphere import inner_products, length


@explain_names(OF_LOSSES)
def angular(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    angle: jax.typing.ArrayLike = math.pi / 4,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Bounds the angle at the negative of a triangle of three rows (angular loss).

    The mean over all positive pairs of an anchor :math:`\hat x` and a row
    :math:`\hat x_p` of its class, with :math:`\hat x_n` the negatives of the anchor,
    all of them directions, of

    .. math::
        \log\Big(1 + \sum_n e^{4 \tan^2\!\alpha\, (\hat x + \hat x_p) \cdot \hat x_n
            - 2 (1 + \tan^2\!\alpha)\, \hat x \cdot \hat x_p}\Big).

    The paper has :math:`\alpha` from 36 to 55 degrees, and PyTorch Metric Learning 40,
    with negatives that it does not normalize. The sum over the negatives is a matrix
    product: the time is that of the pairs, times the number of references in place of
    the features, and the memory that of the pairs. From 70 degrees on (82 in float64),
    where this product would underflow, and for an angle that is an array, whose value
    is not known when the loss is traced, an exponential is taken of every triple.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        angle: :math:`\alpha`, in radians, between 0 and :math:`\pi / 2`.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`. References of other devices
            are gathered.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no anchor has both a
        positive and a negative. A zero row has product 0 with all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or the angle is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> labels = jnp.array([0, 0, 1])
        >>> sx.losses.angular(x, labels, angle=jnp.pi / 6)  # log(1 + exp(-1.6 / 3))
        Array(0.46162, dtype=float32)

        The paper adds it to the N-pair loss, with a weight of 2:

        >>> sx.losses.n_pair(x, labels) + 2.0 * sx.losses.angular(x, labels)
        Array(2.96201, dtype=float32)

    References:
        Wang et al., `Deep Metric Learning with Angular Loss
        <https://arxiv.org/abs/1708.01682>`_, ICCV 2017, Eqs. 7-9.
    """
    is_known = isinstance(angle, (int, float))
    if is_known and angle >= 2:
        raise ValueError(
            f"angle must be in radians, below pi / 2, got {angle}; {angle} degrees are"
            f" {math.radians(angle):.4g} radians."
        )
    batch, plan = as_pairwise(embeddings, labels, options)
    tangent = math.tan(angle) if is_known else math.inf
    angle = as_scalar("angle", angle, batch.dtype, 0.0, math.pi / 2, is_open=True)
    # The largest product of powers may be exp(-8 tan^2). The gradient divides by it
    # and adds up over the references.
    is_product = 8.0 * tangent**2 < 0.7 * math.log(jnp.finfo(batch.dtype).max)
    return _angular(batch, angle, is_product=is_product, plan=plan)


@compiled("is_product", "plan")
def _angular(
    batch: Batch, angle: jax.Array, *, is_product: bool, plan: Plan
) -> jax.Array:
    def log_sums(these, others):
        """Over the negatives of an anchor and these references, [these, anchors]."""
        exponents, references, factor = others
        lengths = length(widen(these)), length(widen(references))
        near = inner_products(these, references, *lengths, precision=plan.precision)
        if not is_product:
            near = factor * near[:, None, :]
            return jax.nn.logsumexp(near + exponents[None, :, :], axis=2)
        lowest = float(jnp.finfo(exponents.dtype).min)
        top = jnp.max(jax.lax.stop_gradient(exponents), axis=1, initial=lowest)
        powers = jnp.exp(exponents - top[:, None])
        sums = jnp.matmul(
            jnp.exp(factor * (near - 1.0)), powers.T, precision=plan.precision
        )
        return jnp.log(sums) + top[None, :] + factor

    def of_anchors(tile, shared, _):
        square, references = shared
        factor = 4.0 * square
        exponents = tile.negatives(factor * tile.products)
        # At a time as many references as there are anchors, or all triples of one.
        m = len(references)
        number = -(-m // max(1, len(exponents))) if is_product else m
        blocks = Blocks(-(-m // number), 1) if number > 1 else None
        others = exponents, references, factor
        sums = map_rows(log_sums, blocks, references, others).T
        losses = jax.nn.softplus(sums - 2.0 * (1.0 + square) * tile.products)
        is_triple = jnp.any(tile.is_negative, axis=1, keepdims=True) & tile.is_positive
        positives = tile.count(tile.is_positive)
        losses = jnp.where(is_triple, losses, 0.0)
        return jnp.sum(losses, axis=1), jnp.sum(positives, axis=1)

    pairs = compare(batch, plan)
    groups = [group.vectors for group in pairs.groups]
    if plan.axes:
        groups = [jax.lax.all_gather(x, plan.axes, tiled=True) for x in groups]
    shared = jnp.tan(angle) ** 2, jnp.concatenate(groups)
    return pairs.mean(*pairs.map_anchors(of_anchors, shared))
