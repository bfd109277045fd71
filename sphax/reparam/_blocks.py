"""Block-diagonal orthogonal matrices: sizes of blocks, coordinates, and products."""

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp

from sphax._checks import check_count

# Factors, blocks in each factor, and coordinates in each block.
Shape = tuple[int, int, int]


class Blocks(Protocol):
    """A way to cut the coordinates of a space into blocks; hashable."""

    def shape(self, d: int) -> Shape | None:
        """Shape of raw arrays without the last axis; None if no block size fits."""
        ...

    def order(self, key: jax.Array, d: int) -> jax.Array | None:
        """Coordinates of each block, ``[factors, blocks, b]``; None if in order."""
        ...


@dataclasses.dataclass(frozen=True)
class Contiguous:
    """Blocks of neighbors, of the largest size up to ``block_size`` that divides d."""

    block_size: int | None
    share_blocks: bool = False

    def __post_init__(self):
        if self.block_size is not None:
            check_count("block_size", self.block_size, 2)

    def shape(self, d: int) -> Shape | None:
        """One factor; with ``share_blocks``, one block in the place of all."""
        largest = d if self.block_size is None else min(self.block_size, d)
        size = next(size for size in range(largest, 0, -1) if d % size == 0)
        if size == 1:
            return None
        return 1, 1 if self.share_blocks else d // size, size

    def order(self, key: jax.Array, d: int) -> None:
        """None: coordinates are in order."""
        del key, d


@dataclasses.dataclass(frozen=True)
class Butterfly:
    """Factors of blocks of two half blocks, twice as far apart in each factor.

    Factor i, counted from 0, joins the chunks c and c + 2^i of ``b / 2`` neighbors
    each, whose numbers differ in bit i.
    """

    block_size: int
    factors: int

    def __post_init__(self):
        check_count("block_size", self.block_size, 2)
        check_count("factors", self.factors)
        if self.factors > 1 and self.block_size % 2:
            raise ValueError(
                "block_size must be even where there are several factors, which join"
                f" halves of blocks, got {self.block_size}."
            )

    def shape(self, d: int) -> Shape | None:
        """Blocks of the largest fitting size, which is even if they have halves."""
        groups = 2 ** (self.factors - 1)
        step = 1 if self.factors == 1 else 2
        largest = min(self.block_size, d)
        for size in range(largest - largest % step, 1, -step):
            if d % (size * groups) == 0:
                return self.factors, d // size, size
        return None

    def order(self, key: jax.Array, d: int) -> jax.Array | None:
        """The two chunks of each block, the chunk with the smaller number first."""
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
    """Factor i joins coordinates whose numbers to base b differ in digit i only."""

    block_size: int
    factors: int

    def __post_init__(self):
        check_count("block_size", self.block_size, 2)
        check_count("factors", self.factors)

    def shape(self, d: int) -> Shape | None:
        """Blocks of the largest size whose power divides d."""
        for size in range(min(self.block_size, d), 1, -1):
            if d % size**self.factors == 0:
                return self.factors, d // size, size
        return None

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """Coordinates that have all digits but one in common."""
        del key
        factors, blocks, size = self.shape(d) or (0, 0, 0)
        orders = []
        for i in range(factors):
            digits = jnp.arange(d, dtype=jnp.int32).reshape(-1, size, size**i)
            orders.append(digits.swapaxes(1, 2).reshape(blocks, size))
        return jnp.stack(orders)


@dataclasses.dataclass(frozen=True)
class RandomBlocks:
    """Disjoint blocks of random coordinates; fewer than ``block_size`` are left out."""

    block_size: int

    def __post_init__(self):
        check_count("block_size", self.block_size, 2)

    def shape(self, d: int) -> Shape:
        """As many blocks as fit."""
        size = min(self.block_size, d)
        return 1, d // size, size

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """A random permutation, cut into blocks."""
        return _permuted(key, d, self.shape(d))


@dataclasses.dataclass(frozen=True)
class RandomSubset:
    """One block of random coordinates: a fraction of d, at most ``at_most``."""

    fraction: float = 1.0
    at_most: int | None = None

    def shape(self, d: int) -> Shape:
        """One block of two coordinates at least."""
        size = max(2, round(self.fraction * d))
        return 1, 1, size if self.at_most is None else min(size, self.at_most)

    def order(self, key: jax.Array, d: int) -> jax.Array:
        """Coordinates drawn without replacement."""
        return _permuted(key, d, self.shape(d))


def _permuted(key, d, shape):
    return jax.random.permutation(key, d)[: math.prod(shape)].reshape(shape)


def block_rotate(
    rows: jax.Array, matrices: jax.Array, order: jax.Array | None
) -> jax.Array:
    """Applies each factor to the rows, the first factor first.

    Products go block by block: nothing of the size of the whole matrix is formed.

    Args:
        rows: ``[sets, n, d]``.
        matrices: ``[sets, factors, blocks, b, b]``, or with one block for all.
        order: Coordinates of each block, ``[factors, blocks, b]``, or None.
    """
    for factor in range(matrices.shape[1]):
        blocks, size = matrices[:, factor], matrices.shape[-1]
        if order is None:
            taken = rows.reshape(*rows.shape[:-1], -1, size)
        else:
            taken = rows[..., order[factor]]
        blocks = jnp.broadcast_to(blocks, (len(rows), taken.shape[-2], size, size))
        rotated = jnp.einsum("snbi,sbji->snbj", taken, blocks, precision="highest")
        if order is None:
            rows = rotated.reshape(rows.shape)
        else:
            rows = rows.at[..., order[factor]].set(rotated, unique_indices=True)
    return rows


def shape_in_words(raw: tuple[int, ...]) -> str:
    """The shape ``[sets, factors, blocks, b, b]``, such as "2 blocks of 8 x 8"."""
    *counts, rows, columns = raw
    words = ("sets", "factors", "blocks")
    parts = [
        f"{count} {word}"
        for count, word in zip(counts, words, strict=True)
        if count > 1
    ]
    return " of ".join([*parts, f"{rows} x {columns}"])
