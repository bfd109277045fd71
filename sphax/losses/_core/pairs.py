"""Anchors against references, for all pairwise objectives.

A matrix has the cosines (or inner products) of anchors and references, and two masks
say which of its entries are positive pairs and which are negative ones. Anchors are the
rows of the batch. References are the rows of the batch too, or those that the caller
gives, and after them the rows of a memory.

An objective says what a tile of this matrix contributes to its anchors. The plain form
has one tile, the blocked form many, and the sharded form those of all devices.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import (
    are_equal,
    as_array,
    as_classes,
    as_labels,
    check_choice,
    check_flag,
)
from sphax._class_axis import devices_along
from sphax._masking import as_weights, zero_masked
from sphax._numerics import divide, dot, safe_sqrt, widen
from sphax.losses._core.batch import as_rows
from sphax.losses._core.blocked import as_blocks
from sphax.losses._core.tiles import (
    Terms,
    Tiling,
    combined,
    map_rows,
    reduce_tiles,
    reduced,
)
from sphax.losses._memory import MemoryBank, check_memory
from sphax.sphere import inner_products, length

Reduction = Literal["mean", "none"]
Masks = tuple[jax.typing.ArrayLike, jax.typing.ArrayLike]


class PairOptions(TypedDict, total=False):
    """Keyword arguments that all pairwise losses share: what is compared, and how.

    Anchors are the rows of the batch. Each is compared with references: the other rows
    of the batch, or the rows of ``references``. Which references are its positives and
    which its negatives is said by labels, integers or sets of them, or by masks.

    A row of the batch is never a pair of itself. Equal rows are pairs like any others,
    at distance 0. Rows given as ``references`` are all compared, also where they have
    the values of an anchor, unless ``self_index`` says which of them it is.

    Attributes:
        references: Rows that anchors are compared with, floating, ``[m, features]``;
            the batch itself if not given. They have a gradient;
            :func:`jax.lax.stop_gradient` turns it off, and saves its computation.
        reference_labels: Labels of the references, of the kind of ``labels``.
        reference_where: Which references there are, boolean, ``[m]``. A NaN in another
            one reaches nothing.
        self_index: The reference that is the anchor itself, integer, ``[n]``; -1 for an
            anchor that is not among them. A value outside of ``[-1, m)`` makes the loss
            NaN.
        pairs: Two boolean masks, ``[n, m]``, of the positive and of the negative pairs,
            in place of labels. A pair in neither is ignored, one in both makes the loss
            NaN.
        where: Boolean mask or weights of the anchors, ``[n]``. A row of weight zero is
            no anchor, and no reference if the batch is compared with itself; a NaN in
            it reaches nothing. Weights count in the mean over anchors alone.
        memory: Rows of earlier batches, from :func:`enqueue`, which are further
            references without gradient.
        memory_positives: Whether rows of the memory are positives of the anchors of
            their class, as in cross-batch memory; else they are negatives alone.
        reduction: ``"mean"`` for the loss, ``[]``; ``"none"`` for the mean of each
            anchor alone, ``[n]``, without weights, 0 where it has no pair that counts.
        block_size: Number of anchors and of references that are compared at a time. The
            matrix of all pairs is then never held, and its entries are computed again
            in the backward pass. None for all at once.
        batch_axis: Name of a mesh axis or a tuple of names, inside of
            :func:`jax.shard_map`. All arrays are then those of this device, of
            ``pairs`` the columns, ``[devices * n, m]``, and anchors are compared with
            the references of all devices, which travel in a ring. The mean is that over
            the anchors of all devices, equal on each; ``self_index`` counts over the
            references of all. There is no forward mode.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Example:
        >>> x, labels = jnp.array([[1.0, 0.0], [0.8, 0.6]]), jnp.array([0, 1])
        >>> given: sx.losses.PairOptions = {"references": x, "reference_labels": labels}
        >>> sx.losses.nt_xent(x, labels, **given, reduction="none", scale=1.0)
        Array([0.59814, 0.59814], dtype=float32)
    """

    references: jax.typing.ArrayLike | None
    reference_labels: jax.typing.ArrayLike | None
    reference_where: jax.typing.ArrayLike | None
    self_index: jax.typing.ArrayLike | None
    pairs: Masks | None
    where: jax.typing.ArrayLike | None
    memory: MemoryBank | None
    memory_positives: bool
    reduction: Reduction
    block_size: int | None
    batch_axis: str | tuple[str, ...] | None
    precision: jax.lax.PrecisionLike


class Batch(NamedTuple):
    """The checked arrays of a pairwise objective."""

    embeddings: jax.Array  # [n, features]
    labels: jax.Array | None  # integers [n], or sets [n, classes]
    references: jax.Array | None  # [m, features]
    reference_labels: jax.Array | None  # as labels
    reference_where: jax.Array | None  # [m]
    self_index: jax.Array | None  # [n]
    pairs: tuple[jax.Array, jax.Array] | None  # [n, m], or [devices * n, m]
    where: jax.Array | None  # [n]
    memory: MemoryBank | None

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of products, distances and losses."""
        return jnp.promote_types(self.embeddings.dtype, jnp.float32)


