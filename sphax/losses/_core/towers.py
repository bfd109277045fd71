"""Queries against keys: the two towers of a model that embeds pairs.

Queries are the anchors and keys the references of :mod:`sphax.losses._core.pairs`.
Those of one number belong together, which is known by their numbers: no mask of all
pairs is made unless the caller gives one.
"""

import jax
import jax.numpy as jnp

from sphax._masking import as_weights
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_rows
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Pairs,
    Plan,
    as_batch_axes,
    as_masks,
    as_plan,
    compare,
)
from sphax.losses._memory import MemoryBank
from sphax.sphere import direction


def as_towers(
    queries: jax.typing.ArrayLike,
    keys: jax.typing.ArrayLike,
    options: PairOptions,
    queue: jax.typing.ArrayLike | MemoryBank | None = None,
) -> tuple[Batch, Plan]:
    """The arguments that objectives of two towers share; raises unless they fit."""
    queries, keys = as_rows(queries, name="queries"), as_rows(keys, name="keys")
    given = f"got queries {queries.shape} and keys {keys.shape}"
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"queries and keys must have the same features, {given}.")
    (n, _), (m, _) = queries.shape, keys.shape
    axes, devices = as_batch_axes(options)
    pairs, where = options.get("pairs"), options.get("where")
    if n != m and pairs is None:
        raise ValueError(
            "queries and keys must be as many, since those of one number belong"
            f" together unless pairs says which do, {given}."
        )
    if n != m and where is not None:
        raise ValueError(
            "where masks a query and the key of its number, which takes as many"
            f" queries as keys, {given}; leave rows out by pairs, False in both masks."
        )
    dtype = jnp.promote_types(queries.dtype, keys.dtype)
    batch = Batch(
        queries.astype(dtype),
        labels=None,
        references=keys.astype(dtype),
        reference_labels=None,
        reference_where=None,
        self_index=None,
        pairs=None if pairs is None else as_masks(pairs, (devices * n, m)),
        where=as_weights(where, (n,), "queries without its last axis"),
        memory=None if queue is None else _as_negatives(queue, queries),
    )
    sides = [keys] if batch.memory is None else [keys, batch.memory.embeddings]
    return batch, as_plan(queries, sides, axes, options)


def _as_negatives(
    queue: jax.typing.ArrayLike | MemoryBank, queries: jax.Array
) -> MemoryBank:
    """A memory whose rows are of no query."""
    if isinstance(queue, MemoryBank):
        rows, filled = queue.embeddings, queue.filled
    else:
        rows = as_rows(queue, name="queue")
        filled = jnp.int32(len(rows))
    if rows.shape[1] != queries.shape[1]:
        raise ValueError(
            f"queue must have the features of queries, got queue {rows.shape} and"
            f" queries {queries.shape}."
        )
    nobody = jnp.full(len(rows), -1, jnp.int32)
    return MemoryBank(rows, nobody, filled, position=jnp.int32(0))


def compare_towers(batch: Batch, plan: Plan, *, normalize: bool) -> Pairs:
    """All pairs of a query and a key, by cosines or by inner products."""
    n = len(batch.embeddings)
    place = jax.lax.axis_index(plan.axes) if plan.axes else jnp.int32(0)
    number = place * n + jnp.arange(n, dtype=jnp.int32)
    batch = batch._replace(
        labels=number,
        reference_labels=number if batch.pairs is None else None,
        reference_where=None if batch.where is None else batch.where.astype(bool),
    )
    return compare(batch, plan, normalize=normalize)


def own_products(pairs: Pairs) -> jax.Array:
    """The product of each query and the key of its number, ``[n]``."""
    sides = pairs.anchors.vectors, pairs.groups[0].vectors
    return dot(*(direction(x) if pairs.normalize else widen(x) for x in sides))
