"""Log-sum-exp over the classes that are not the target, plain or blocked.

Both forms share :func:`_block_logits`, which says what the logits of a block of classes
are; the plain form is one block that the compiler differentiates, the blocked one forms
the logits of every block again in its backward pass.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._numerics import widen
from sphax.losses._blocks import Blocks, fold_blocks, pull_back_blocks
from sphax.losses._subcenters import nearest_products
from sphax.margins import Margin, NoMargin
from sphax.sphere import length

Normalize = Literal["both", "prototypes", "none"]


class Form(NamedTuple):
    """What is fixed when the loss is traced."""

    normalize: Normalize
    is_detached: bool
    is_smoothed: bool
    precision: Any


class Rows(NamedTuple):
    """What the logits of the other classes depend on, example by example."""

    vectors: jax.Array  # embeddings, [..., features]
    lengths: jax.Array | None  # if only their directions count
    radius: jax.Array  # what a cosine is multiplied by; [] or [...]
    angle: jax.Array  # to the target, [...]
    margin: Margin


class Negatives(NamedTuple):
    """The other classes, as far as the loss and its log entries need them."""

    log_sum: jax.Array  # log-sum-exp of their logits, [...]
    nearest: jax.Array  # largest of their logits before the margin, no gradient, [...]
    total: jax.Array | None  # sum of their logits before the margin, if asked for


class _Block(NamedTuple):
    """Some of the classes."""

    prototypes: jax.Array
    lengths: jax.Array | None  # if only their directions count


class _Logits(NamedTuple):
    """Of a block of classes; lowest for the target, where it is in the block."""

    modified: jax.Array  # [..., classes]
    plain: jax.Array  # without a margin
    total: jax.Array | None  # of the plain ones but the target's, if asked for


def make_rows(
    form: Form,
    vectors: jax.Array,
    radius: jax.Array,
    angle: jax.Array,
    margin: Margin,
) -> Rows:
    """Rows with what this form of the loss needs of them."""
    if not margin.modifies_negatives:
        margin = NoMargin()
    is_scaled = margin.modifies_negatives or form.normalize == "both"
    lengths = length(widen(vectors)) if is_scaled else None
    # Arrays, since the blocked form has a gradient to return for every leaf.
    margin = jax.tree.map(jnp.asarray, margin)
    return Rows(vectors, lengths, radius, angle, margin)


def negatives(
    form: Form,
    blocks: Blocks | None,
    rows: Rows,
    prototypes: jax.Array,
    labels: jax.Array,
) -> Negatives:
    """The classes that are not the target, all at once or block by block."""
    if blocks is None:
        return _plain_negatives(form, rows, prototypes, labels)
    return _blocked(form, blocks, rows, prototypes, labels)


def _plain_negatives(
    form: Form, rows: Rows, prototypes: jax.Array, labels: jax.Array
) -> Negatives:
    """All classes at once."""
    classes = _all_classes(form, rows, prototypes)
    modified, plain, total = _block_logits(form, rows, classes, labels)
    nearest = jnp.max(jax.lax.stop_gradient(plain), axis=-1)
    return Negatives(jax.nn.logsumexp(modified, axis=-1), nearest, total)


def _all_classes(form, rows, prototypes):
    is_scaled = rows.margin.modifies_negatives or form.normalize != "none"
    return _Block(prototypes, length(widen(prototypes)) if is_scaled else None)


def _block_logits(form, rows, block, labels):
    """Logits of a block of classes; ``labels`` counts from the first of them.

    The target's own logit is lowered to the smallest number, where it has no weight and
    no gradient.
    """
    scaled = nearest_products(
        rows.vectors, block.prototypes, rows.lengths, block.lengths, form.precision
    )
    radius = jnp.broadcast_to(rows.radius, rows.angle.shape)[..., None]
    if rows.margin.modifies_negatives:
        modified, plain = _edited(form, rows, block, radius, scaled)
    else:
        plain = modified = radius * scaled if form.normalize == "both" else scaled
    classes = jnp.arange(plain.shape[-1], dtype=labels.dtype)
    is_target = labels[..., None] == jnp.expand_dims(classes, range(labels.ndim))
    lowest = jnp.finfo(plain.dtype).min
    total = jnp.sum(plain, axis=-1, where=~is_target) if form.is_smoothed else None
    return _Logits(
        jnp.where(is_target, lowest, modified),
        jnp.where(is_target, lowest, plain),
        total,
    )


def _edited(form, rows, block, radius, cosines):
    edited = rows.margin.negatives(cosines, rows.angle)
    if form.is_detached:
        edited = cosines + jax.lax.stop_gradient(edited - cosines)
    if form.normalize == "none":
        lengths = length(widen(block.prototypes))
        radius = radius * jnp.expand_dims(lengths, range(radius.ndim - 1))
    return radius * edited, radius * cosines


def _blocked_negatives(
    form: Form,
    blocks: Blocks,
    rows: Rows,
    prototypes: jax.Array,
    labels: jax.Array,
) -> Negatives:
    """A block of classes at a time; no array of all the logits at any time."""

    def add_block(carry, block, start):
        top, powers, nearest, total = carry
        modified, plain, added = _block_logits(form, rows, block, labels - start)
        new_top = jnp.maximum(top, jnp.max(modified, axis=-1))
        more = jnp.sum(jnp.exp(modified - new_top[..., None]), axis=-1)
        nearest = jnp.maximum(nearest, jnp.max(plain, axis=-1))
        total = jax.tree.map(jnp.add, total, added)
        return new_top, powers * jnp.exp(top - new_top) + more, nearest, total

    lowest = jnp.full_like(rows.angle, jnp.finfo(rows.angle.dtype).min)
    zero = jnp.zeros_like(lowest)
    carry = (lowest, zero, lowest, zero if form.is_smoothed else None)
    classes = _all_classes(form, rows, prototypes)
    top, powers, nearest, total = fold_blocks(add_block, carry, classes, blocks)
    return Negatives(
        jax.nn.logsumexp(top + jnp.log(powers), axis=0),
        jnp.max(nearest, axis=0),
        jnp.sum(total, axis=0) if form.is_smoothed else None,
    )


_blocked = jax.custom_vjp(_blocked_negatives, nondiff_argnums=(0, 1))


def _blocked_forward(form, blocks, rows, prototypes, labels):
    out = _blocked_negatives(form, blocks, rows, prototypes, labels)
    return out, (rows, prototypes, labels, out.log_sum)


def _blocked_backward(form, blocks, residuals, cotangents):
    rows, prototypes, labels, log_sum = residuals

    def of_block(rows, block, start):
        logits = _block_logits(form, rows, block, labels - start)
        return logits.modified, logits.total

    def cotangent_of(value):
        weights = jnp.exp(value[0] - log_sum[..., None])
        return weights * cotangents.log_sum[..., None], cotangents.total

    classes = _all_classes(form, rows, prototypes)
    of_rows, of_classes = pull_back_blocks(
        of_block, cotangent_of, rows, classes, blocks
    )
    return of_rows, of_classes.prototypes, None


_blocked.defvjp(_blocked_forward, _blocked_backward)
