"""Decoupled convolutions."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._numerics import inverse_power, widen
from sphax.neurons import to_rows
from sphax.operators._angular import Angular
from sphax.operators._decoupled import (
    Part,
    as_linear,
    as_operands,
    check_functions,
    combine,
    scale_products,
)
from sphax.operators._magnitude import Magnitude
from sphax.operators._patches import convolve, norms, projections
from sphax.operators._window import PaddingLike, Window, resolve
from sphax.sphere import length


def decoupled_conv(
    inputs: ArrayLike,
    kernel: ArrayLike,
    *,
    magnitude: Magnitude,
    angular: Angular,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    part: Part = "output",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Convolution with its inner product taken apart (DCNet, SphereNet).

    For each patch x and each filter w at the angle :math:`\theta`,

    .. math::
        y = h(\|w\|, \|x\|)\, g(\theta), \qquad
        \cos\theta = \frac{\langle w, x\rangle}{\|w\| \|x\|}.

    The plain convolution is :math:`h = \|w\|\|x\|`, :math:`g = \cos`, and with
    ``Linear(weighted="linear")`` and ``Cosine()`` it is computed as such. Zero padding
    adds nothing to the norm of a patch: at a border, only the part of the patch inside
    the image counts. The norms come from a sum over channels and a sum over the window,
    and cost next to nothing beside the convolution.

    :class:`Magnitude` says which magnitude to choose. Among the angular functions,
    :class:`Cosine` is the cheapest; :class:`LinearAngle` and :class:`Sigmoid` train
    SphereNets better. Keep to the plain convolution where the length of a patch carries
    information that its direction does not, as in regression on raw intensities.

    Where an angle is needed, :math:`\partial\theta/\partial w` has length
    :math:`1 / \|w\|` for all angles in :math:`(0, \pi)`. It is computed from the
    cosine, whose rounding shows near both ends: in float32 that length is right to 2 %
    above 4e-3 rad, at most doubled below, and zero below 3.4e-4 rad, as it is at 0 and
    :math:`\pi`, where the direction does not exist. In bfloat16 it is zero below 1.8
    degrees, in float16 below 0.22. Products in TensorFloat-32, the default on GPUs,
    have fewer digits than that: give a higher ``precision`` if filters come to lie
    along their patches.

    Args:
        inputs: Floating, ``[..., *space, channels]``, one to three axes of space.
        kernel: Dtype of ``inputs``, ``[*window, channels / groups, filters]``.
        magnitude: Function h of the lengths; hyperparameters are scalars or
            ``[filters]``.
        angular: Function g of the angle; hyperparameters likewise.
        strides: Of the window, for all axes or each.
        padding: As in :class:`flax.nnx.Conv`: ``"SAME"``, ``"SAME_LOWER"``,
            ``"VALID"``, ``"CAUSAL"`` (one axis, all zeros before the inputs), a number
            for all sides, or for each axis a number or (low, high); ``"CIRCULAR"`` and
            ``"REFLECT"`` continue the inputs instead, to as many patches at stride 1.
        input_dilation: Distance of the entries of the inputs, with zeros in between.
        kernel_dilation: Distance of the entries of the kernel.
        feature_group_count: Groups of channels, each with its filters; as many as there
            are channels for a depthwise convolution.
        part: ``"output"``, or one of the two factors of which it is the product:
            ``"magnitude"`` for h alone, ``"angle"`` for g alone.
        precision: Of the convolution, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        ``[..., *space, filters]``, dtype of ``inputs``, computed in float32 at least.
        A zero patch, or filter, is at right angles to everything: the output is 0, with
        zero gradient. :class:`Linear` with :class:`Cosine` is a product of the patch
        and keeps its ordinary gradient at a zero patch.

    Raises:
        TypeError: If ``inputs`` is not floating, ``kernel`` has another dtype, or
            ``magnitude`` or ``angular`` is not such a function.
        ValueError: If shapes do not fit, or an option is out of range.

    Example:
        >>> tanh, cosine = sx.operators.Tanh(), sx.operators.Cosine()
        >>> x = jnp.array([[3.0, 4.0], [0.0, 0.0], [-30.0, -40.0]])
        >>> w = jnp.array([[[2.0], [0.0]]])
        >>> sx.operators.decoupled_conv(x, w, magnitude=tanh, angular=cosine).T
        Array([[ 0.59994555, 0. , -0.59999996]], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018;
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017.
    """
    check_functions(magnitude, angular, part)
    inputs, kernel = as_operands(inputs, kernel)
    rank = check_window_rank(kernel)
    flat, window = resolve(
        inputs,
        kernel.shape[:rank],
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        groups=feature_group_count,
    )
    channels, filters = kernel.shape[-2:]
    groups = feature_group_count
    if channels * groups != inputs.shape[-1] or filters % groups:
        raise ValueError(
            f"kernel must be [*window, channels / {groups}, filters], filters a"
            f" multiple of {groups} (feature_group_count), for the channels of inputs,"
            f" got kernel {kernel.shape} and inputs {inputs.shape}."
        )
    outputs = _decoupled_conv(
        flat, kernel, magnitude, angular, window=window, part=part, precision=precision
    )
    return outputs.reshape(*inputs.shape[: -rank - 1], *outputs.shape[1:])


