"""Blocks of pixels as channels, which halves images without losing anything."""

import math
from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax.operators._window import per_axis


def space_to_depth(inputs: ArrayLike, block: Sequence[int] = (2, 2)) -> jax.Array:
    """Moves the pixels of each block to channels; lengths stay as they are.

    It does the work of a stride or of pooling in a network that is to keep lengths.

    Args:
        inputs: Floating, ``[..., *space, channels]``.
        block: Size of a block, one number for each axis of space.

    Returns:
        ``[..., *(space / block), pixels of a block * channels]``, the pixels in the
        order of the axes, the channels of a pixel adjacent; dtype of ``inputs``.

    Raises:
        TypeError: If ``inputs`` is not floating.
        ValueError: If blocks do not divide the space, or a size is not positive.

    Example:
        >>> image = jnp.arange(4.0).reshape(2, 2, 1)
        >>> sx.operators.space_to_depth(image)
        Array([[[0., 1., 2., 3.]]], dtype=float32)
    """
    inputs = as_floating("inputs", inputs)
    block = per_axis("block", block, len(block))
    space = inputs.shape[-len(block) - 1 : -1]
    if inputs.ndim <= len(block) or any(
        n % b for n, b in zip(space, block, strict=True)
    ):
        raise ValueError(
            f"inputs must be [..., *space, channels] with {len(block)} axes of space,"
            f" multiples of block {block}, got shape {inputs.shape}; crop or pad them."
        )
    return _space_to_depth(inputs, block=block)


@compiled("block")
def _space_to_depth(inputs: jax.Array, *, block: tuple[int, ...]) -> jax.Array:
    rank = len(block)
    *batch, channels = inputs.shape[: -rank - 1] + inputs.shape[-1:]
    space = inputs.shape[-rank - 1 : -1]
    counts = [n // b for n, b in zip(space, block, strict=True)]
    pairs = [size for pair in zip(counts, block, strict=True) for size in pair]
    split = inputs.reshape(*batch, *pairs, channels)
    first = len(batch)
    blocks, pixels = (range(first + i, first + 2 * rank, 2) for i in (0, 1))
    ordered = split.transpose(*range(first), *blocks, *pixels, split.ndim - 1)
    return ordered.reshape(*batch, *counts, math.prod(block) * channels)
