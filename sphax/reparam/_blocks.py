"""Block-diagonal orthogonal matrices: which blocks, on which coordinates.

Products go block by block: nothing of the size of the whole matrix is formed.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Number of factors, of blocks in each, and of coordinates in each of these.
Shape = tuple[int, int, int]


class Plan(NamedTuple):
    """The blocks for a space of ``d`` dimensions.

    ``shape(d)`` is their number and size; ``order(key, d)`` has the coordinates in each
    of them, ``[factors, blocks, b]``, or is ``None`` if they are taken as they come.
    """

    shape: Callable[[int], Shape]
    order: Callable[[jax.Array, int], jax.Array | None]


def contiguous(block_size: int | None) -> Plan:
    """Neighbours together, in blocks of the largest size that leaves nothing over."""
    check_block_size(block_size)

    def shape(d):
        size = d if block_size is None else _largest_divisor(d, block_size)
        return 1, d // size, size

    return Plan(shape, lambda key, d: None)


def butterfly(block_size: int, factors: int) -> Plan:
    """In factor i, the coordinates whose numbers to base b differ in digit i only."""
    check_block_size(block_size)
    if factors < 1:
        raise ValueError(f"factors must be 1 or more, got {factors}.")

    def shape(d):
        if d % block_size**factors:
            raise ValueError(
                "block_size ** factors must divide the dimension of all neurons, got"
                f" {block_size} ** {factors} and {d}; leave kernels out by where."
            )
        return factors, d // block_size, block_size

    def order(key, d):
        del key
        digits = [
            jnp.arange(d).reshape(-1, block_size, block_size**i) for i in range(factors)
        ]
        return jnp.stack([x.swapaxes(1, 2).reshape(-1, block_size) for x in digits])

    return Plan(shape, order)


def random_blocks(block_size: int) -> Plan:
    """Disjoint blocks of random coordinates; of these, less than one block is left."""
    check_block_size(block_size)

    def shape(d):
        size = min(block_size, d)
        return 1, d // size, size

    return Plan(shape, _permuted(shape))


def random_subset(size: Callable[[int], int]) -> Plan:
    """One block, of ``size(d)`` random coordinates."""

    def shape(d):
        return 1, 1, size(d)

    return Plan(shape, _permuted(shape))


def check_block_size(block_size: int | None) -> None:
    """Raises unless blocks of the size can rotate."""
    if block_size is not None and block_size < 2:
        raise ValueError(f"block_size must be 2 or more, got {block_size}.")


def rotate(rows: jax.Array, rotations: jax.Array, order: jax.Array | None) -> jax.Array:
    """``[sets, n, d]`` times the transpose of each factor, the first factor first.

    Args:
        rows: As above.
        rotations: ``[sets, factors, blocks, b, b]``, or with one block for all.
        order: ``[factors, blocks, b]``, or None.
    """
    for factor in range(rotations.shape[1]):
        coordinates = None if order is None else order[factor]
        rows = _rotate_blocks(rows, rotations[:, factor], coordinates)
    return rows


def _rotate_blocks(rows, blocks, coordinates):
    if coordinates is None:
        taken = rows.reshape(*rows.shape[:-1], -1, blocks.shape[-1])
    else:
        taken = rows[..., coordinates]
    blocks = jnp.broadcast_to(blocks, (len(rows), taken.shape[-2], *blocks.shape[-2:]))
    turned = jnp.einsum("snbi,sbji->snbj", taken, blocks, precision="highest")
    if coordinates is None:
        return turned.reshape(rows.shape)
    return rows.at[..., coordinates].set(turned, unique_indices=True)


def _permuted(shape: Callable[[int], Shape]):
    def order(key, d):
        sizes = shape(d)
        return jax.random.permutation(key, d)[: math.prod(sizes)].reshape(sizes)

    return order


def _largest_divisor(d, block_size):
    size = max(k for k in range(1, min(block_size, d) + 1) if d % k == 0)
    if size == 1:
        raise ValueError(
            "block_size must be 2 or more, and the dimension of all neurons have such a"
            f" divisor up to it, got {block_size} and {d}; leave kernels out by where."
        )
    return size
