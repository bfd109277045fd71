"""Exponential of a skew convolution: a convolution that keeps lengths."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_choice, check_count
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.operators._decoupled import as_operands
from sphax.operators._patches import convolve
from sphax.operators._window import Window, resolve


def skew_convolution(
    inputs: ArrayLike,
    kernel: ArrayLike,
    *,
    terms: int = 12,
    padding: Literal["SAME", "CIRCULAR"] = "SAME",
    precision: jax.lax.PrecisionLike = "highest",
) -> jax.Array:
    r"""Exponential of a skew convolution, which keeps lengths (SOC).

    The kernel :math:`K - K'`, where :math:`K'` is :math:`K` with its window flipped and
    its channels swapped, is that of a linear map :math:`L` with
    :math:`L^\top = -L`, with zeros around the images and with images continued
    periodically alike. So :math:`e^L` is orthogonal; computed is the start of its
    series,

    .. math::
        y = \sum_{j=0}^{J} \frac{L^j x}{j!}, \qquad
        \|y - e^L x\| \le \frac{\|L\|^{J+1}}{(J + 1)!} \|x\|.

    The error at :math:`J = 12` is 1.6e-10 for :math:`\|L\| = 1`, 1.3e-6 for 2, and
    2.6e-4 for 3: the kernel is taken as it is, and keeping :math:`\|L\|` small is left
    to the caller, or to :class:`sphax.layers.SkewConv`. The authors train with
    :math:`J = 6` and evaluate with 12. The kernel :math:`-K` gives the inverse.

    Args:
        inputs: :math:`x`, floating, ``[..., *space, channels]``, one to three axes of
            space.
        kernel: :math:`K`, dtype of ``inputs``, ``[*window, channels, channels]``, all
            sizes of the window odd.
        terms: :math:`J`, 1 or more, the number of convolutions.
        padding: ``"SAME"`` for zeros around the images, or ``"CIRCULAR"``.
        precision: Of the convolutions, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        Shape and dtype of ``inputs``, computed in float32 at least.

    Raises:
        TypeError: If ``inputs`` is not floating, or ``kernel`` has another dtype.
        ValueError: If shapes do not fit, a size of the window is even, or an option is
            out of range.

    Example:
        >>> x = jnp.array([[3.0, 4.0], [12.0, 0.0]])
        >>> kernel = jnp.array([[[0.2, 0.5], [0.0, 0.3]]])
        >>> jnp.linalg.norm(sx.operators.skew_convolution(x, kernel))
        Array(13., dtype=float32)

    References:
        Singla, Feizi, `Skew Orthogonal Convolutions
        <https://arxiv.org/abs/2105.11417>`_, ICML 2021.
    """
    inputs, kernel = as_operands(inputs, kernel)
    check_count("terms", terms)
    check_choice("padding", padding, ("SAME", "CIRCULAR"))
    *shape, channels, filters = kernel.shape if kernel.ndim > 2 else (2, 0, 0)
    if channels != filters or any(size % 2 == 0 for size in shape):
        raise ValueError(
            "kernel must be [*window, channels, channels] with odd sizes of the window,"
            f" got shape {kernel.shape}; pad the smaller number of channels with zeros."
        )
    if inputs.shape[-1:] != (channels,):
        raise ValueError(
            f"inputs must have the {channels} channels of kernel on the last axis, got"
            f" shape {inputs.shape}."
        )
    flat, window = resolve(
        inputs,
        shape,
        strides=1,
        padding="SAME",
        input_dilation=1,
        kernel_dilation=1,
        groups=1,
    )
    outputs = _skew_convolution(
        flat,
        kernel,
        window=window,
        terms=int(terms),
        is_circular=padding == "CIRCULAR",
        precision=precision,
    )
    return outputs.reshape(inputs.shape)


@compiled("window", "terms", "is_circular", "precision")
def _skew_convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    window: Window,
    terms: int,
    is_circular: bool,
    precision: Any,
) -> jax.Array:
    x, wide = widen(inputs), widen(kernel)
    axes = tuple(range(len(window.shape)))
    skew = wide - jnp.flip(wide, axes).mT
    around = ((0, 0), *window.padding, (0, 0))
    if is_circular:
        window = window._replace(padding=((0, 0),) * len(window.shape))
    y = x
    # Horner's scheme. Not a scan: XLA on CPU (jaxlib 0.10) takes thirty times as long
    # for convolutions within a loop.
    for j in range(terms, 0, -1):
        continued = jnp.pad(y, around, mode="wrap") if is_circular else y
        y = x + convolve(continued, skew, window, precision, x.dtype) / j
    return y.astype(inputs.dtype)
