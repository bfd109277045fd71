"""The transposed decoupled convolution."""

import math
from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax.operators._angular import Angular
from sphax.operators._convolution import check_window_rank, decoupled_conv
from sphax.operators._decoupled import Part
from sphax.operators._magnitude import Magnitude
from sphax.operators._window import PaddingLike, dilated, per_axis


def decoupled_conv_transpose(
    inputs: ArrayLike,
    kernel: ArrayLike,
    *,
    magnitude: Magnitude,
    angular: Angular,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    part: Part = "output",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Transposed convolution with its inner product taken apart.

    :func:`decoupled_conv` on inputs whose entries are ``strides`` apart, padded as
    :func:`jax.lax.conv_transpose` pads them: the output is ``strides`` times as large.
    The zeros between the entries add nothing to the norm of a patch.

    Args:
        inputs: Floating, ``[..., *space, channels]``, one to three axes of space.
        kernel: Dtype of ``inputs``, ``[*window, channels, filters]``.
        magnitude: Function h of the lengths; hyperparameters are scalars or
            ``[filters]``.
        angular: Function g of the angle; hyperparameters likewise.
        strides: Distance of the entries, for all axes or each.
        padding: Of the inputs spread out: ``"SAME"``, ``"VALID"``, a number for all
            sides, or for each axis a number or (low, high).
        kernel_dilation: Distance of the entries of the kernel.
        part: The output or one of its factors, as for :func:`decoupled_conv`.
        precision: Of the convolution, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        ``[..., *space, filters]``, with the dtype and the singular points of
        :func:`decoupled_conv`.

    Raises:
        TypeError: Under the conditions of :func:`decoupled_conv`.
        ValueError: Likewise.

    Example:
        >>> sphere, cosine = sx.operators.Sphere(), sx.operators.Cosine()
        >>> x, w = jnp.array([[3.0], [-4.0]]), jnp.ones((2, 1, 1))
        >>> sx.operators.decoupled_conv_transpose(
        ...     x, w, magnitude=sphere, angular=cosine, strides=2
        ... ).T
        Array([[ 0.7071, 0.7071, -0.7071, -0.7071]], dtype=float32)
    """
    kernel = as_floating("kernel", kernel)
    rank = check_window_rank(kernel)
    strides = per_axis("strides", strides, rank)
    dilation = per_axis("kernel_dilation", kernel_dilation, rank)
    if isinstance(padding, str):
        extents = map(dilated, kernel.shape[:rank], dilation)
        padding = [
            _transposed_pads(padding, extent, stride)
            for extent, stride in zip(extents, strides, strict=True)
        ]
    return decoupled_conv(
        inputs,
        kernel,
        magnitude=magnitude,
        angular=angular,
        padding=padding,
        input_dilation=strides,
        kernel_dilation=dilation,
        part=part,
        precision=precision,
    )


def _transposed_pads(padding: str, extent: int, stride: int) -> tuple[int, int]:
    """Padding of the inputs spread out, for an output ``stride`` times as large."""
    if padding not in ("SAME", "VALID"):
        raise ValueError(
            f'padding must be "SAME", "VALID", integers or pairs, got {padding!r}.'
        )
    if padding == "VALID":
        return extent - 1, max(extent, stride) - 1
    # Where a stride is longer than the window, all of the surplus comes after it.
    total = extent + stride - 2
    low = extent - 1 if stride > extent - 1 else math.ceil(total / 2)
    return low, total - low
