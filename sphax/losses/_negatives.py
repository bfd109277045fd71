"""Log-sum-exp over the classes that are not the target, plain or blocked.

Both forms share :func:`_block_logits`, which says what the logits of a block of classes
are; the plain form is one block that the compiler differentiates, the blocked one forms
the logits of every block again in its backward pass.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._norms import length, widen
from sphax._products import inverse_lengths, products
from sphax.margins import Margin, NoMargin

Normalize = Literal["both", "prototypes", "none"]


class Form(NamedTuple):
    """What is fixed when the loss is traced."""

    normalize: Normalize
    is_detached: bool
    precision: Any


class Rows(NamedTuple):
    """What the logits of the other classes depend on, example by example."""

    vectors: jax.Array  # embeddings, [..., features]
    inverses: jax.Array | None  # of their lengths, if only their directions count
    radius: jax.Array  # what a cosine is multiplied by; [] or [...]
    angle: jax.Array  # to the target, [...]
    margin: Margin


class Negatives(NamedTuple):
    """The other classes, as far as the loss and its log entries need them."""

    log_sum: jax.Array  # log-sum-exp of their logits, [...]
    nearest: jax.Array  # largest of their logits before the margin, no gradient, [...]


class _Block(NamedTuple):
    """Some of the classes."""

    prototypes: jax.Array
    inverses: jax.Array | None  # of their lengths, if only their directions count


def make_rows(
    form: Form,
    vectors: jax.Array,
    radius: jax.Array,
    angle: jax.Array,
    margin: Margin,
) -> Rows:
    """Rows with what this form of the loss needs of them."""
    if not margin.edits_others:
        margin = NoMargin()
    is_scaled = margin.edits_others or form.normalize == "both"
    inverses = inverse_lengths(vectors) if is_scaled else None
    # Arrays, since the blocked form has a gradient to return for every leaf.
    margin = jax.tree.map(jnp.asarray, margin)
    return Rows(vectors, inverses, radius, angle, margin)


def plain_negatives(
    form: Form, rows: Rows, prototypes: jax.Array, labels: jax.Array
) -> Negatives:
    """All classes at once."""
    classes = _all_classes(form, rows, prototypes)
    logits, plain = _block_logits(form, rows, classes, labels)
    nearest = jnp.max(jax.lax.stop_gradient(plain), axis=-1)
    return Negatives(jax.nn.logsumexp(logits, axis=-1), nearest)


def _all_classes(form, rows, prototypes):
    is_scaled = rows.margin.edits_others or form.normalize != "none"
    return _Block(prototypes, inverse_lengths(prototypes) if is_scaled else None)


def _block_logits(form, rows, block, labels):
    """Logits of a block of classes, and what they are without a margin.

    ``labels`` counts from the first class of the block. The target's own logit is
    lowered to the smallest number, where it has no weight and no gradient.
    """
    scaled = products(
        rows.vectors, block.prototypes, rows.inverses, block.inverses, form.precision
    )
    radius = jnp.broadcast_to(rows.radius, rows.angle.shape)[..., None]
    if rows.margin.edits_others:
        logits, plain = _edited(form, rows, block, radius, scaled)
    else:
        plain = logits = radius * scaled if form.normalize == "both" else scaled
    classes = jnp.arange(plain.shape[-1], dtype=labels.dtype)
    is_target = labels[..., None] == jnp.expand_dims(classes, range(labels.ndim))
    lowest = jnp.finfo(plain.dtype).min
    return jnp.where(is_target, lowest, logits), jnp.where(is_target, lowest, plain)


def _edited(form, rows, block, radius, cosines):
    edited = rows.margin.others(cosines, rows.angle)
    if form.is_detached:
        edited = cosines + jax.lax.stop_gradient(edited - cosines)
    if form.normalize == "none":
        lengths = length(widen(block.prototypes))
        radius = radius * jnp.expand_dims(lengths, range(radius.ndim - 1))
    return radius * edited, radius * cosines


def _blocked_negatives(
    form: Form,
    block_size: int,
    rows: Rows,
    prototypes: jax.Array,
    labels: jax.Array,
) -> Negatives:
    """``block_size`` classes at a time; no array of all the logits at any time."""
    classes = _all_classes(form, rows, prototypes)

    def add_block(carry, start, size):
        top, total, nearest = carry
        block = _slice(classes, start, size)
        logits, plain = _block_logits(form, rows, block, labels - start)
        new_top = jnp.maximum(top, jnp.max(logits, axis=-1))
        powers = jnp.exp(logits - new_top[..., None])
        total = total * jnp.exp(top - new_top) + jnp.sum(powers, axis=-1)
        return new_top, total, jnp.maximum(nearest, jnp.max(plain, axis=-1))

    lowest = jnp.full_like(rows.angle, jnp.finfo(rows.angle.dtype).min)
    carry = (lowest, jnp.zeros_like(lowest), lowest)
    top, total, nearest = _over_blocks(
        add_block, carry, prototypes.shape[0], block_size
    )
    return Negatives(top + jnp.log(total), nearest)


blocked_negatives = jax.custom_vjp(_blocked_negatives, nondiff_argnums=(0, 1))


def _blocked_forward(form, block_size, rows, prototypes, labels):
    out = _blocked_negatives(form, block_size, rows, prototypes, labels)
    return out, (rows, prototypes, labels, out.log_sum)


def _blocked_backward(form, block_size, residuals, cotangents):
    rows, prototypes, labels, log_sum = residuals
    classes = _all_classes(form, rows, prototypes)

    def add_block(carry, start, size):
        of_rows, of_prototypes = carry
        block = _slice(classes, start, size)
        logits, pull_back = jax.vjp(
            lambda rows, block: _block_logits(form, rows, block, labels - start)[0],
            rows,
            block,
        )
        weights = jnp.exp(logits - log_sum[..., None])
        more, of_block = pull_back(weights * cotangents.log_sum[..., None])
        of_rows = jax.tree.map(jnp.add, of_rows, more)
        of_prototypes = jax.lax.dynamic_update_slice_in_dim(
            of_prototypes, of_block.prototypes, start, 0
        )
        return of_rows, of_prototypes

    # Summed over the blocks, so in float32 at least.
    of_rows = jax.tree.map(lambda x: widen(jnp.zeros_like(x)), rows)
    of_rows, of_prototypes = _over_blocks(
        add_block,
        (of_rows, jnp.zeros_like(prototypes)),
        prototypes.shape[0],
        block_size,
    )
    of_rows = jax.tree.map(lambda g, x: g.astype(x.dtype), of_rows, rows)
    return of_rows, of_prototypes, None


blocked_negatives.defvjp(_blocked_forward, _blocked_backward)


def _slice(classes, start, size):
    return jax.tree.map(
        lambda rows: jax.lax.dynamic_slice_in_dim(rows, start, size), classes
    )


def _over_blocks(add_block, carry, classes, block_size):
    """Folds ``add_block(carry, start, size)`` over the classes, the last one short."""
    whole, rest = divmod(classes, block_size)
    if whole:
        carry, _ = jax.lax.scan(
            lambda carry, i: (add_block(carry, i * block_size, block_size), None),
            carry,
            jnp.arange(whole, dtype=jnp.int32),
        )
    return add_block(carry, whole * block_size, rest) if rest else carry
