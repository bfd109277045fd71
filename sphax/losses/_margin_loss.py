"""The margin loss, whose negatives may be drawn by their distances."""

from typing import Literal, Unpack

import jax
import jax.numpy as jnp

from sphax._checks import are_equal, as_array, as_classes, as_integers, check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Pairs,
    Plan,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms


@explain_names(
    OF_LOSSES,
    beta="it is called boundary",
    nu="it is called regularization",
)
def margin_loss(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    margin: jax.typing.ArrayLike = 0.2,
    boundary: jax.typing.ArrayLike = 1.2,
    boundary_of: Literal["class", "anchor"] = "class",
    regularization: jax.typing.ArrayLike = 0.0,
    negatives: jax.typing.ArrayLike | None = None,
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Keeps positives within a boundary and negatives beyond it (margin loss).

    With :math:`D` the distance of two directions and :math:`\beta` the boundary of the
    anchor, which may be learned, a pair costs

    .. math::
        [D - \beta + \alpha]_+ \quad \text{(one class)}, \qquad
        [\beta - D + \alpha]_+ \quad \text{(two classes)}.

    The loss is the sum of all costs over the number of those above 0, plus
    :math:`\nu` times the mean boundary of the anchors that have a positive. The authors
    divide the sum of the boundaries by the number of costs above 0, and PyTorch Metric
    Learning adds a single boundary as a whole; both make :math:`\nu` depend on the
    batch. PyTorch Metric Learning also counts a pair once for each triplet that has it,
    so that its positives weigh more where there are many negatives.

    By default all negative pairs count. As published, an anchor has as many negatives
    as positives, drawn by their distances (distance-weighted sampling), see the
    example: ``negatives`` are the draws of each anchor, and each weighs as many pairs
    as the anchor has positives, over the number of draws.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        margin: :math:`\alpha`, a distance, not negative.
        boundary: :math:`\beta`, a distance, positive: a scalar, or an array
            ``[classes]`` or ``[n]``, as ``boundary_of`` says.
        boundary_of: What an array of boundaries has an entry for: ``"class"``, which is
            read at the labels, then in ``[0, classes)``, or ``"anchor"``.
        regularization: :math:`\nu`, not negative, the weight of the mean boundary.
        negatives: The references that are the negatives of each anchor, integer,
            ``[n, draws]``, as from :func:`sample_negatives`; -1 for no one. Rows of a
            memory are numbered after the references. With ``batch_axis``, the
            references of all devices are numbered in order.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; the mean boundary alone if no cost is above
        0. The number of those has no gradient. The distance of coincident directions
        has zero gradient, and a cost of 0 too. A label that has no boundary, or a draw
        that is not a negative of its anchor, makes the loss NaN.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels, boundary = jnp.array([0, 0, 1, 1]), jnp.array([1.2, 1.0])
        >>> sx.losses.margin_loss(x, labels)
        Array(0.50557, dtype=float32)

        Negatives drawn by their distances, and boundaries of two classes:

        >>> distances = jnp.linalg.norm(x[:, None] - x[None], axis=-1)
        >>> _, is_negative = sx.losses.pair_masks(labels)
        >>> weights = sx.losses.distance_log_weights(distances, is_negative, features=2)
        >>> drawn = sx.losses.sample_negatives(jax.random.key(0), weights)
        >>> print(drawn.T)
        [[-1  2  1 -1]]
        >>> sx.losses.margin_loss(x, labels, boundary=boundary, negatives=drawn)
        Array(0.40557, dtype=float32)

    References:
        Wu et al., `Sampling Matters in Deep Embedding Learning
        <https://arxiv.org/abs/1706.07567>`_, ICCV 2017, Eqs. 5-8.
    """
    check_choice("boundary_of", boundary_of, ("class", "anchor"))
    batch, plan = as_pairwise(embeddings, labels, options)
    if negatives is not None:
        negatives = as_integers("negatives", negatives)
        n = len(batch.embeddings)
        if negatives.ndim != 2 or len(negatives) != n:
            raise ValueError(
                f"negatives must be [n, draws], with the {n} rows of embeddings, got"
                f" shape {negatives.shape}."
            )
    return _margin_loss(
        batch,
        as_scalar("margin", margin, batch.dtype, 0.0),
        _as_boundary(boundary, boundary_of, batch),
        as_scalar("regularization", regularization, batch.dtype, 0.0),
        negatives,
        boundary_of=boundary_of,
        plan=plan,
    )


def _as_boundary(
    boundary: jax.typing.ArrayLike, boundary_of: str, batch: Batch
) -> jax.Array:
    array = as_array("boundary", boundary)
    if array.ndim == 0:
        return as_scalar("boundary", boundary, batch.dtype, 0.0, is_open=True)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"boundary must be floating, got dtype {array.dtype}.")
    n = len(batch.embeddings)
    if array.ndim != 1 or (boundary_of == "anchor" and len(array) != n):
        shape = "[classes]" if boundary_of == "class" else f"[{n}], one for each row,"
        raise ValueError(
            f"boundary must be a scalar or {shape} with boundary_of={boundary_of!r},"
            f" got shape {array.shape}."
        )
    is_integer = batch.labels is not None and batch.labels.ndim == 1
    if boundary_of == "class" and not is_integer:
        raise ValueError(
            "boundary must be a scalar unless labels are integers, which say the class"
            ' of an anchor; or give one for each anchor, with boundary_of="anchor".'
        )
    return array.astype(batch.dtype)


@compiled("boundary_of", "plan")
def _margin_loss(
    batch: Batch,
    margin: jax.Array,
    boundary: jax.Array,
    regularization: jax.Array,
    negatives: jax.Array | None,
    *,
    boundary_of: Literal["class", "anchor"],
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan)
    boundary, is_wrong = _boundary_of_anchors(boundary, boundary_of, pairs)
    has_draws = negatives is not None

    def terms(tile, margin, rows, numbers):
        boundary, draws = rows
        pull = jax.nn.relu(tile.distances - boundary[:, None] + margin)
        push = jax.nn.relu(boundary[:, None] - tile.distances + margin)
        times = tile.count(tile.is_negative)
        if has_draws:
            # How often each of these references was drawn; one draw after the other, so
            # that no array has an entry for each draw and reference.
            times *= sum(
                tile.count(are_equal(draws[:, s, None], numbers[None, :]))
                for s in range(draws.shape[1])
            )
        # Not `> 0`: a NaN counts.
        pulls = tile.count(tile.is_positive & ~(pull <= 0.0))
        pushes = times * tile.count(~(push <= 0.0))
        pull = jnp.where(tile.is_positive, pull, 0.0)
        push = times * jnp.where(times > 0.0, push, 0.0)
        return Terms((pull, pulls, push, pushes, tile.count(tile.is_positive), times))

    rows, numbers = (boundary, negatives), _numbered(pairs)
    sums = pairs.reduce(terms, margin, rows, numbers).sums
    pull, pulls, push, pushes, positives, found = sums
    if negatives is not None:
        share = positives / max(negatives.shape[1], 1)
        push, pushes = share * push, share * pushes
        is_draw = ~are_equal(negatives, jnp.int32(-1))
        is_wrong |= found != jnp.sum(is_draw, axis=-1, dtype=found.dtype)
    is_wrong &= pairs.anchors.is_kept
    # In the divisor, so that gradients are NaN too.
    counts = jnp.where(is_wrong, jnp.nan, pulls + pushes)
    is_paired = (positives > 0).astype(boundary.dtype)
    mean_boundary = pairs.mean(is_paired * boundary, is_paired)
    return pairs.mean(pull + push, counts) + regularization * mean_boundary


def _boundary_of_anchors(
    boundary: jax.Array, boundary_of: str, pairs: Pairs
) -> tuple[jax.Array, jax.Array]:
    """The boundary of each anchor, ``[n]``, and which labels have no boundary."""
    is_kept, labels = pairs.anchors.is_kept, pairs.anchors.labels
    is_unknown = jnp.full_like(is_kept, False)
    if boundary.ndim and boundary_of == "class" and labels is not None:
        classes, is_class = as_classes(labels, len(boundary))
        boundary, is_unknown = boundary[classes], ~is_class
    boundary = jnp.broadcast_to(boundary, is_kept.shape)
    return jnp.where(is_kept, boundary, 0.0), is_unknown


def _numbered(pairs: Pairs) -> tuple[jax.Array, ...]:
    """Numbers of the references of all devices, then of the rows of all memories."""
    references, *memory = (group.number for group in pairs.groups)
    axes = pairs.plan.axes
    devices = jax.lax.axis_size(axes) if axes else 1
    place = jax.lax.axis_index(axes) if axes else 0
    return references, *(
        devices * len(references)
        + place * len(rows)
        + jnp.arange(len(rows), dtype=jnp.int32)
        for rows in memory
    )
