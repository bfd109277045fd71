"""The window of a convolution: its geometry and its padding, with all defaults set."""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sphax._checks import check_dimensions
from sphax._compiled import compiled

PaddingLike = str | int | Sequence[int | tuple[int, int]]

_CONTINUATIONS = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


class Window(NamedTuple):
    """Resolved arguments of :func:`jax.lax.conv_general_dilated`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int


def resolve(
    inputs: jax.Array,
    shape: Sequence[int],
    *,
    strides: int | Sequence[int],
    padding: PaddingLike,
    input_dilation: int | Sequence[int],
    kernel_dilation: int | Sequence[int],
    groups: int,
) -> tuple[jax.Array, Window]:
    """Inputs as ``[batch, *space, channels]``, and the window that slides over them.

    Where the padding continues the inputs, they are returned with what continues them.
    """
    rank = len(shape)
    if not 1 <= rank <= 3:
        raise ValueError(f"kernel_size must have one to three axes, got {rank}.")
    if inputs.ndim < rank + 1:
        raise ValueError(
            f"inputs must be [..., *space, channels] with {rank} axes of space, as the"
            f" window has, got shape {inputs.shape}."
        )
    check_dimensions("inputs", inputs)
    if groups < 1 or inputs.shape[-1] % groups:
        raise ValueError(
            "feature_group_count must be positive and divide the channels of inputs,"
            f" got {groups} for {inputs.shape[-1]} channels."
        )
    shape = tuple(map(int, shape))
    strides = per_axis("strides", strides, rank)
    input_dilation = per_axis("input_dilation", input_dilation, rank)
    kernel_dilation = per_axis("kernel_dilation", kernel_dilation, rank)
    extents = tuple(map(dilated, shape, kernel_dilation))
    batch = math.prod(inputs.shape[: -rank - 1])
    inputs = inputs.reshape(batch, *inputs.shape[-rank - 1 :])
    if isinstance(padding, str) and padding in _CONTINUATIONS:
        if any(dilation > 1 for dilation in input_dilation):
            raise ValueError(
                f"padding {padding!r} continues inputs that are not spread out, got"
                f" input_dilation {input_dilation}; pad them before the call."
            )
        pads = ((0, 0), *(((k - 1) // 2, k // 2) for k in extents), (0, 0))
        inputs = _continue(inputs, pads=pads, mode=_CONTINUATIONS[padding])
        padding = "VALID"
    space = tuple(map(dilated, inputs.shape[1:-1], input_dilation))
    pads = _as_pads(padding, space, extents, strides)
    return inputs, Window(shape, strides, pads, input_dilation, kernel_dilation, groups)


def per_axis(name: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """A positive integer for each axis of the window."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or any(operator.index(v) < 1 for v in values):
        raise ValueError(
            f"{name} must be a positive integer, or {rank} of them, one for each axis"
            f" of the window, got {value!r}."
        )
    return tuple(map(int, values))


def dilated(size: int, dilation: int) -> int:
    """Extent of ``size`` entries that are ``dilation`` apart."""
    return (size - 1) * dilation + 1 if size else 0


@compiled("pads", "mode")
def _continue(
    inputs: jax.Array, *, pads: tuple[tuple[int, int], ...], mode: str
) -> jax.Array:
    return jnp.pad(inputs, pads, mode=mode)


def _as_pads(
    padding: PaddingLike,
    space: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Zeros (low, high) along each axis, in the forms of padding that Flax takes."""
    rank = len(extents)
    if isinstance(padding, str) and padding in ("SAME", "SAME_LOWER", "VALID"):
        pads = lax.padtype_to_pads(space, extents, strides, padding)
        return tuple((int(low), int(high)) for low, high in pads)
    if padding == "CAUSAL" and rank == 1:
        return ((extents[0] - 1, 0),)
    per_side = (padding,) * rank if isinstance(padding, int) else padding
    if isinstance(per_side, (tuple, list)) and len(per_side) == rank:
        pads = [(n, n) if isinstance(n, int) else n for n in per_side]
        if all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pads):
            return tuple((int(low), int(high)) for low, high in pads)
    raise ValueError(
        'padding must be "SAME", "SAME_LOWER", "VALID", "CIRCULAR", "REFLECT",'
        f' "CAUSAL" with one axis, an integer, or {rank} integers or pairs (low, high),'
        f" one for each axis of the window, got {padding!r}."
    )
