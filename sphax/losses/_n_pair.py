"""The N-pair loss: cross-entropy of plain inner products."""

import dataclasses
from typing import Literal, Unpack

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Pairs,
    Plan,
    as_pairwise,
    compare,
    mean_cross_entropy,
)
from sphax.losses._core.tiles import Terms, Tiling


@explain_names(OF_LOSSES)
def n_pair(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    regularization: jax.typing.ArrayLike = 0.002,
    pairing: Literal["all", "first"] = "all",
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Cross-entropy of plain inner products, with a penalty on lengths (N-pair loss).

    The mean over all positive pairs of an anchor :math:`x` and a row :math:`x_p` of its
    class, with :math:`x_n` the rows of other classes, of

    .. math::
        \log\Big(1 + \sum_n e^{x \cdot x_n - x \cdot x_p}\Big) + \lambda \|x\|^2.

    Here every row serves as an anchor, and every row of another class as a negative.
    With ``pairing="first"``, as published, the first row of a class is its anchor, and
    its second row is the positive of this anchor and a negative of those of all other
    classes. Further rows, and classes of one row, do not count, and the penalty is
    :math:`\tfrac\lambda2 (\|x\|^2 + \|x_p\|^2)`. Rows of a memory are further
    negatives there. Nothing is normalized; in PyTorch Metric Learning all rows are, by
    default, and there is no penalty.

    Args:
        embeddings: Rows, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one. The pairing ``"first"`` needs integers.
        regularization: :math:`\lambda`, not negative.
        pairing: Which rows are anchors, positives and negatives. The pairing
            ``"first"`` takes them from the batch, in its order.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a positive
        pair; NaN where a product leaves the range, from lengths of 1e19 on in float32.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, an option is out of range, or the pairing
            ``"first"`` is given references, masks of pairs, sets of labels or positives
            of a memory.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.n_pair(x, jnp.array([0, 0, 1]))  # log(1 + 1 / e) + 0.002
        Array(0.31526, dtype=float32)

        Anchors and their positives as two arrays, one row of each class in both:

        >>> anchors, positives = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
        >>> sx.losses.n_pair(
        ...     anchors,
        ...     jnp.arange(2),
        ...     references=positives,
        ...     reference_labels=jnp.arange(2),
        ... )
        Array(0.4441, dtype=float32)
        >>> rows = jnp.stack([anchors, positives], axis=1).reshape(4, 2)
        >>> sx.losses.n_pair(rows, jnp.array([0, 0, 1, 1]), pairing="first")
        Array(0.4441, dtype=float32)

    References:
        Sohn, `Improved Deep Metric Learning with Multi-class N-pair Loss Objective
        <https://papers.nips.cc/paper/6200>`_, NeurIPS 2016, Eq. 7.
    """
    check_choice("pairing", pairing, ("all", "first"))
    batch, plan = as_pairwise(embeddings, labels, options)
    if pairing == "first":
        _check_first(batch, plan)
    weight = as_scalar("regularization", regularization, batch.dtype, 0.0)
    return _n_pair(batch, weight, pairing=pairing, plan=plan)


def _check_first(batch: Batch, plan: Plan) -> None:
    for name in ("references", "pairs"):
        if getattr(batch, name) is not None:
            raise ValueError(
                f'{name} has no order within a class, from which pairing="first" could'
                ' take an anchor and its positive; give pairing="all", where the'
                " embeddings are the anchors and the references their positives."
            )
    if batch.labels is not None and batch.labels.ndim == 2:
        raise ValueError(
            'labels must be integer with pairing="first", since rows that share a label'
            " with others need not be one class, got sets of labels; give"
            ' pairing="all".'
        )
    if plan.memory_positives:
        raise ValueError(
            'memory_positives has no meaning with pairing="first", whose positive is'
            ' the second row of a class in the batch; give pairing="all".'
        )


@compiled("pairing", "plan")
def _n_pair(
    batch: Batch,
    weight: jax.Array,
    *,
    pairing: Literal["all", "first"],
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan, normalize=False)
    rows = None
    if pairing == "first":
        pairs = _first_of_classes(pairs)
        if plan.tilings[0] == Tiling():
            pairs, rows = _without_others(pairs)
    positives = pairs.reduce(
        lambda tile, *_: Terms(sums=tile.count(tile.is_positive))
    ).sums
    penalty = _squares(pairs.anchors.vectors) * positives
    if pairing == "first":

        def of_positives(tile, _, __, squares):
            return Terms(jnp.where(tile.is_positive, squares[None, :], 0.0))

        squares = tuple(_squares(group.vectors) for group in pairs.groups)
        penalty += pairs.reduce(of_positives, columns=squares).sums
        penalty *= 0.5
    penalty = pairs.mean(penalty, positives)
    loss = mean_cross_entropy(lambda tile, _: tile.products, pairs) + weight * penalty
    if rows is None or not loss.ndim:
        return loss
    return jnp.zeros(len(batch.embeddings), loss.dtype).at[rows].set(loss)


def _first_of_classes(pairs: Pairs) -> Pairs:
    """The first rows of classes against the second ones, and the rows of a memory."""

    def terms(tile, _, number, numbers):
        is_earlier = tile.is_positive & (numbers[None, :] < number[:, None])
        return Terms((tile.count(is_earlier), tile.count(tile.is_positive)))

    numbers = tuple(group.number for group in pairs.groups)
    earlier, others = pairs.reduce(
        terms, rows=pairs.anchors.number, columns=numbers
    ).sums
    batch, *memory = pairs.groups
    anchors = pairs.anchors._replace(is_kept=(earlier == 0) & (others > 0))
    seconds = batch._replace(is_kept=earlier == 1)
    return dataclasses.replace(pairs, anchors=anchors, groups=(seconds, *memory))


def _without_others(pairs: Pairs) -> tuple[Pairs, jax.Array]:
    """The pairs without rows that are in none of them, and the rows of the anchors.

    A class with an anchor has two rows or more: half of the rows are enough.
    """
    (anchors, (batch, *memory)), n = (pairs.anchors, pairs.groups), len(pairs.weights)

    def kept(side):
        chosen = jnp.argsort(~side.is_kept)[: max(n // 2, 1)]
        return jax.tree.map(lambda x: x[chosen], side), chosen

    anchors, rows = kept(anchors)
    batch, _ = kept(batch)
    weights = pairs.weights[rows]
    groups = (batch, *memory)
    return dataclasses.replace(
        pairs, anchors=anchors, groups=groups, weights=weights
    ), rows


def _squares(x: jax.Array) -> jax.Array:
    return dot(widen(x), widen(x))
