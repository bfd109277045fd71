"""The transposed decoupled convolution."""

import math
from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax.operators import _window
from sphax.operators._angular import Angular
from sphax.operators._checks import window_rank
from sphax.operators._convolution import decoupled_conv
from sphax.operators._decoupled import Emit
from sphax.operators._magnitude import Magnitude
from sphax.operators._padding import PaddingLike


def decoupled_conv_transpose(
    inputs: ArrayLike,
    kernel: ArrayLike,
    *,
    magnitude: Magnitude,
    angular: Angular,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    emit: Emit = "output",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Transposed convolution with its inner product taken apart.

    :func:`decoupled_conv` on inputs whose entries are ``strides`` apart, padded as
    :func:`jax.lax.conv_transpose` pads them: the output is ``strides`` times as large.
    What of the window falls between the entries adds nothing to the norm of a patch.

    Args:
        inputs: Floating, ``[..., *space, channels]``, one to three axes of space.
        kernel: Dtype of ``inputs``, ``[*window, channels, filters]``.
        magnitude: As in :func:`decoupled_conv`.
        angular: As in :func:`decoupled_conv`.
        strides: Distance of the entries, for all axes or each.
        padding: Of the inputs spread out: ``"SAME"``, ``"VALID"``, a number for all
            sides, or for each axis a number or (low, high).
        kernel_dilation: As in :func:`decoupled_conv`.
        emit: As in :func:`decoupled_conv`.
        precision: As in :func:`decoupled_conv`.

    Returns:
        ``[..., *space, filters]``, as of :func:`decoupled_conv`.

    Raises:
        TypeError: As :func:`decoupled_conv`.
        ValueError: As :func:`decoupled_conv`.

    Example:
        >>> sphere, cosine = sx.operators.Sphere(), sx.operators.Cosine()
        >>> x, w = jnp.array([[3.0], [-4.0]]), jnp.ones((2, 1, 1))
        >>> sx.operators.decoupled_conv_transpose(
        ...     x, w, magnitude=sphere, angular=cosine, strides=2
        ... ).T
        Array([[ 0.7071, 0.7071, -0.7071, -0.7071]], dtype=float32)
    """
    kernel = as_floating("kernel", kernel)
    rank = window_rank(kernel)
    strides = _window.per_axis("strides", strides, rank)
    dilation = _window.per_axis("kernel_dilation", kernel_dilation, rank)
    if isinstance(padding, str):
        reach = map(_window.dilated, kernel.shape[:rank], dilation)
        padding = [
            _transposed_pads(padding, k, s) for k, s in zip(reach, strides, strict=True)
        ]
    return decoupled_conv(
        inputs,
        kernel,
        magnitude=magnitude,
        angular=angular,
        padding=padding,
        input_dilation=strides,
        kernel_dilation=dilation,
        emit=emit,
        precision=precision,
    )


def _transposed_pads(padding: str, reach: int, stride: int) -> tuple[int, int]:
    """Padding of the inputs spread out, for an output ``stride`` times as large."""
    if padding not in ("SAME", "VALID"):
        raise ValueError(
            f'padding must be "SAME", "VALID", integers or pairs, got {padding!r}.'
        )
    if padding == "VALID":
        return reach - 1, max(reach, stride) - 1
    # Where strides are longer than the window, all of the surplus comes after it.
    total = reach + stride - 2
    low = reach - 1 if stride > reach - 1 else math.ceil(total / 2)
    return low, total - low
