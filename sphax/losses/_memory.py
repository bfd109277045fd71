"""A memory of past batches, whose rows are further references (cross-batch memory).

It is a ring buffer of fixed size, so that nothing is recompiled while it fills.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import are_equal, check_count
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_batch, as_rows


class MemoryBank(NamedTuple):
    """Embeddings of past batches with their labels, for ``memory=`` of an objective.

    Every row is a negative of the anchors of other classes. Rows of an anchor's class
    are positives with ``memory_positives=True``. By default they are left out: they
    were made by older parameters, and pull towards where the class was. The paper adds
    a loss of the batch against the memory, which :func:`contrastive` shows.

    A pytree of arrays of fixed shapes: carry it through :func:`jax.lax.scan`, donate
    it, save it with the parameters.

    Attributes:
        embeddings: Embeddings as they were when stored, ``[size, features]``.
        labels: Labels of the same rows, integer, ``[size]``.
        filled: Number of rows that hold an embedding, the first ones, ``[]``.
        position: Row that is written next, ``[]``.

    Example:
        >>> memory = sx.losses.init_memory(size=4, features=2)
        >>> memory = sx.losses.enqueue(memory, jnp.eye(2), jnp.array([3, 5]))
        >>> print(memory.labels, memory.filled)
        [3 5 0 0] 2

    References:
        Wang et al., `Cross-Batch Memory <https://arxiv.org/abs/1912.06798>`_, CVPR
        2020.
    """

    embeddings: jax.Array
    labels: jax.Array
    filled: jax.Array
    position: jax.Array


def init_memory(
    size: int,
    features: int,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    label_dtype: jax.typing.DTypeLike = jnp.int32,
) -> MemoryBank:
    """An empty memory, which has no effect on an objective.

    Args:
        size: Number of rows.
        features: Width of the embeddings.
        dtype: Dtype of the embeddings, floating; need not be that of the batches.
        label_dtype: Dtype of the labels, integer; has to hold all of them.

    Returns:
        The empty memory.

    Raises:
        TypeError: If ``dtype`` is not floating, ``label_dtype`` not integer, or a size
            not an integer.
        ValueError: If ``size`` or ``features`` is not positive.

    Example:
        >>> sx.losses.init_memory(size=4, features=2).embeddings.shape
        (4, 2)
    """
    check_count("size", size)
    check_count("features", features)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {jnp.dtype(dtype)}.")
    if not jnp.issubdtype(label_dtype, jnp.integer):
        raise TypeError(f"label_dtype must be integer, got {jnp.dtype(label_dtype)}.")
    # Two zeros: one buffer in two places could not be donated.
    return MemoryBank(
        embeddings=jnp.zeros((size, features), dtype),
        labels=jnp.zeros(size, label_dtype),
        filled=jnp.zeros((), jnp.int32),
        position=jnp.zeros((), jnp.int32),
    )


@explain_names(OF_LOSSES)
def enqueue(
    memory: MemoryBank,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
) -> MemoryBank:
    """The memory with a batch written over its oldest rows.

    Call it after the loss of the batch, whose negatives would otherwise count twice. If
    the batch has more rows than the memory, the last ones are stored.

    Args:
        memory: The memory, from :func:`init_memory` or from the step before.
        embeddings: Floating, ``[n, features]``; stored without gradient, in the dtype
            of the memory.
        labels: Integer, ``[n]``; stored in the integer dtype of the memory. If a label
            does not fit, which raises where it is a number of NumPy or Python, its
            embedding is stored as NaN, and the next loss is NaN.
        where: Boolean mask or weights, ``[n]``. Rows of weight zero are not stored.

    Returns:
        The new memory, of the same shapes and dtypes.

    Raises:
        TypeError: If an argument has the wrong kind of dtype, or ``memory`` is not a
            :class:`MemoryBank`.
        ValueError: If shapes do not fit, or labels the dtype of the memory.

    Example:
        >>> memory = sx.losses.init_memory(size=2, features=2)
        >>> for label in range(3):
        ...     memory = sx.losses.enqueue(memory, jnp.ones((1, 2)), jnp.array([label]))
        >>> print(memory.labels, memory.filled, memory.position)
        [2 1] 2 1
    """
    embeddings = as_rows(embeddings)
    check_memory(memory, embeddings)
    kept, where = as_batch(embeddings, labels, where)
    _check_labels_fit(labels, memory.labels.dtype)
    return _enqueue(memory, embeddings, kept, where)


@compiled()
def _enqueue(
    memory: MemoryBank,
    embeddings: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
) -> MemoryBank:
    is_kept = jnp.full(labels.shape, True) if where is None else where.astype(bool)
    size = memory.labels.shape[0]
    rank = jnp.cumsum(is_kept, dtype=jnp.int32) - 1
    count = jnp.sum(is_kept, dtype=jnp.int32)
    # No row is written twice: the order of such writes is not defined.
    is_stored = is_kept & (rank >= count - size)
    # The row beyond the last one does not exist, and what goes there is dropped.
    row = jnp.where(is_stored, (memory.position + rank) % size, size)
    stored = labels.astype(memory.labels.dtype)
    is_known = are_equal(stored, labels)[:, None]
    embeddings = jnp.where(is_known, jax.lax.stop_gradient(embeddings), jnp.nan)
    embeddings = embeddings.astype(memory.embeddings.dtype)
    return MemoryBank(
        memory.embeddings.at[row].set(embeddings, mode="drop"),
        memory.labels.at[row].set(stored, mode="drop"),
        jnp.minimum(memory.filled + count, size),
        (memory.position + count) % size,
    )


def _check_labels_fit(labels: jax.typing.ArrayLike, dtype: jnp.dtype) -> None:
    """Raises if labels, unless JAX arrays, have values that ``dtype`` cannot hold."""
    if isinstance(labels, jax.Array) or not np.size(labels):
        return
    info, array = jnp.iinfo(dtype), np.asarray(labels)
    if np.min(array) < info.min or np.max(array) > info.max:
        raise ValueError(
            f"labels must fit in the memory's dtype {dtype}, got values from"
            f" {np.min(array)} to {np.max(array)}; call init_memory with a wider"
            " label_dtype."
        )


def check_memory(memory: MemoryBank, embeddings: jax.Array) -> None:
    """Raises unless ``memory`` is a `MemoryBank` as wide as ``embeddings``."""
    if not isinstance(memory, MemoryBank):
        raise TypeError(
            "memory must be a sphax.losses.MemoryBank, from init_memory or enqueue,"
            f" got {type(memory).__name__}."
        )
    if memory.embeddings.shape[-1] != embeddings.shape[-1]:
        raise ValueError(
            "memory must have the features of embeddings, got memory"
            f" {memory.embeddings.shape} and embeddings {embeddings.shape}."
        )
