"""The triplet loss, with the mining that it is known for."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._memory import MemoryBank
from sphax.losses._numbers import as_scalar, check_range
from sphax.losses._pairs import (
    Batch,
    Pairs,
    as_pairwise,
    compare,
    distances,
    squared_distances,
)
from sphax.losses._triplet_sums import Rule, cost, triplet_sums

Mining = Literal[
    "all", "active", "hard", "semi_hard", "nearest_semi_hard", "batch_hard"
]
_BOUNDED_BY_MARGIN = ("active", "semi_hard")


@explain_names(OF_LOSSES)
def triplet(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    margin: jax.typing.ArrayLike | Literal["soft"] = 0.2,
    mining: Mining = "all",
    distance: Literal["squared", "euclidean"] = "squared",
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Keeps negatives farther away than positives by a margin (triplet loss).

    The mean over the mined triplets of an anchor, a positive and a negative, at
    distances :math:`d_p, d_n` from the anchor, of

    .. math::
        [d_p - d_n + m]_+ \qquad \text{or, softly,} \qquad
        \log\big(1 + e^{d_p - d_n}\big).

    =======================  =======================================================
    ``mining``               triplets in the mean
    =======================  =======================================================
    ``"all"``                all
    ``"active"``             those that cost something, :math:`d_n < d_p + m`
    ``"hard"``               :math:`d_n \le d_p`
    ``"semi_hard"``          :math:`d_p < d_n < d_p + m`
    ``"nearest_semi_hard"``  one for each anchor and positive: the nearest negative
                             beyond :math:`d_p`, or else the farthest of all
    ``"batch_hard"``         one for each anchor: farthest positive, nearest negative
    =======================  =======================================================

    Three losses are published as semi-hard: ``"semi_hard"`` with ``"squared"`` distance
    (FaceNet) or with ``"euclidean"`` (PyTorch Metric Learning), and
    ``"nearest_semi_hard"`` (TensorFlow Addons). They have different values and
    different gradients. Of a network that has collapsed into one point, every triplet
    is ``"hard"`` and costs the margin, and none is ``"semi_hard"``. The soft form
    belongs to ``"batch_hard"`` and ``"euclidean"``. Where one negative is to be chosen
    and several are equally near, they share its place.

    Time is that of the pairs, times the size of the largest class in the batch; memory
    is that of the pairs, whatever the number of triplets.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``.
        margin: :math:`m`, not negative, a distance of the kind that is compared; or
            ``"soft"``.
        mining: Which triplets are in the mean.
        distance: Whether distances of the directions (at most 2) or their squares (at
            most 4) are compared.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no triplet, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if nothing is mined.
        Which triplets are mined has no gradient. A distance has zero gradient where two
        directions coincide. With ``"soft"`` there is no second derivative in reverse
        mode, except for ``"batch_hard"``.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, an option is out of range, or the mining needs
            the margin that ``"soft"`` does not have.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> labels = jnp.array([0, 0, 1])  # squared distances 0.8, and 0.4 and 0.08
        >>> sx.losses.triplet(x, labels)
        Array(0.76, dtype=float32)
        >>> sx.losses.triplet(x, labels, mining="batch_hard", margin="soft")
        Array(1.0148, dtype=float32)

    References:
        Schroff et al., `FaceNet <https://arxiv.org/abs/1503.03832>`_, CVPR 2015, Eqs.
        1-4; Hermans et al., `In Defense of the Triplet Loss
        <https://arxiv.org/abs/1703.07737>`_, 2017 (batch hard, soft margin).
    """
    check_choice("mining", mining, get_args(Mining))
    check_choice("distance", distance, ("squared", "euclidean"))
    rule = Rule(mining, is_soft=isinstance(margin, str))
    if isinstance(margin, str):
        _check_soft(margin, mining)
        margin = 0.0
    check_range("margin", margin, 0.0)
    batch = as_pairwise(embeddings, labels, where, memory)
    margin = as_scalar("margin", margin, batch.dtype)
    return _triplet(batch, margin, rule=rule, distance=distance, precision=precision)


@compiled("rule", "distance", "precision")
def _triplet(
    batch: Batch,
    margin: jax.Array,
    *,
    rule: Rule,
    distance: Literal["squared", "euclidean"],
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    if not batch.labels.size:  # nothing that a gather could take
        return jnp.zeros((), batch.dtype)
    pairs = compare(batch, precision)
    apart = squared_distances(pairs) if distance == "squared" else distances(pairs)
    if rule.mining == "batch_hard":
        return _hardest(rule, apart, pairs, margin)
    totals, counts = triplet_sums(
        rule, apart, pairs.is_positive, pairs.is_negative, margin
    )
    return pairs.mean(totals, counts)


def _check_soft(margin: str, mining: str) -> None:
    if margin != "soft":
        raise ValueError(f'margin must be a number or "soft", got {margin!r}.')
    if mining in _BOUNDED_BY_MARGIN:
        raise ValueError(
            f'mining={mining!r} asks which negatives lie within the margin, and "soft"'
            ' is none; give a number, or mine "all", "hard" or "batch_hard".'
        )


def _hardest(
    rule: Rule, apart: jax.Array, pairs: Pairs, margin: jax.Array
) -> jax.Array:
    """Farthest positive against nearest negative; ties share the gradient."""
    farthest = jnp.max(apart, axis=-1, where=pairs.is_positive, initial=-jnp.inf)
    nearest = jnp.min(apart, axis=-1, where=pairs.is_negative, initial=jnp.inf)
    # This way round, NaN is not taken for nothing.
    is_anchor = (farthest != -jnp.inf) & (nearest != jnp.inf)
    gap = jnp.where(is_anchor, farthest - nearest + margin, 0.0)
    losses = jnp.where(is_anchor, cost(rule, gap), 0.0)
    return pairs.mean(losses, is_anchor.astype(losses.dtype))
