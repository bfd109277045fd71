"""Products of the patches of a convolution with filters, and norms of the patches.

The norm of a patch is the root of a sum over channels and then over the window: the
patches themselves are never formed, and all filters of a group share it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sphax._numerics import (
    bound_gradient,
    divide,
    finite_limit,
    inverse_power,
    safe_sqrt,
    widen,
)
from sphax.operators._window import Window
from sphax.sphere import length


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


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def projections(
    inputs: jax.Array,
    kernel: jax.Array,
    lengths: jax.Array,
    shift: jax.Array,
    window: Window,
    precision: Any,
) -> jax.Array:
    """Products of the patches with the filters' directions, in float32 at least.

    They are multiplied by ``shift``, a power of two. The kernel is multiplied by powers
    of two that bring its filters to this length, and the outputs by the remaining
    factors. The derivative rule projects the gradient of each filter onto its tangent
    space.

    Args:
        inputs: ``[batch, *space, channels]``.
        kernel: ``[*window, channels / groups, filters]``.
        lengths: Of the filters, ``[filters]``.
        shift: Constant, ``[]``.
        window: Geometry of the convolution.
        precision: Of the convolution.
    """
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    scaled = _scaled(widen(kernel), lengths, shift).astype(kernel.dtype)
    out = convolve(inputs, scaled, window, precision, dtype)
    return out * _rest(lengths, out.ndim)


@projections.defjvp
def _projections_jvp(window, precision, primals, tangents):
    # The change of the norms is in the projection: their tangents are left out.
    (inputs, kernel, lengths, shift), (d_inputs, d_kernel, *_) = primals, tangents
    filters, change = widen(kernel), _scaled(widen(d_kernel), lengths, shift)
    units = divide(filters, _last(lengths, kernel.ndim))
    along = jnp.sum(units * change, range(kernel.ndim - 1), keepdims=True)
    change = change - units * along
    # In the range of the inputs, also where the transposed convolutions leave it.
    limit = finite_limit(kernel.dtype, kernel.size // kernel.shape[-1])
    d_kernel = bound_gradient(change, limit).astype(kernel.dtype)
    d_inputs = bound_gradient(d_inputs, float(jnp.finfo(inputs.dtype).max))
    # In the inputs' dtype, so that the transposed convolutions run in it too.
    scaled = _scaled(filters, lengths, shift).astype(kernel.dtype)
    from_inputs = convolve(d_inputs, scaled, window, precision, inputs.dtype)
    from_kernel = convolve(inputs, d_kernel, window, precision, inputs.dtype)
    out = projections(inputs, kernel, lengths, shift, window, precision)
    return out, widen(from_inputs + from_kernel) * _rest(lengths, out.ndim)


def _scaled(filters, lengths, shift):
    scaled = filters * _last(inverse_power(lengths), filters.ndim)
    return scaled * shift.reshape((1,) * filters.ndim)


def _rest(lengths, rank):
    """The factor of the outputs that scaled filters leave; 0 for a zero filter."""
    rest = divide(jnp.ones_like(lengths), lengths * inverse_power(lengths))
    return _last(rest, rank)


def _last(x: jax.Array, rank: int) -> jax.Array:
    """``[filters]`` made to broadcast with ``rank`` axes."""
    return jnp.expand_dims(x, range(rank - 1))


def norms(inputs: jax.Array, window: Window) -> jax.Array:
    """Norms of the patches, ``[batch, *space, groups]``, in float32 at least."""
    channels = inputs.shape[-1] // window.groups
    grouped = inputs.reshape(*inputs.shape[:-1], window.groups, channels)
    lengths = length(widen(grouped))
    # A power of two for each example brings their squares into range.
    axes = tuple(range(1, lengths.ndim))
    scale = inverse_power(jnp.max(lengths, axes, keepdims=True, initial=0.0))
    squares = lax.reduce_window(
        jnp.square(lengths * scale),
        np.zeros((), lengths.dtype),
        lax.add,
        (1, *window.shape, 1),
        (1, *window.strides, 1),
        ((0, 0), *window.padding, (0, 0)),
        (1, *window.input_dilation, 1),
        (1, *window.kernel_dilation, 1),
    )
    # The square of a patch far shorter than the longest underflows, and counts as 0.
    is_zero = squares < jnp.finfo(squares.dtype).tiny
    return safe_sqrt(jnp.where(is_zero, 0.0, squares)) / scale