def check_window_rank(kernel: jax.Array) -> int:
    """Number of axes of the window of a kernel; raises unless one to three."""
    if not 3 <= kernel.ndim <= 5:
        raise ValueError(
            "kernel must be [*window, channels, filters] with one to three axes of the"
            f" window, got shape {kernel.shape}."
        )
    return kernel.ndim - 2


@compiled("window", "part", "precision")
def _decoupled_conv(
    inputs: jax.Array,
    kernel: jax.Array,
    magnitude: Magnitude,
    angular: Angular,
    *,
    window: Window,
    part: Part,
    precision: Any,
) -> jax.Array:
    linear = as_linear(magnitude, angular, part)
    if linear is not None and linear.weighted != "none":
        # The plain convolution, bit by bit.
        products = convolve(inputs, kernel, window, precision, None)
        return scale_products(linear, products, inputs.dtype)
    lengths = length(widen(to_rows(kernel)))
    if linear is not None:
        one = jnp.ones((), lengths.dtype)
        products = projections(inputs, kernel, lengths, one, window, precision)
        return scale_products(linear, products, inputs.dtype)
    patch_lengths = norms(inputs, window)
    # Between the factor that brings the patches to a length of 1 and no factor at all,
    # so that neither products nor their transposes leave the range of the dtype.
    shift = inverse_power(jnp.sqrt(jnp.max(patch_lengths, initial=0.0)))
    return combine(
        projections(inputs, kernel, lengths, shift, window, precision),
        patch_lengths * shift,
        patch_lengths,
        lengths,
        magnitude,
        angular,
        part=part,
        dtype=inputs.dtype,
    )


def patch_norms(
    inputs: ArrayLike,
    kernel_size: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
) -> jax.Array:
    r"""Norms of the patches of a convolution, :math:`\|x\|`, without the patches.

    Args:
        inputs: Floating, ``[..., *space, channels]``.
        kernel_size: Shape of the window, one to three axes.
        strides: Of the window; this and all further arguments are the same as for
            :func:`decoupled_conv`.
        padding: Padding of the inputs.
        input_dilation: Distance of the entries of the inputs.
        kernel_dilation: Distance of the entries of the window.
        feature_group_count: Groups of channels, each with a norm.

    Returns:
        ``[..., *space, groups]``, float32 at least; 0, with zero gradient, for a zero
        patch, and for one 1e19 times (float32) shorter than the longest of its example.

    Raises:
        TypeError: If ``inputs`` is not floating.
        ValueError: If shapes do not fit, or an option is out of range.

    Example:
        >>> x = jnp.array([[3.0], [4.0], [0.0]])
        >>> sx.operators.patch_norms(x, (2,), padding="VALID").T
        Array([[5., 4.]], dtype=float32)
    """
    inputs, rank = as_floating("inputs", inputs), len(kernel_size)
    flat, window = resolve(
        inputs,
        kernel_size,
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        groups=feature_group_count,
    )
    lengths = _patch_norms(flat, window=window)
    return lengths.reshape(*inputs.shape[: -rank - 1], *lengths.shape[1:])


@compiled("window")
def _patch_norms(inputs: jax.Array, *, window: Window) -> jax.Array:
    return norms(inputs, window)
