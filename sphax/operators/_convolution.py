"""Decoupled convolutions."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._numerics import inverse_power, widen
from sphax.neurons import to_rows
from sphax.operators import _window
from sphax.operators._angular import Angular
from sphax.operators._checks import (
    as_operands,
    check_convolution,
    check_functions,
    check_space,
)
from sphax.operators._decoupled import Emit, as_linear, combine, scaled
from sphax.operators._magnitude import Magnitude
from sphax.operators._padding import PaddingLike
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
    emit: Emit = "output",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Convolution with its inner product taken apart (DCNet, SphereNet).

    For each patch x and each filter w at the angle :math:`\theta`,

    .. math::
        y = h(\|w\|, \|x\|)\, g(\theta), \qquad
        \cos\theta = \frac{\langle w, x\rangle}{\|w\| \|x\|}.

    The plain convolution is :math:`h = \|w\|\|x\|`, :math:`g = \cos`, and with
    ``Linear(weighted="linear")`` and ``Cosine()`` it is computed as such. Zero padding
    adds nothing to the norm of a patch: patches at a border are measured by what they
    have of the image. The norms come from a sum over channels and a sum over
    the window, and cost next to nothing beside the convolution.

    Which magnitude: see :class:`Magnitude`; which angular function: :class:`Cosine` is
    the cheapest, :class:`LinearAngle` and :class:`Sigmoid` train SphereNets better.
    Keep to the plain convolution where the length of a patch says what its direction
    does not, as in regression on raw intensities.

    Where an angle is needed, :math:`\partial\theta/\partial w` has length
    :math:`1 / \|w\|` for all angles in :math:`(0, \pi)`. It is formed from the cosine,
    whose rounding shows next to the ends: in float32 that length is right to 2 % from
    4e-3 rad on, at most doubled below, and zero below 3.4e-4 rad, as it is at 0 and
    :math:`\pi`, where the direction does not exist. In bfloat16 it is zero below 1.8
    degrees, in float16 below 0.22. Products in TensorFloat-32, which GPUs take by
    default, have fewer digits than that: ask for a higher ``precision`` if filters come
    to lie along their patches.

    Args:
        inputs: Floating, ``[..., *space, channels]``, one to three axes of space.
        kernel: Dtype of ``inputs``, ``[*window, channels / groups, filters]``.
        magnitude: h; hyperparameters are scalars or ``[filters]``.
        angular: g; hyperparameters likewise.
        strides: Of the window, for all axes or each.
        padding: As in :class:`flax.nnx.Conv`: ``"SAME"``, ``"SAME_LOWER"``,
            ``"VALID"``, ``"CAUSAL"`` (one axis, all zeros before the inputs), a number
            for all sides, or for each axis a number or (low, high); ``"CIRCULAR"`` and
            ``"REFLECT"`` continue the inputs instead, to as many patches at stride 1.
        input_dilation: Distance of the entries of the inputs, with zeros in between.
        kernel_dilation: Distance of the entries of the kernel.
        feature_group_count: Groups of channels, with filters of their own; as many as
            there are channels for a depthwise convolution.
        emit: ``"output"``; ``"magnitude"`` or ``"angle"`` for h or g alone, of which
            the output is the product.
        precision: Of the convolution, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        ``[..., *space, filters]``, dtype of ``inputs``, computed in float32 at least.
        A zero patch, or filter, is at right angles to everything: the output is 0, with
        zero gradient. :class:`Linear` with :class:`Cosine` is a product of the patch
        and keeps its ordinary gradient at a zero patch.

    Raises:
        TypeError: If ``inputs`` is not floating, ``kernel`` has another dtype, or
            ``magnitude`` or ``angular`` is none.
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
    check_functions(magnitude, angular, emit)
    inputs, kernel = as_operands(inputs, kernel)
    check_convolution(inputs, kernel, feature_group_count)
    rank = kernel.ndim - 2
    flat, window = _window.on_window(
        _flatten(inputs, rank),
        kernel.shape[:rank],
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        groups=feature_group_count,
    )
    outputs = _decoupled(
        flat, kernel, magnitude, angular, window=window, emit=emit, precision=precision
    )
    return outputs.reshape(*inputs.shape[: -rank - 1], *outputs.shape[1:])


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
        strides: As in :func:`decoupled_conv`, like all that follow.
        padding: See there.
        input_dilation: See there.
        kernel_dilation: See there.
        feature_group_count: See there.

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
    check_space(inputs, rank, feature_group_count)
    flat, window = _window.on_window(
        _flatten(inputs, rank),
        kernel_size,
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        groups=feature_group_count,
    )
    norms = _patch_norms(flat, window=window)
    return norms.reshape(*inputs.shape[: -rank - 1], *norms.shape[1:])


@compiled("window")
def _patch_norms(inputs: jax.Array, *, window: _window.Window) -> jax.Array:
    return _window.norms(inputs, window)


@compiled("window", "emit", "precision")
def _decoupled(
    inputs: jax.Array,
    kernel: jax.Array,
    magnitude: Magnitude,
    angular: Angular,
    *,
    window: _window.Window,
    emit: Emit,
    precision: Any,
) -> jax.Array:
    linear = as_linear(magnitude, angular, emit)
    if linear is not None:
        return _linear(inputs, kernel, linear, window, precision)
    lengths, norms = length(widen(to_rows(kernel))), _window.norms(inputs, window)
    # Between what brings the patches to a length of 1 and nothing, so that neither
    # products nor their transposes leave the range of the dtype.
    shift = inverse_power(jnp.sqrt(jnp.max(norms, initial=0.0)))
    return combine(
        _window.projections(inputs, kernel, lengths, shift, window, precision),
        norms * shift,
        norms,
        lengths,
        magnitude,
        angular,
        emit=emit,
        dtype=inputs.dtype,
    )


def _linear(inputs, kernel, magnitude, window, precision):
    if magnitude.weighted == "none":
        lengths = length(widen(to_rows(kernel)))
        one = jnp.ones((), lengths.dtype)
        out = _window.projections(inputs, kernel, lengths, one, window, precision)
    else:
        out = _window.convolve(inputs, kernel, window, precision, None)
    return scaled(magnitude, out, inputs.dtype)


def _flatten(inputs: jax.Array, rank: int) -> jax.Array:
    """``[..., *space, channels]`` with one leading axis."""
    batch = math.prod(inputs.shape[: -rank - 1])
    return inputs.reshape(batch, *inputs.shape[-rank - 1 :])
