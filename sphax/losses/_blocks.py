"""Many classes, some at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._norms import widen


def fold_blocks(
    add_block: Callable[[Any, Any, Any], Any],
    carry: Any,
    classes: Any,
    block_size: int,
) -> Any:
    """Folds ``add_block(carry, block, start)`` over blocks of classes, the last short.

    ``classes`` is a pytree of arrays with a row for each class, ``block`` the same of
    some of them, and ``start`` the number of the first.
    """

    def add(carry, start, size):
        block = jax.tree.map(
            lambda rows: jax.lax.dynamic_slice_in_dim(rows, start, size), classes
        )
        return add_block(carry, block, start)

    whole, rest = divmod(jax.tree.leaves(classes)[0].shape[0], block_size)
    if whole:
        carry, _ = jax.lax.scan(
            lambda carry, i: (add(carry, i * block_size, block_size), None),
            carry,
            jnp.arange(whole, dtype=jnp.int32),
        )
    return add(carry, whole * block_size, rest) if rest else carry


def pull_back_blocks(
    function: Callable[[Any, Any, Any], Any],
    cotangent_of: Callable[[Any], Any],
    rows: Any,
    classes: Any,
    block_size: int,
) -> tuple[Any, Any]:
    """Gradients of what is made of ``function(rows, block, start)`` over the blocks.

    ``cotangent_of(value)`` says what is passed back to a block with that value. The
    value is formed again, one block's at a time: no more is kept of the forward pass
    than ``rows`` and ``classes``.
    """

    def add_block(carry, block, start):
        of_rows, of_classes = carry
        value, pull_back = jax.vjp(
            lambda rows, block: function(rows, block, start), rows, block
        )
        more, of_block = pull_back(cotangent_of(value))
        of_rows = jax.tree.map(lambda g, m: g + m.astype(g.dtype), of_rows, more)
        of_classes = jax.tree.map(
            lambda g, b: jax.lax.dynamic_update_slice_in_dim(g, b, start, 0),
            of_classes,
            of_block,
        )
        return of_rows, of_classes

    # Summed over the blocks, so in float32 at least.
    of_rows = jax.tree.map(lambda x: widen(jnp.zeros_like(x)), rows)
    of_rows, of_classes = fold_blocks(
        add_block,
        (of_rows, jax.tree.map(jnp.zeros_like, classes)),
        classes,
        block_size,
    )
    return jax.tree.map(lambda g, x: g.astype(x.dtype), of_rows, rows), of_classes
