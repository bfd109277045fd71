"""The geometry of a convolution, its products and the norms of its patches.

The norm of a patch is the root of a sum over channels and then over the window: the
patches themselves are never formed, and all filters of a group share it.
"""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sphax._norms import widen
from sphax.operators._padding import PaddingLike, as_pads, continued


class Window(NamedTuple):
    """What :func:`jax.lax.conv_general_dilated` is told, made explicit."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int


def on_window(
    inputs: jax.Array,
    shape: Sequence[int],
    *,
    strides: int | Sequence[int],
    padding: PaddingLike,
    input_dilation: int | Sequence[int],
    kernel_dilation: int | Sequence[int],
    groups: int,
) -> tuple[jax.Array, Window]:
    """Inputs ``[batch, *space, channels]`` and a window of ``shape`` to slide on them.

    The inputs are those given unless the padding continues them.
    """
    rank = len(shape)
    strides = per_axis("strides", strides, rank)
    input_dilation = per_axis("input_dilation", input_dilation, rank)
    kernel_dilation = per_axis("kernel_dilation", kernel_dilation, rank)
    reach = tuple(map(dilated, shape, kernel_dilation))
    inputs, padding = continued(inputs, padding, reach, input_dilation)
    spread = tuple(map(dilated, inputs.shape[1:-1], input_dilation))
    pads = as_pads(padding, spread, reach, strides)
    shape = tuple(map(int, shape))
    window = Window(shape, strides, pads, input_dilation, kernel_dilation, groups)
    return inputs, window


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


def convolve(
    inputs: jax.Array, kernel: jax.Array, window: Window, precision: Any, dtype: Any
) -> jax.Array:
    """The plain convolution of ``[batch, *space, channels]``."""
    space = "DHW"[-len(window.shape) :]
    layout = f"N{space}C"
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window.strides,
        window.padding,
        lhs_dilation=window.input_dilation,
        rhs_dilation=window.kernel_dilation,
        dimension_numbers=(layout, f"{space}IO", layout),
        feature_group_count=window.groups,
        precision=precision,
        preferred_element_type=dtype,
    )


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def projections(
    inputs: jax.Array,
    kernel: jax.Array,
    inverse_norms: jax.Array,
    window: Window,
    precision: Any,
) -> jax.Array:
    """Products of the patches with the filters' directions, in float32 at least.

    No normalised copy of the kernel is made: the outputs are scaled, and the derivative
    rule projects the gradient of each filter onto its tangent where it is written.
    """
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    return convolve(inputs, kernel, window, precision, dtype) * _last(
        inverse_norms, inputs.ndim
    )


@projections.defjvp
def _projections_jvp(window, precision, primals, tangents):
    # The change of the norms is in the projection: their own tangent is left out.
    (inputs, kernel, inverse_norms), (d_inputs, d_kernel, _) = primals, tangents
    filters, change = widen(kernel), widen(d_kernel)
    along = jnp.sum(filters * change, axis=range(kernel.ndim - 1)) * inverse_norms**2
    d_kernel = (change - filters * _last(along, kernel.ndim)).astype(kernel.dtype)
    # In the inputs' dtype, so that the transposed convolutions run in it too.
    of_inputs = convolve(d_inputs, kernel, window, precision, inputs.dtype)
    of_kernel = convolve(inputs, d_kernel, window, precision, inputs.dtype)
    out = projections(inputs, kernel, inverse_norms, window, precision)
    d_out = (of_inputs + of_kernel).astype(out.dtype) * _last(inverse_norms, out.ndim)
    return out, d_out


def norms(inputs: jax.Array, window: Window) -> jax.Array:
    """Norms of the patches, ``[batch, *space, groups]``, in float32 at least."""
    channels = inputs.shape[-1] // window.groups
    grouped = widen(inputs).reshape(*inputs.shape[:-1], window.groups, channels)
    squares = lax.reduce_window(
        jnp.sum(grouped**2, axis=-1),
        np.zeros((), grouped.dtype),
        lax.add,
        (1, *window.shape, 1),
        (1, *window.strides, 1),
        ((0, 0), *window.padding, (0, 0)),
        (1, *window.input_dilation, 1),
        (1, *window.kernel_dilation, 1),
    )
    # As in `_norms.length`: what is zero, and that it has no gradient.
    is_zero = squares < jnp.finfo(squares.dtype).tiny
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squares)))


def _last(x: jax.Array, rank: int) -> jax.Array:
    """``[filters]`` made to broadcast with ``rank`` axes."""
    return jnp.expand_dims(x, range(rank - 1))
