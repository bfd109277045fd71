"""InfoNCE of two towers: the loss of CLIP, and of MoCo with a queue."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    Masks,
    PairOptions,
    Pairs,
    Plan,
    Reduction,
    mean_log_loss,
    softmax_terms,
)
from sphax.losses._core.tiles import Terms
from sphax.losses._core.towers import as_towers, compare_towers, own_products
from sphax.losses._memory import MemoryBank


@explain_names(OF_LOSSES, logit_scale="give scale, the exponential of CLIP's parameter")
def info_nce(
    queries: jax.typing.ArrayLike,
    keys: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 1 / 0.07,
    max_scale: jax.typing.ArrayLike | None = 100.0,
    symmetric: bool = True,
    queue: jax.typing.ArrayLike | MemoryBank | None = None,
    batch_negatives: bool = True,
    pairs: Masks | None = None,
    where: jax.typing.ArrayLike | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    batch_axis: str | tuple[str, ...] | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Finds the key of each query among all keys (InfoNCE; CLIP's and MoCo's loss).

    The two towers of a model embed images and their texts, or two views of each image.
    Query :math:`i` and key :math:`i` belong together. With the cosines :math:`s_{ij}`
    of queries and keys, :math:`z_{ij} = \gamma s_{ij}` and :math:`\gamma` the smaller
    one of ``scale`` and ``max_scale``,

    .. math::
        R_i = -\log \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}, \qquad
        C_j = -\log \frac{e^{z_{jj}}}{\sum_i e^{z_{ij}}}.

    The symmetric loss, CLIP's, is half the mean of all :math:`R_i` and half the mean of
    all :math:`C_j`; the other one is the mean of :math:`R_i` alone, in which queries
    look for keys. Unrelated embeddings cost :math:`\log n`. The least possible value,
    of :math:`n` orthonormal pairs, is :math:`\log(1 + (n - 1) e^{-\gamma})`.

    CLIP learns :math:`\log \gamma`, from :math:`\log(1 / 0.07)` on, and keeps
    :math:`\gamma` at 100 or less. Here a larger scale counts as ``max_scale`` and has
    no gradient: a parameter that has gone beyond would never come back. Project it
    after each step, as in the second example, onto a value that stays below also when
    its exponential is rounded.

    MoCo (v1 and v2) compares each query with its key and with a queue of earlier keys:
    ``symmetric=False, batch_negatives=False, queue=...``, with ``scale=1 / 0.07`` (v1)
    or ``1 / 0.2`` (v2), keys of a momentum encoder under
    :func:`jax.lax.stop_gradient`, and a queue of 65,536 rows, into which the keys are
    written after the loss, as in the third example.

    Args:
        queries: Rows that count by their directions, floating, ``[n, features]``.
        keys: Likewise, ``[n, features]``; with ``pairs`` their number may differ,
            ``[m, features]``. They have a gradient; :func:`jax.lax.stop_gradient` turns
            it off, and saves its computation.
        scale: :math:`\gamma`, positive, one over the temperature. A learned one is the
            exponential of its parameter.
        max_scale: The largest scale that is used, positive; None for no limit.
        symmetric: Whether keys look for their queries too.
        queue: Further keys, which are no query's and have no gradient: floating,
            ``[k, features]``, or a :class:`MemoryBank`, of which the filled rows count
            and labels do not. Not for the symmetric loss.
        batch_negatives: Whether other keys of the batch are negatives, besides the
            queue.
        pairs: Two boolean masks, ``[n, m]``, of the positive and of the negative pairs;
            by default keys are positives of the query of their number and negatives of
            all others. :math:`R_i` is the mean of :math:`-\log` over the positives of
            the query, whose sum has its positives and negatives; :math:`C_j` likewise.
            A query or a key without a positive does not count. A pair in neither mask
            is ignored, one in both makes the loss NaN.
        where: Boolean mask or weights, ``[n]``. A row of weight zero is neither a query
            nor a key; a NaN in it reaches nothing. Weights count in the means over
            :math:`R_i` and :math:`C_j` alone. Not for keys of another number.
        normalize: Whether rows count by their directions; else :math:`s_{ij}` are inner
            products.
        reduction: ``"mean"`` for the loss, ``[]``; ``"none"`` for each query's
            :math:`R_i`, or :math:`(R_i + C_i) / 2` of each pair if symmetric, ``[n]``,
            without weights, 0 in the place of what does not count.
        block_size: Number of queries and of keys that are compared at a time. The
            matrix of all pairs is then never held, and its entries are computed again
            in the backward pass. None for all at once.
        batch_axis: Name of a mesh axis or a tuple of names, inside of
            :func:`jax.shard_map`. All arrays are then those of this device, of
            ``pairs`` the columns, ``[devices * n, m]``; of the queue each device has
            other rows. Queries are compared with the keys of all devices, which travel
            in a ring, as do their gradients; what gathers keys without a gradient, as
            is common, trains with another one. The mean is that over the queries of
            all devices, equal on each. There is no forward mode. Outside of
            ``shard_map``, :func:`sphax.sharding.pairwise` calls it so.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, or ``[n]``, float32 at least; 0 with zero gradient without a
        pair, or without a negative. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, a number is out of range, or options
            contradict each other.

    Example:
        >>> queries, keys = jnp.eye(3), jnp.eye(3)
        >>> sx.losses.info_nce(queries, keys, scale=1.0)  # log(1 + 2 / e)
        Array(0.55144, dtype=float32)

        A step of a learned scale, whose parameter is projected so that the scale stays
        between 1 and 100; the logarithm of 100 is 4.60517:

        >>> loss = lambda t: sx.losses.info_nce(queries, keys, scale=jnp.exp(t))
        >>> t = jnp.log(1 / 0.07)
        >>> t -= 1e6 * jax.grad(loss)(t)
        >>> print(jnp.exp(t) > 100, jax.grad(loss)(t))
        True 0.0
        >>> t = jnp.clip(t, 0.0, 4.605)
        >>> print(f"{jnp.exp(t):.2f}")
        99.98

        A step of MoCo, after which its keys are those of the queue:

        >>> queue = sx.losses.init_memory(size=8, features=3)
        >>> options = {"symmetric": False, "batch_negatives": False, "scale": 1.0}
        >>> fixed = jax.lax.stop_gradient(keys)
        >>> sx.losses.info_nce(queries, fixed, queue=queue, **options)
        Array(0., dtype=float32)
        >>> queue = sx.losses.enqueue(queue, keys, jnp.zeros(3, jnp.int32))
        >>> sx.losses.info_nce(queries, fixed, queue=queue, **options)
        Array(1.00641, dtype=float32)

    References:
        Radford et al., `CLIP <https://arxiv.org/abs/2103.00020>`_, ICML 2021, Fig. 3;
        He et al., `MoCo <https://arxiv.org/abs/1911.05722>`_, CVPR 2020, Eq. 1.
    """
    for name, flag in (
        ("symmetric", symmetric),
        ("batch_negatives", batch_negatives),
        ("normalize", normalize),
    ):
        check_flag(name, flag)
    if symmetric and queue is not None:
        raise ValueError(
            "queue has negatives of queries and none of keys: give symmetric=False"
            " with it."
        )
    if not batch_negatives and queue is None:
        raise ValueError(
            "batch_negatives=False leaves no negatives without a queue: give queue."
        )
    options: PairOptions = {
        "pairs": pairs,
        "where": where,
        "reduction": reduction,
        "block_size": block_size,
        "batch_axis": batch_axis,
        "precision": precision,
    }
    batch, plan = as_towers(queries, keys, options, queue)
    if symmetric and reduction == "none" and np.shape(queries) != np.shape(keys):
        raise ValueError(
            'reduction="none" has a value for each query and the key of its number,'
            f" got queries {np.shape(queries)} and keys {np.shape(keys)}; give"
            " symmetric=False for those of queries alone."
        )
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    if max_scale is not None:
        max_scale = as_scalar("max_scale", max_scale, batch.dtype, 0.0, is_open=True)
    return _info_nce(
        batch,
        scale,
        max_scale,
        symmetric=bool(symmetric),
        batch_negatives=bool(batch_negatives),
        normalize=bool(normalize),
        plan=plan,
    )