class Plan(NamedTuple):
    """The options of a pairwise objective that are fixed when it is traced."""

    memory_positives: bool
    reduction: Reduction
    tilings: tuple[Tiling, ...]  # of the references, then of the memory
    axes: tuple[str, ...]  # of the mesh, over which the batch is split
    precision: jax.lax.PrecisionLike


def as_pairwise(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None,
    options: PairOptions,
) -> tuple[Batch, Plan]:
    """The arguments that all pairwise objectives share; raises unless they fit."""
    embeddings = as_rows(embeddings)
    n = len(embeddings)
    where = as_weights(options.get("where"), (n,), "embeddings without its last axis")
    references = options.get("references")
    if references is not None:
        references = as_rows(references, name="references")
        if references.shape[1] != embeddings.shape[1]:
            raise ValueError(
                "references must have the features of embeddings, got references"
                f" {references.shape} and embeddings {embeddings.shape}."
            )
        dtype = jnp.promote_types(embeddings.dtype, references.dtype)
        embeddings, references = embeddings.astype(dtype), references.astype(dtype)
    axes, devices = as_batch_axes(options)
    m = n if references is None else len(references)

    memory = options.get("memory")
    if memory is not None:
        check_memory(memory, embeddings)
    check_flag("memory_positives", options.get("memory_positives", False))
    pairs = options.get("pairs")
    if (labels is None) == (pairs is None):
        given = "neither" if labels is None else "both"
        raise ValueError(
            "labels or pairs must be given, one of the two, to say which pairs are"
            f" positive, got {given}."
        )
    if pairs is not None:
        pairs = as_masks(pairs, (devices * n, m))
        if memory is not None:
            raise ValueError(
                "pairs has no masks for the rows of a memory: give labels in its"
                " place, or the rows as references with masks of their own."
            )
    labels, reference_labels = _as_both_labels(
        labels, options.get("reference_labels"), embeddings, references
    )
    if memory is not None and labels is not None and labels.ndim == 2:
        raise TypeError(
            "labels must be integer with a memory, whose labels are integers; give"
            " sets of labels with references in its place."
        )

    self_index = options.get("self_index")
    reference_where = options.get("reference_where")
    if references is None and (self_index is not None or reference_where is not None):
        name = "reference_where" if self_index is None else "self_index"
        raise ValueError(
            f"{name} must be given with references; without them the batch is compared"
            " with itself, where masks its rows, and no row is a pair of itself."
        )
    if self_index is not None:
        self_index = as_labels(self_index, (n,), "embeddings", name="self_index")
    if reference_where is not None:
        reference_where = as_array("reference_where", reference_where)
        if reference_where.dtype != jnp.bool_ or reference_where.shape != (m,):
            raise ValueError(
                f"reference_where must be boolean, ({m},), one for each reference, got"
                f" {reference_where.dtype} of shape {reference_where.shape}."
            )
    sides = [embeddings if references is None else references]
    if memory is not None:
        sides.append(memory.embeddings)
    batch = Batch(
        embeddings,
        labels,
        references,
        reference_labels,
        reference_where,
        self_index,
        pairs,
        where,
        memory,
    )
    return batch, as_plan(embeddings, sides, axes, options)


def as_batch_axes(options: PairOptions) -> tuple[tuple[str, ...], int]:
    """Mesh axes over which the batch is split, and how many devices they have."""
    axes = options.get("batch_axis") or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return axes, devices_along(axes, "batch_axis") if axes else 1


