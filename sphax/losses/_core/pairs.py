"""Anchors against references, for all pairwise objectives.

One matrix has the cosines (or inner products) of anchors and references, and two masks
say which entries are pairs of one class and which of two. Anchors are the rows of the
batch. References are the same rows, then the rows of a memory, which serve as negatives
of anchors of other classes and for nothing else. A masked row is in no pair, and an
anchor does not pair with itself.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import are_equal
from sphax._masking import zero_masked
from sphax._numerics import divide, dot, safe_sqrt, widen
from sphax.losses._core.batch import as_batch, as_rows
from sphax.losses._memory import MemoryBank, check_memory
from sphax.sphere import inner_products, length


class Batch(NamedTuple):
    """The checked arguments that all pairwise objectives share."""

    embeddings: jax.Array  # [n, features]
    labels: jax.Array  # [n]
    where: jax.Array | None  # [n]
    memory: MemoryBank | None

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of products, distances and losses."""
        return jnp.promote_types(self.embeddings.dtype, jnp.float32)


def as_pairwise(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    where: jax.typing.ArrayLike | None,
    memory: MemoryBank | None,
) -> Batch:
    """The arguments as arrays; raises unless they fit."""
    embeddings = as_rows(embeddings)
    labels, where = as_batch(embeddings, labels, where)
    if memory is not None:
        check_memory(memory, embeddings)
    return Batch(embeddings, labels, where, memory)


class Pairs(NamedTuple):
    """Anchors ``[n]`` against references ``[m]``."""

    products: jax.Array  # cosines or inner products, float32 at least, [n, m]
    is_positive: jax.Array  # of one class, [n, m]
    is_negative: jax.Array  # of two classes, [n, m]
    weight: jax.Array  # of the anchors, 0 where masked, [n]
    resolution: float  # distance below which the inputs' rounding decides

    @property
    def positives(self) -> jax.Array:
        """Number of positives of every anchor, ``[n]``."""
        return jnp.sum(self.is_positive, axis=-1, dtype=self.weight.dtype)

    def mean(self, totals: jax.Array, counts: jax.Array) -> jax.Array:
        """Mean over all anchors, ``totals / counts``, each summed with their weights.

        0, with zero gradient, if nothing counts.
        """
        return divide(dot(self.weight, totals), dot(self.weight, counts))


def compare(
    batch: Batch, precision: jax.lax.PrecisionLike, *, normalize: bool = True
) -> Pairs:
    """All pairs of an anchor and a reference, by cosines or by inner products.

    The one place where anchors meet references.
    """
    embeddings, labels, where, memory = batch
    is_kept = jnp.full(labels.shape, True) if where is None else where.astype(bool)
    embeddings = zero_masked(embeddings, where)
    multiply = partial(_multiply, normalize=normalize, precision=precision)

    values = multiply(embeddings, embeddings)
    is_positive, is_negative = _masks(labels, is_kept, labels, is_kept)
    is_positive &= ~jnp.eye(len(labels), dtype=bool)
    if memory is not None:
        stored = jax.lax.stop_gradient(memory.embeddings).astype(embeddings.dtype)
        size = len(stored)
        is_filled = jnp.arange(size) < memory.filled
        _, is_other = _masks(labels, is_kept, memory.labels, is_filled)
        values = jnp.concatenate([values, multiply(embeddings, stored)], axis=1)
        is_positive = jnp.pad(is_positive, ((0, 0), (0, size)))
        is_negative = jnp.concatenate([is_negative, is_other], axis=1)
    return Pairs(
        values,
        is_positive,
        is_negative,
        (is_kept if where is None else where).astype(values.dtype),
        4.0 * float(jnp.finfo(embeddings.dtype).eps),
    )


def _multiply(anchors, references, *, normalize, precision):
    operands = anchors, references
    lengths = (length(widen(x)) for x in operands) if normalize else (None, None)
    return inner_products(*operands, *lengths, precision=precision)


def _masks(labels, is_kept, reference_labels, is_reference):
    """Which pairs are of one class, and which of two."""
    is_pair = is_kept[:, None] & is_reference[None, :]
    is_same = are_equal(labels[:, None], reference_labels[None, :])
    return is_pair & is_same, is_pair & ~is_same


def squared_distances(pairs: Pairs) -> jax.Array:
    r"""Squared distances of the directions, :math:`\|\hat x - \hat y\|^2 = 2 - 2c`."""
    return 2.0 - 2.0 * pairs.products


def distances(pairs: Pairs) -> jax.Array:
    """Distances of the directions; zero gradient where they coincide.

    They are formed from cosines, so that a distance below 1e-3 (float32) has lost its
    digits; its gradient still points the right way and is bounded. Directions closer
    than a few ulps of the inputs count as coincident: the product of the backward pass,
    in the inputs' dtype, would return nothing but its rounding for them.
    """
    squared = squared_distances(pairs)
    is_resolved = squared > pairs.resolution**2
    # Rounding takes only unresolved distances below 0; NaN stays NaN.
    unresolved = jax.lax.stop_gradient(jnp.maximum(squared, 0.0))
    return safe_sqrt(jnp.where(is_resolved, squared, unresolved))


def log_sum_exp(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-sum-exp over the entries of ``mask`` in every row.

    Without an entry it is the lowest finite number: minus infinity has no gradient.
    """
    lowest = jnp.finfo(values.dtype).min
    return jax.nn.logsumexp(jnp.where(mask, values, lowest), axis=-1)


def mean_cross_entropy(logits: jax.Array, pairs: Pairs) -> jax.Array:
    """Mean over the positive pairs of ``log(1 + sum_n exp(logit_n - logit_p))``."""
    negatives = log_sum_exp(logits, pairs.is_negative)
    losses = jax.nn.softplus(negatives[:, None] - logits)
    totals = jnp.sum(losses, axis=-1, where=pairs.is_positive)
    return pairs.mean(totals, pairs.positives)
