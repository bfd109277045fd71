"""The sigmoid loss of two towers, SigLIP's."""

import jax
import jax.numpy as jnp

from sphax._checks import check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import Batch, Masks, PairOptions, Plan, Reduction
from sphax.losses._core.tiles import Terms
from sphax.losses._core.towers import as_towers, compare_towers, own_products


@explain_names(
    OF_LOSSES,
    logit_scale="give scale, the exponential of SigLIP's parameter",
    logit_bias="it is called bias",
)
def sigmoid_pairs(
    queries: jax.typing.ArrayLike,
    keys: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    bias: jax.typing.ArrayLike = -10.0,
    pairs: Masks | None = None,
    where: jax.typing.ArrayLike | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    batch_axis: str | tuple[str, ...] | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Says of each query and key whether they belong together (SigLIP's loss).

    A logistic regression of every pair by itself. The mean over the queries of

    .. math::
        \sum_{p \in P_i} \log(1 + e^{-(\gamma s_{ip} + b)})
        + \sum_{k \in N_i} \log(1 + e^{\gamma s_{ik} + b}),

    with the cosines :math:`s_{ij}` of queries and keys, the positive :math:`P_i`, which
    is key :math:`i` by default, and the negatives :math:`N_i`, all other keys.

    The loss is a sum over the keys: the more there are, the larger it is. A mean over
    all pairs, as in some ports, trains with a loss that is as many times smaller as
    there are keys.

    SigLIP learns :math:`\log \gamma`, from :math:`\log 10` on, and :math:`b`, from -10
    on: the negatives, many more than the positives, then cost little at the start.
    Orthogonal towers of :math:`n` pairs cost
    :math:`\log(1 + e^{10}) + (n - 1) \log(1 + e^{-10})`, 11.5 for 32,768 pairs, which
    is 22,713 with a bias of 0.

    Args:
        queries: Rows that count by their directions, floating, ``[n, features]``.
        keys: Likewise, ``[n, features]``; with ``pairs`` their number may differ,
            ``[m, features]``.
        scale: :math:`\gamma`, positive. A learned one is the exponential of its
            parameter.
        bias: :math:`b`, any number.
        pairs: Two boolean masks, ``[n, m]``, of the positive and of the negative pairs;
            by default keys are positives of the query of their number and negatives of
            all others. A query without a pair does not count. A pair in neither mask is
            ignored, one in both makes the loss NaN.
        where: Boolean mask or weights, ``[n]``. A row of weight zero is neither a query
            nor a key; a NaN in it reaches nothing. Weights count in the mean over the
            queries alone. Not for keys of another number.
        normalize: Whether rows count by their directions; else :math:`s_{ij}` are inner
            products.
        reduction: ``"mean"`` for the loss, ``[]``; ``"none"`` for the sum of each
            query, ``[n]``, without weights.
        block_size: Number of queries and of keys that are compared at a time, as in
            :func:`info_nce`.
        batch_axis: Name of a mesh axis or a tuple of names, inside of
            :func:`jax.shard_map`: queries are compared with the keys of all devices,
            which travel in a ring, as in :func:`info_nce`.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, or ``[n]``, float32 at least; 0 with zero gradient without a
        pair. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``scale``, as a number, is not positive.

    Example:
        >>> queries, keys = jnp.eye(3), jnp.eye(3)
        >>> sx.losses.sigmoid_pairs(queries, keys)  # log(2) + 2 log(1 + exp(-10))
        Array(0.69324, dtype=float32)

        Scale and bias are learned, the scale by its logarithm:

        >>> def loss(log_scale, bias):
        ...     scale = jnp.exp(log_scale)
        ...     return sx.losses.sigmoid_pairs(queries, keys, scale=scale, bias=bias)
        >>> by_log_scale, by_bias = jax.grad(loss, (0, 1))(jnp.log(10.0), -10.0)
        >>> print(f"{by_log_scale:.2f} {by_bias:.2f}")
        -5.00 -0.50

    References:
        Zhai et al., `SigLIP <https://arxiv.org/abs/2303.15343>`_, ICCV 2023, Eq. 3.
    """
    check_flag("normalize", normalize)
    options: PairOptions = {
        "pairs": pairs,
        "where": where,
        "reduction": reduction,
        "block_size": block_size,
        "batch_axis": batch_axis,
        "precision": precision,
    }
    batch, plan = as_towers(queries, keys, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    bias = as_scalar("bias", bias, batch.dtype)
    return _sigmoid_pairs(batch, scale, bias, normalize=bool(normalize), plan=plan)


@compiled("normalize", "plan")
def _sigmoid_pairs(
    batch: Batch, scale: jax.Array, bias: jax.Array, *, normalize: bool, plan: Plan
) -> jax.Array:
    pairs = compare_towers(batch, plan, normalize=normalize)

    def terms(tile, shared, *_):
        scale, bias = shared
        logits = scale * tile.products + bias
        costs = jnp.where(tile.is_negative, jax.nn.softplus(logits), 0.0)
        if batch.pairs is None:
            return Terms(costs)
        costs += jnp.where(tile.is_positive, jax.nn.softplus(-logits), 0.0)
        return Terms((costs, tile.count(tile.is_positive | tile.is_negative)))

    found = pairs.reduce(terms, (scale, bias)).sums
    if batch.pairs is None:
        totals = found + jax.nn.softplus(-(scale * own_products(pairs) + bias))
        return pairs.mean(totals, pairs.anchors.is_kept.astype(totals.dtype))
    totals, counts = found
    return pairs.mean(totals, (counts > 0).astype(totals.dtype))