def as_plan(
    embeddings: jax.Array,
    sides: list[jax.Array],
    axes: tuple[str, ...],
    options: PairOptions,
) -> Plan:
    """The fixed options; ``sides`` are the rows of each group of references."""
    reduction = options.get("reduction", "mean")
    check_choice("reduction", reduction, ("mean", "none"))
    block_size = options.get("block_size")
    rows = as_blocks(block_size, embeddings)
    tilings = tuple(Tiling(rows, as_blocks(block_size, x), axes) for x in sides)
    memory_positives = bool(options.get("memory_positives", False))
    return Plan(memory_positives, reduction, tilings, axes, options.get("precision"))


def as_masks(pairs: Masks, shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """The masks as arrays; raises unless they are two, boolean and of the shape."""
    if not isinstance(pairs, (tuple, list)) or len(pairs) != 2:
        raise TypeError(
            "pairs must be two masks, (is_positive, is_negative), got"
            f" {type(pairs).__name__}."
        )
    masks = as_array("pairs[0]", pairs[0]), as_array("pairs[1]", pairs[1])
    for mask in masks:
        if mask.dtype != jnp.bool_:
            raise TypeError(f"pairs must be boolean masks, got dtype {mask.dtype}.")
        if mask.shape != shape:
            raise ValueError(
                f"pairs must be masks {shape}, a row for each anchor or query, a column"
                f" for each reference or key, got shape {mask.shape}."
            )
    return masks


def _as_both_labels(labels, reference_labels, embeddings, references):
    """Labels of anchors and references, integers or sets of labels on both sides."""
    if reference_labels is not None and (references is None or labels is None):
        missing = "references" if references is None else "labels"
        raise ValueError(f"reference_labels must be given with {missing}.")
    if labels is None:
        return None, None
    if references is not None and reference_labels is None:
        raise ValueError(
            "reference_labels must be given with references, or pairs in the place of"
            " labels."
        )
    labels = _as_labels_or_sets("labels", labels, embeddings, "embeddings")
    if references is None or reference_labels is None:
        return labels, None
    others = _as_labels_or_sets(
        "reference_labels", reference_labels, references, "references"
    )
    if labels.shape[1:] != others.shape[1:]:
        raise ValueError(
            "reference_labels must be of the kind of labels, integers or sets of as"
            f" many classes, got labels {labels.shape} and reference_labels"
            f" {others.shape}."
        )
    return labels, others


def _as_labels_or_sets(name, labels, rows, of) -> jax.Array:
    # NumPy narrows nothing.
    given = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if given.dtype == np.bool_:
        if given.ndim != 2 or len(given) != len(rows):
            raise ValueError(
                f"{name} must be integers ({len(rows)},), or sets of labels,"
                f" ({len(rows)}, classes), got {given.dtype} of shape {given.shape}."
            )
        return jnp.asarray(given)
    if given.ndim == 2 and jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be boolean as sets of labels, [n, classes], or integers [n],"
            f" got {given.dtype} of shape {given.shape}: {name}.astype(bool) if they"
            " are zeros and ones, jax.nn.one_hot(..., dtype=bool) of indices."
        )
    return as_labels(labels, rows.shape[:-1], of, name=name)


class _Anchors(NamedTuple):
    """One side of the matrix of pairs, an entry for each anchor."""

    vectors: jax.Array  # [n, features]
    labels: jax.Array | None
    is_kept: jax.Array  # [n]
    number: jax.Array  # which anchor of all devices it is, [n]
    self_index: jax.Array  # which reference of all devices it is, -1 for no one, [n]


class _References(NamedTuple):
    """The other side of the matrix of pairs, an entry for each reference."""

    vectors: jax.Array  # [m, features]
    labels: jax.Array | None
    is_kept: jax.Array  # [m]
    number: jax.Array  # which reference of all devices it is; -2 in a memory, [m]
    may_be_positive: jax.Array | None  # [m]
    masks: tuple[jax.Array, jax.Array] | None  # of its pairs with all anchors, [m, n]


