"""Two sets of vectors in tiles: rows on the device, and pairs that do not exist."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_comparable, as_floating, as_numpy_labels
from sphax._compiled import compiled
from sphax.sphere import direction

# Pairs of a query and a reference that do not exist, [pairs, 2], or a function of the
# indices of queries, [q, 1], and of references, [1, r], which is True for such pairs.
Exclude = (
    np.ndarray | Sequence[Sequence[int]] | Callable[[np.ndarray, np.ndarray], ArrayLike]
)
# The same as a function of two lists of indices: boolean, [q, r].
Exclusion = Callable[[np.ndarray, np.ndarray], np.ndarray]


def as_set(
    name: str, vectors: jax.typing.ArrayLike, labels_name: str, labels: ArrayLike
) -> tuple[np.ndarray | jax.Array, np.ndarray]:
    """Vectors ``[n, features]`` and their labels; raises unless both fit.

    The vectors stay where they are, on the host or on a device: a gallery may be most
    of what the memory holds.
    """
    array = as_rows(name, vectors)
    return array, as_numpy_labels(labels_name, labels, len(array), name)


def as_rows(name: str, vectors: jax.typing.ArrayLike) -> np.ndarray | jax.Array:
    """``vectors`` where they are; raises unless floating, ``[n, features]``."""
    array = vectors if isinstance(vectors, jax.Array) else np.asarray(vectors)
    # Only the dtype is converted and checked here, not the values.
    as_floating(name, np.empty(0, array.dtype))
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} must be [n, features] and not empty, got shape {array.shape}."
        )
    return array


def check_alike(name: str, x, other_name: str, w) -> None:
    """Raises unless the vectors of both sets have one length and one dtype."""
    dtypes = [jax.dtypes.canonicalize_dtype(a.dtype) for a in (x, w)]
    if w.shape[1] != x.shape[1] or dtypes[0] != dtypes[1]:
        raise ValueError(
            f"{other_name} must have the features and dtype of {name}, got {other_name}"
            f" {w.shape} {w.dtype} and {name} {x.shape} {x.dtype}."
        )


def as_sets(
    embeddings: jax.typing.ArrayLike,
    labels: ArrayLike,
    references: jax.typing.ArrayLike | None,
    reference_labels: ArrayLike | None,
) -> tuple[
    tuple[np.ndarray | jax.Array, np.ndarray], tuple[np.ndarray | jax.Array, np.ndarray]
]:
    """Vectors and labels of the queries and of the references; raises unless they fit.

    Without references, the queries are the references as well.
    """
    x, labels = as_set("embeddings", embeddings, "labels", labels)
    if (references is None) != (reference_labels is None):
        raise ValueError(
            "references and reference_labels must be given together, or neither of"
            " them for the pairs of one set."
        )
    if references is None or reference_labels is None:
        return (x, labels), (x, labels)
    w, others = as_set("references", references, "reference_labels", reference_labels)
    check_alike("embeddings", x, "references", w)
    labels, others = as_comparable(labels, others)
    return (x, labels), (w, others)


def check_cosines(names: str, largest: np.ndarray) -> None:
    """Raises if the largest cosine of any vector is NaN, and says of how many."""
    broken = np.count_nonzero(np.isnan(largest))
    if broken:
        raise ValueError(
            f"cosines of {names} must be finite, got NaN in {broken} of {len(largest)}"
            " rows."
        )


def dtype_of_cosines(vectors: np.ndarray | jax.Array) -> np.dtype:
    """float32 at least, and not float64 if JAX has none."""
    return jnp.promote_types(jax.dtypes.canonicalize_dtype(vectors.dtype), jnp.float32)


def in_blocks(indices: np.ndarray, size: int, multiple: int = 1) -> np.ndarray:
    """Indices in blocks of one length, about ``size`` at most, ``[blocks, length]``.

    The length is a multiple of ``multiple``. The last index fills the last block up.
    """
    blocks = -(-len(indices) // size)
    length = -(-len(indices) // (blocks * multiple)) * multiple
    blocks = -(-len(indices) // length)
    filled = np.arange(blocks * length).clip(max=len(indices) - 1)
    return indices[filled].reshape(blocks, length)


def directions(vectors: np.ndarray | jax.Array, rows: np.ndarray) -> jax.Array:
    """Directions of some rows, in float32 at least, on the device."""
    if isinstance(vectors, jax.Array):
        return _directions_of(vectors, rows.astype(np.int32))
    return _directions(vectors[rows])


@compiled()
def _directions(vectors):
    return direction(vectors)


@compiled()
def _directions_of(vectors, rows):
    return direction(jnp.take(vectors, rows, axis=0))


def as_exclusion(
    exclude: Exclude | None, queries: int, references: int
) -> Exclusion | None:
    """``exclude`` as a function of indices of queries and of references."""
    if exclude is None:
        return None
    if callable(exclude):
        return lambda q, r: _excluded_by(exclude, q, r)
    pairs = np.asarray(exclude)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "exclude must be integer [pairs, 2], indices of a query and of a reference,"
            " or a function of such indices, got an array of shape"
            f" {pairs.shape} and dtype {pairs.dtype}."
        )
    if pairs.size and (
        pairs.min() < 0 or np.any(pairs.max(axis=0) >= (queries, references))
    ):
        raise ValueError(
            f"exclude must have indices of the {queries} queries and of the"
            f" {references} references, got indices from {pairs.min(axis=0)} to"
            f" {pairs.max(axis=0)}."
        )
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    return lambda q, r: _excluded_among(pairs, q, r)


def _excluded_among(pairs, q, r):
    """Which of all pairs are among ``pairs``, which are sorted by query."""
    row, pair = _runs(pairs[:, 0], q)
    order = np.argsort(r, kind="stable")
    wanted, place = _runs(r[order], pairs[pair, 1])
    is_excluded = np.zeros((len(q), len(r)), bool)
    is_excluded[row[wanted], order[place]] = True
    return is_excluded


def _runs(ordered, values):
    """All ``(i, j)`` with ``ordered[j] == values[i]``, as two arrays."""
    begin = np.searchsorted(ordered, values, "left")
    end = np.searchsorted(ordered, values, "right")
    lengths = end - begin
    i = np.repeat(np.arange(len(values)), lengths)
    return i, np.arange(len(i)) + np.repeat(end - np.cumsum(lengths), lengths)


def _excluded_by(exclude, q, r):
    """What a function ``exclude`` says, ``[q, r]``; raises unless it is boolean."""
    found = np.asarray(exclude(q[:, None], r[None, :]))
    if found.dtype != np.bool_:
        raise TypeError(
            "exclude must return booleans, True for a pair that does not exist, got"
            f" dtype {found.dtype}."
        )
    try:
        return np.broadcast_to(found, (len(q), len(r)))
    except ValueError as error:
        raise ValueError(
            "exclude is called with indices of queries [q, 1] and of references [1, r],"
            f" and must return [q, r], here {(len(q), len(r))}, got {found.shape}."
        ) from error
