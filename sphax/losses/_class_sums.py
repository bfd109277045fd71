"""Sums over the classes that are not the target, plain or blocked.

What a class adds is a function of its product with the embedding. Both forms share
:func:`_block_sum`; the plain form is one block that the compiler differentiates, the
blocked one forms the products of every block again in its backward pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._numerics import widen
from sphax.losses._blocks import Blocks, fold_blocks, pull_back_blocks
from sphax.losses._examples import Examples
from sphax.losses._negatives import Normalize
from sphax.sphere import inner_products, length

# What classes add, elementwise, from parameters (a pytree of arrays) and products.
Term = Callable[[Any, jax.Array], jax.Array]


class _Form(NamedTuple):
    """What is fixed when the sum is traced."""

    term: Term
    normalize: Normalize
    precision: Any


class _Rows(NamedTuple):
    """What the terms depend on beside the prototypes."""

    vectors: jax.Array  # embeddings, [..., features]
    parameters: Any  # of the term


def sum_over_others(
    term: Term,
    parameters: Any,
    examples: Examples,
    prototypes: jax.Array,
    *,
    normalize: Normalize = "both",
    blocks: Blocks | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Sums :math:`\sum_{j \ne y}` of ``term(parameters, products)``, ``[...]``.

    ``products`` is ``[..., classes]``: cosines, products with directions, or plain
    products, as ``normalize`` says. ``term`` has to be finite for the target as well.
    """
    form = _Form(term, normalize, precision)
    rows = _Rows(examples.embeddings, parameters)
    if blocks is None:
        return _block_sum(form, rows, prototypes, examples.labels)
    return _blocked_sum(form, blocks, rows, prototypes, examples.labels)


def _block_sum(form, rows, block, labels):
    """Sum over a block of classes; ``labels`` counts from its first class."""
    length_rows = length(widen(rows.vectors)) if form.normalize == "both" else None
    length_block = None if form.normalize == "none" else length(widen(block))
    product = inner_products(
        rows.vectors, block, length_rows, length_block, precision=form.precision
    )
    terms = form.term(rows.parameters, product)
    classes = jnp.arange(block.shape[0], dtype=labels.dtype)
    is_target = labels[..., None] == jnp.expand_dims(classes, range(labels.ndim))
    return jnp.sum(jnp.where(is_target, 0.0, terms), axis=-1)


def _sum_of_blocks(form, blocks, rows, prototypes, labels):
    """A block of classes at a time; no array of all the products at any time."""

    def add_block(total, block, start):
        return total + _block_sum(form, rows, block, labels - start)

    dtype = jnp.promote_types(rows.vectors.dtype, jnp.float32)
    nothing = jnp.zeros_like(rows.vectors[..., 0], dtype=dtype)
    return jnp.sum(fold_blocks(add_block, nothing, prototypes, blocks), axis=0)


_blocked_sum = jax.custom_vjp(_sum_of_blocks, nondiff_argnums=(0, 1))


def _forward(form, blocks, rows, prototypes, labels):
    out = _sum_of_blocks(form, blocks, rows, prototypes, labels)
    return out, (rows, prototypes, labels)


def _backward(form, blocks, residuals, cotangent):
    rows, prototypes, labels = residuals
    of_rows, of_prototypes = pull_back_blocks(
        lambda rows, block, start: _block_sum(form, rows, block, labels - start),
        lambda _: cotangent,
        rows,
        prototypes,
        blocks,
    )
    return of_rows, of_prototypes, None


_blocked_sum.defvjp(_forward, _backward)