@dataclasses.dataclass(frozen=True)
class Tile:
    """Some anchors against some references, ``[r, c]``."""

    products: jax.Array  # cosines or inner products, float32 at least
    is_positive: jax.Array
    is_negative: jax.Array
    resolution: float  # distance below which the inputs' rounding decides

    @property
    def squared_distances(self) -> jax.Array:
        r"""Squared distances of the directions, :math:`\|\hat x - \hat y\|^2`."""
        return 2.0 - 2.0 * self.products

    @property
    def distances(self) -> jax.Array:
        """Distances of the directions; zero gradient where they coincide.

        They are formed from cosines, so that a distance below 1e-3 (float32) has lost
        its digits; its gradient still points the right way and is bounded. Directions
        closer than a few ulps of the inputs count as coincident: the product of the
        backward pass, in the inputs' dtype, would return nothing but its rounding for
        them.
        """
        squared = self.squared_distances
        is_resolved = squared > self.resolution**2
        # Rounding takes only unresolved distances below 0; NaN stays NaN.
        unresolved = jax.lax.stop_gradient(jnp.maximum(squared, 0.0))
        return safe_sqrt(jnp.where(is_resolved, squared, unresolved))

    def positives(self, values: jax.Array) -> jax.Array:
        """The values of the positive pairs as exponents of a log-sum-exp."""
        return jnp.where(self.is_positive, values, jnp.finfo(values.dtype).min)

    def negatives(self, values: jax.Array) -> jax.Array:
        """The values of the negative pairs as exponents of a log-sum-exp."""
        return jnp.where(self.is_negative, values, jnp.finfo(values.dtype).min)

    def count(self, mask: jax.Array) -> jax.Array:
        """A mask as numbers that can be added up."""
        return mask.astype(self.products.dtype)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """All pairs of an anchor and a reference, and the ways to reduce them."""

    anchors: _Anchors
    groups: tuple[_References, ...]  # the references, then the rows of a memory
    weights: jax.Array  # of the anchors, 0 where masked, [n]
    is_wrong: jax.Array | None  # anchors whose arguments contradict each other, [n]
    plan: Plan
    normalize: bool

    def reduce(
        self,
        terms: Callable[[Tile, Any, Any, Any], Terms],
        shared: Any = (),
        rows: Any = (),
        columns: tuple[Any, ...] | None = None,
    ) -> Terms:
        """Reduces what the pairs of each anchor contribute to it.

        Args:
            terms: ``terms(tile, shared, rows, columns)`` gives what a tile contributes
                to its anchors. It depends on differentiated arrays through its
                arguments alone, and leaves out pairs that are in neither mask.
            shared: Pytree of arrays for all tiles, such as hyperparameters.
            rows: Pytree of arrays with an entry for each anchor, ``[n, ...]``.
            columns: For each group of references a pytree of arrays with an entry for
                each of them.

        Returns:
            The reduced terms, ``[n]`` each.
        """
        return _total([found for found, _ in self._each(terms, shared, rows, columns)])

    def reduce_both(
        self, terms: Callable[[Tile, Any, Any, Any], Terms], shared: Any = ()
    ) -> tuple[Terms, tuple[Terms, ...]]:
        """Reduces what pairs contribute to their anchors, and to their references.

        In one sweep: the terms of anchors, as of :meth:`reduce`, and the same terms of
        each group of references.
        """
        each = self._each(terms, shared, has_both=True)
        return _total([found for found, _ in each]), tuple(found for _, found in each)

    def _each(
        self, terms, shared, rows=(), columns=None, *, has_both=False
    ) -> list[tuple[Terms, Terms]]:
        """The terms of the anchors and of the references, group by group."""
        columns = columns or ((),) * len(self.groups)
        if self._is_whole:
            each = [
                terms(tile, shared, rows, more)
                for tile, more in zip(self._tiles, columns, strict=True)
            ]
            return [
                (reduced(new), reduced(new, axis=-2) if has_both else Terms())
                for new in each
            ]

        def of_tile(rows, columns, shared):
            tile = self._tile(rows[0], columns[0])
            return terms(tile, shared, rows[1], columns[1])

        return [
            reduce_tiles(
                of_tile,
                tiling,
                (self.anchors, rows),
                (group, more),
                shared,
                has_both=has_both,
            )
            for group, tiling, more in zip(
                self.groups, self.plan.tilings, columns, strict=True
            )
        ]

    def map_anchors(
        self,
        function: Callable[[Tile, Any, Any], Any],
        shared: Any = (),
        rows: Any = (),
    ) -> Any:
        """What ``function(tile, shared, rows)`` gives for each anchor, ``[n]`` each.

        The tiles have all references, for objectives that compare more than two rows.
        In the blocked form a tile has as many entries as elsewhere, and fewer anchors.
        References of other devices are gathered.
        """
        if self._is_whole:
            return function(_beside(self._tiles), shared, rows)
        groups, blocks = self.groups, self.plan.tilings[0].rows
        if self.plan.axes:
            groups = jax.tree.map(
                lambda x: jax.lax.all_gather(x, self.plan.axes, tiled=True), groups
            )
        if blocks is not None:
            references = sum(len(group.is_kept) for group in groups)
            size = blocks.size * blocks.size * blocks.shards // max(references, 1)
            blocks = blocks._replace(size=min(max(size, 1), blocks.size))

        def of_rows(rows, others):
            groups, shared = others
            tiles = [self._tile(rows[0], group) for group in groups]
            return function(_beside(tiles), shared, rows[1])

        return map_rows(of_rows, blocks, (self.anchors, rows), (groups, shared))

    def mean(self, totals: jax.Array, counts: jax.Array) -> jax.Array:
        """Mean over all anchors, ``totals / counts``, each summed with their weights.

        0, with zero gradient, if nothing counts. If the loss is not reduced, the mean
        of each anchor.
        """
        if self.is_wrong is not None:
            totals = jnp.where(self.is_wrong, jnp.nan, totals)
        if self.plan.reduction == "none":
            return divide(totals, counts)
        return divide(self.total(totals), self.total(counts))

    def total(self, values: jax.Array) -> jax.Array:
        """Sum over the anchors of all devices, with their weights."""
        total = dot(self.weights, values)
        return jax.lax.psum(total, self.plan.axes) if self.plan.axes else total

    @property
    def _is_whole(self) -> bool:
        return self.plan.tilings[0] == Tiling()

    @cached_property
    def _tiles(self) -> list[Tile]:
        """All pairs at once, with each group of references."""
        return [self._tile(self.anchors, group) for group in self.groups]

    def _tile(self, anchors: _Anchors, references: _References) -> Tile:
        """The one place where anchors meet references."""
        sides = anchors.vectors, references.vectors
        lengths = (length(widen(x)) for x in sides) if self.normalize else (None, None)
        products = inner_products(*sides, *lengths, precision=self.plan.precision)
        is_pair = anchors.is_kept[:, None] & references.is_kept[None, :]
        is_pair &= anchors.self_index[:, None] != references.number[None, :]
        if references.masks is not None:
            if len(anchors.number) == references.masks[0].shape[1]:  # all, in order
                is_positive, is_negative = (mask.T for mask in references.masks)
            else:
                is_positive, is_negative = (
                    mask[:, anchors.number].T for mask in references.masks
                )
        else:
            is_positive = _share_labels(anchors.labels, references.labels)
            is_negative = ~is_positive
            if references.may_be_positive is not None:
                is_positive &= references.may_be_positive[None, :]
        resolution = 4.0 * float(jnp.finfo(anchors.vectors.dtype).eps)
        return Tile(products, is_pair & is_positive, is_pair & is_negative, resolution)