@compiled("symmetric", "batch_negatives", "normalize", "plan")
def _info_nce(
    batch: Batch,
    scale: jax.Array,
    max_scale: jax.Array | None,
    *,
    symmetric: bool,
    batch_negatives: bool,
    normalize: bool,
    plan: Plan,
) -> jax.Array:
    if max_scale is not None:
        # Not `minimum`, which halves the gradient at the limit itself.
        scale = jnp.where(scale > max_scale, max_scale, scale)
    pairs = compare_towers(batch, plan, normalize=normalize)
    if batch.pairs is not None:
        return _of_masks(pairs, scale, symmetric, batch_negatives)
    own = scale * own_products(pairs)
    if not batch_negatives:
        queue = plan._replace(tilings=plan.tilings[1:])
        pairs = dataclasses.replace(pairs, groups=pairs.groups[1:], plan=queue)

    def terms(tile, scale, *_):
        return Terms(exponents=tile.negatives(scale * tile.products))

    # log(sum of all / own): a small loss keeps its digits.
    if symmetric:
        by_query, (by_key,) = pairs.reduce_both(terms, scale)
        negatives = jnp.stack([by_query.exponents, by_key.exponents])
        losses = jnp.mean(jax.nn.softplus(negatives - own[None]), axis=0)
    else:
        losses = jax.nn.softplus(pairs.reduce(terms, scale).exponents - own)
    return pairs.mean(losses, pairs.anchors.is_kept.astype(losses.dtype))


def _of_masks(
    pairs: Pairs, scale: jax.Array, symmetric: bool, batch_negatives: bool
) -> jax.Array:
    """The loss of pairs that masks say, of which a query may have several or none."""
    if not batch_negatives:
        keys, *queue = pairs.groups
        masks: Any = keys.masks
        keys = keys._replace(masks=(masks[0], jnp.zeros_like(masks[1])))
        pairs = dataclasses.replace(pairs, groups=(keys, *queue))

    def mean(pairs, found):
        is_paired = found.sums[1] > 0
        losses = jnp.where(is_paired, mean_log_loss(found), 0.0)
        return pairs.mean(losses, is_paired.astype(losses.dtype))

    if not symmetric:
        return mean(pairs, pairs.reduce(softmax_terms, scale))
    by_query, (by_key,) = pairs.reduce_both(softmax_terms, scale)
    # Only as many keys as queries have weights. A wrong pair has made a query NaN.
    ones = jnp.ones_like(by_key.sums[1])
    weights = pairs.weights if pairs.weights.shape == ones.shape else ones
    of_keys = dataclasses.replace(pairs, weights=weights, is_wrong=None)
    return 0.5 * (mean(pairs, by_query) + mean(of_keys, by_key))
