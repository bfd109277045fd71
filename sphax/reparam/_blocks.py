"""Block-diagonal orthogonal matrices: which blocks, on which coordinates.

Products go block by block: nothing of the size of the whole matrix is formed.
"""

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp

from sphax._checks import check_count

# Number of factors, of blocks in each, and of coordinates in each of these.
Shape = tuple[int, int, int]


class Plan(Protocol):
    """The blocks for a space of ``d`` dimensions, hashable."""

    def shape(self, d: int) -> Shape | None:
        """Their number and size; None where the dimension has no such blocks."""
        ...

    def order(self, key: jax.Array, d: int) -> jax.Array | None:
        """The coordinates in each, ``[factors, blocks, b]``; None as they come."""
        ...


@dataclasses.dataclass(frozen=True)
class Contiguous:
    """Neighbors together, in blocks of the largest size that leaves nothing over."""

    block_size: int | None

    def __post_init__(self):
        """Checks the size."""
        check_block_size(self.block_size)

    def shape(self, d: int) -> Shape | None:
        """One factor."""
        largest = d if self.block_size is None else min(self.block_size, d)
        size = next(size for size in range(largest, 0, -1) if d % size == 0)
        return None if size == 1 else (1, d // size, size)

    def order(self, key: jax.Array, d: int) -> None:
        """As they come."""
        del key, d


@dataclasses.dataclass(frozen=True)
class Butterfly:
    """Factors that join halves of blocks, each time twice as far from one another.

    In factor i, counted from 0, a block has the chunks c and c + 2^i of ``b / 2``
    neighbors each: those that differ in bit i of their number.
    """

    block_size: int
    factors: int

    def __post_init__(self):
        """Checks the sizes."""
        check_count("block_size", self.block_size, 2)
        check_count("factors", self.factors)
        if self.factors > 1 and self.block_size % 2:
            raise ValueError(
                "block_size must be even where there are several factors, which join"
                f" halves of blocks, got {self.block_size}."
            )

    def shape(self, d: int) -> Shape | None:
        """Blocks of the largest size, even if halved, that leaves nothing over."""
        groups = 2 ** (self.factors - 1)
        step = 1 if self.factors == 1 else 2
        largest = min(self.block_size, d)
        for size in range(largest - largest % step, 1, -step):
            if d % (size * groups) == 0:
                return self.factors, d // size, size
        return None

    def order(self, key: jax.Array, d: int) -> jax.Array | None:
        """The chunks of each block, the first one first."""
        del key
        if self.factors == 1:
            return None
        factors, blocks, size = self.shape(d) or (0, 0, 0)
        half = size // 2
        orders = []
        for i in range(factors):
            chunks = jnp.arange(d, dtype=jnp.int32).reshape(-1, 2, 2**i, half)
            orders.append(chunks.swapaxes(1, 2).reshape(blocks, size))
        return jnp.stack(orders)


@dataclasses.dataclass(frozen=True)
class Digits:
    """In factor i, the coordinates whose numbers to base b differ in digit i only."""

    block_size: int
    factors: int

    def __post_init__(self):
        """Checks the sizes."""
        check_count("block_size", self.block_size, 2)
        check_count("factors", self.factors)

    def shape(self, d: int) -> Shape | None:
        """Blocks of the largest size whose power leaves nothing over."""
        for size in range(min(self.block_size, d), 1, -1):
            if d % size**self.factors == 0:
                return self.factors, d // size, size
        return None

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """Coordinates with all digits but one in common."""
        del key
        factors, blocks, size = self.shape(d) or (0, 0, 0)
        orders = []
        for i in range(factors):
            digits = jnp.arange(d, dtype=jnp.int32).reshape(-1, size, size**i)
            orders.append(digits.swapaxes(1, 2).reshape(blocks, size))
        return jnp.stack(orders)


@dataclasses.dataclass(frozen=True)
class RandomBlocks:
    """Disjoint blocks of random coordinates, of which less than one block is left."""

    block_size: int

    def __post_init__(self):
        """Checks the size."""
        check_count("block_size", self.block_size, 2)

    def shape(self, d: int) -> Shape:
        """As many as fit."""
        size = min(self.block_size, d)
        return 1, d // size, size

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """A random permutation, cut into blocks."""
        return _permuted(key, d, self.shape(d))


@dataclasses.dataclass(frozen=True)
class RandomSubset:
    """One block of random coordinates: a fraction of them, at most so many."""

    fraction: float = 1.0
    at_most: int | None = None

    def shape(self, d: int) -> Shape:
        """Two coordinates at least."""
        size = max(2, round(self.fraction * d))
        return 1, 1, size if self.at_most is None else min(size, self.at_most)

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """Without replacement."""
        return _permuted(key, d, self.shape(d))


def check_block_size(block_size: int | None) -> None:
    """Raises unless blocks of the size can rotate."""
    if block_size is not None:
        check_count("block_size", block_size, 2)


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


def _permuted(key, d, shape):
    return jax.random.permutation(key, d)[: math.prod(shape)].reshape(shape)