def _total(each: list[Terms]) -> Terms:
    """The reduced terms of all groups together."""
    total = each[0]
    for other in each[1:]:
        total = combined(total, other)
    return total


def compare(batch: Batch, plan: Plan, *, normalize: bool = True) -> Pairs:
    """All pairs of an anchor and a reference, by cosines or by inner products."""
    n = len(batch.embeddings)
    is_kept = jnp.full(n, True) if batch.where is None else batch.where.astype(bool)
    vectors = zero_masked(batch.embeddings, batch.where)
    devices = jax.lax.axis_size(plan.axes) if plan.axes else 1
    place = jax.lax.axis_index(plan.axes) if plan.axes else jnp.int32(0)
    number = place * n + jnp.arange(n, dtype=jnp.int32)
    is_wrong = []
    masks = batch.pairs
    if masks is not None:
        is_both = jnp.any(masks[0] & masks[1], axis=1)
        if plan.axes:
            is_both = jax.lax.psum(is_both.astype(jnp.int32), plan.axes)[number] > 0
        is_wrong.append(is_both)
        masks = masks[0].T, masks[1].T

    if batch.references is None:
        self_index = number
        group = _References(vectors, batch.labels, is_kept, number, None, masks)
    else:
        m = len(batch.references)
        self_index = jnp.full(n, -1, jnp.int32)
        if batch.self_index is not None:
            found, is_one = as_classes(batch.self_index, devices * m)
            is_wrong.append(~is_one & ~are_equal(batch.self_index, self_index))
            self_index = jnp.where(is_one, found, -1)
        is_reference = jnp.full(m, True)
        if batch.reference_where is not None:
            is_reference = batch.reference_where
        group = _References(
            zero_masked(batch.references, batch.reference_where),
            batch.reference_labels,
            is_reference,
            place * m + jnp.arange(m, dtype=jnp.int32),
            None,
            masks,
        )
    groups = [group]
    if batch.memory is not None:
        stored = jax.lax.stop_gradient(batch.memory.embeddings).astype(vectors.dtype)
        size = len(stored)
        groups.append(
            _References(
                stored,
                batch.memory.labels,
                jnp.arange(size) < batch.memory.filled,
                jnp.full(size, -2, jnp.int32),
                None if plan.memory_positives else jnp.full(size, False),
                None,
            )
        )
    weights = (is_kept if batch.where is None else batch.where).astype(batch.dtype)
    wrong = None
    if is_wrong:
        wrong = is_kept & jnp.any(jnp.stack(is_wrong), axis=0)
    anchors = _Anchors(vectors, batch.labels, is_kept, number, self_index)
    return Pairs(anchors, tuple(groups), weights, wrong, plan, normalize)


