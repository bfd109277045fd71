"""Padding of a convolution, in the forms that Flax takes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sphax._compiled import compiled

PaddingLike = str | int | Sequence[int | tuple[int, int]]

_CONTINUATIONS = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def continued(
    inputs: jax.Array,
    padding: PaddingLike,
    reach: Sequence[int],
    input_dilation: Sequence[int],
) -> tuple[jax.Array, PaddingLike]:
    """``[batch, *space, channels]`` with what is beyond, where that is not zero.

    Args:
        inputs: Of the convolution.
        padding: As its caller gave it.
        reach: Extent of the window along each axis.
        input_dilation: For each axis.

    Returns:
        The inputs, and the padding that they still want.
    """
    if not isinstance(padding, str) or padding not in _CONTINUATIONS:
        return inputs, padding
    if any(dilation > 1 for dilation in input_dilation):
        raise ValueError(
            f"padding {padding!r} continues inputs that are not spread out, got"
            f" input_dilation {tuple(input_dilation)}; pad them before the call."
        )
    pads = ((0, 0), *(((k - 1) // 2, k // 2) for k in reach), (0, 0))
    return _pad(inputs, pads=pads, mode=_CONTINUATIONS[padding]), "VALID"


@compiled("pads", "mode")
def _pad(
    inputs: jax.Array, *, pads: tuple[tuple[int, int], ...], mode: str
) -> jax.Array:
    return jnp.pad(inputs, pads, mode=mode)


def as_pads(
    padding: PaddingLike,
    space: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Zeros (low, high) along each axis, for a window of extent ``reach``."""
    rank = len(reach)
    if isinstance(padding, str) and padding in ("SAME", "SAME_LOWER", "VALID"):
        pads = lax.padtype_to_pads(space, reach, strides, padding)
    elif padding == "CAUSAL" and rank == 1:
        pads = [(reach[0] - 1, 0)]
    else:
        pads = _explicit(padding, rank)
    return tuple((int(low), int(high)) for low, high in pads)


def _explicit(padding: PaddingLike, rank: int) -> list[tuple[int, int]]:
    """From a number for all sides, or a number or a pair for each axis."""
    of_axes = (padding,) * rank if isinstance(padding, int) else padding
    if isinstance(of_axes, (tuple, list)) and len(of_axes) == rank:
        pads = [
            (entry, entry) if isinstance(entry, int) else entry for entry in of_axes
        ]
        if all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pads):
            return pads
    raise ValueError(
        'padding must be "SAME", "SAME_LOWER", "VALID", "CIRCULAR", "REFLECT",'
        f' "CAUSAL" with one axis, an integer, or {rank} integers or pairs (low, high),'
        f" one for each axis of the window, got {padding!r}."
    )