def _share_labels(labels, others) -> jax.Array:
    """Which rows are of one class, or share a label of their sets."""
    if labels.ndim == 1:
        return are_equal(labels[:, None], others[None, :])
    shared = jax.lax.dot_general(
        labels.astype(jnp.float32),
        others.astype(jnp.float32),
        (((1,), (1,)), ((), ())),
    )
    return shared > 0.5


def _beside(tiles: list[Tile]) -> Tile:
    """Tiles of the same anchors as one."""
    if len(tiles) == 1:
        return tiles[0]
    return Tile(
        jnp.concatenate([tile.products for tile in tiles], axis=1),
        jnp.concatenate([tile.is_positive for tile in tiles], axis=1),
        jnp.concatenate([tile.is_negative for tile in tiles], axis=1),
        tiles[0].resolution,
    )


def softmax_terms(tile: Tile, scale: jax.Array, *_: Any) -> Terms:
    """What pairs contribute to a softmax over all pairs of an anchor.

    Sums are the logits of the positives and their number; exponents are the logits of
    positives and of negatives.
    """
    logits = scale * tile.products
    return Terms(
        (jnp.where(tile.is_positive, logits, 0.0), tile.count(tile.is_positive)),
        (tile.positives(logits), tile.negatives(logits)),
    )


def mean_log_loss(found: Terms) -> jax.Array:
    """Mean over an anchor's positives of ``-log softmax``, from :func:`softmax_terms`.

    It means nothing for an anchor without a positive.
    """
    (total, count), (positives, negatives), _ = found
    # log(sum over all / sum over positives): a small loss keeps its digits.
    losses = jax.nn.softplus(negatives - positives)
    return losses + positives - divide(total, count)


def mean_cross_entropy(
    logits: Callable[[Tile, Any], jax.Array], pairs: Pairs, shared: Any = ()
) -> jax.Array:
    """Mean over the positive pairs of ``log(1 + sum_n exp(logit_n - logit_p))``."""

    def of_negatives(tile, shared, *_):
        return Terms(exponents=tile.negatives(logits(tile, shared)))

    def of_positives(tile, shared, negatives, _):
        losses = jax.nn.softplus(negatives[:, None] - logits(tile, shared))
        losses = jnp.where(tile.is_positive, losses, 0.0)
        return Terms(sums=(losses, tile.count(tile.is_positive)))

    negatives = pairs.reduce(of_negatives, shared).exponents
    return pairs.mean(*pairs.reduce(of_positives, shared, negatives).sums)
