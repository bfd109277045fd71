"""Convolutions and an activation that keep the length of their inputs."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_choice, check_count, check_range, check_sizes
from sphax._compiled import compiled
from sphax._numerics import divide, widen
from sphax.layers._common import (
    COLUMNS_INIT,
    add_bias,
    check_features,
    make_bias,
    promote,
    window_of,
    window_sizes,
)
from sphax.operators import (
    cayley_response,
    fourier_convolution,
    group_sort,
    skew_convolution,
    space_to_depth,
)


class _LengthPreserving(nnx.Module):
    """A kernel for blocks of pixels as channels, and a bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int],
        *,
        dtype: Any,
        param_dtype: Any,
        use_bias: bool,
        bias_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ):
        window = window_of(kernel_size)
        block = window_of(strides)
        if isinstance(strides, int):
            block *= len(window)
        check_sizes(
            type(self).__name__,
            in_features=in_features,
            out_features=out_features,
            **window_sizes(window),
            **{f"strides[{i}]": size for i, size in enumerate(block)},
        )
        if len(block) != len(window):
            raise ValueError(
                f"strides must be a number or {len(window)} numbers, one for each axis"
                f" of the window, got {strides}."
            )
        self.in_features, self.out_features = in_features, out_features
        self.window, self.strides = window, block
        self.dtype, self.param_dtype = dtype, param_dtype
        self.bias = make_bias(use_bias, bias_init, out_features, param_dtype, rngs)

    def _channels(self) -> int:
        """Channels of the inputs after the blocks of a stride have become channels."""
        return self.in_features * math.prod(self.strides)

    def _blocks(self, inputs: jax.Array) -> jax.Array:
        check_features("inputs", inputs, self.in_features)
        if math.prod(self.strides) == 1:
            return inputs
        return space_to_depth(inputs, self.strides)


class SkewConv(_LengthPreserving):
    r"""Convolution that keeps lengths: the exponential of a skew one (SOC).

    :func:`sphax.operators.skew_convolution` as a layer. With more filters than
    channels, inputs are filled up with channels of zeros; with fewer, the last outputs
    are left out. A stride makes the pixels of a block channels first. So outputs
    without bias are as long as inputs if there are at least as many filters as channels
    in a block, and never longer.

    Where a bound on the norm of the skew convolution, known from its kernel alone,
    exceeds ``max_norm``, the kernel in use is scaled down to it, so that the error of
    the series stays small (1.3e-6 by default), whatever the optimizer does.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window of odd sizes, one to three axes; a number is a window of one
            axis.
        strides: Size of a block of pixels, for all axes or each.
        terms: Convolutions in a call, the terms of the series.
        padding: ``"SAME"`` for zeros around the images, or ``"CIRCULAR"``.
        max_norm: Largest norm of the skew convolution, the largest angle by which it
            turns in radians, positive. The error of the series is
            ``max_norm ** (terms + 1) / (terms + 1)!``.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters.
        precision: Of the convolutions, as in :func:`jax.lax.conv_general_dilated`.
        kernel_init: Initializer of the kernel.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If a size is not positive, one of the window is even, or an option
            is out of range; from a call, if the last axis of the inputs has another
            size, or ``strides`` does not divide the others.

    Example:
        >>> conv = sx.layers.SkewConv(3, 12, (3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> image = jnp.ones((4, 4, 3))
        >>> conv(image).shape, jnp.linalg.norm(conv(image)) / jnp.linalg.norm(image)
        ((2, 2, 12), Array(1., dtype=float32))

    References:
        Singla, Feizi, `Skew Orthogonal Convolutions
        <https://arxiv.org/abs/2105.11417>`_, ICML 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        terms: int = 12,
        padding: Literal["SAME", "CIRCULAR"] = "SAME",
        max_norm: float = 2.0,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = "highest",
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            dtype=dtype,
            param_dtype=param_dtype,
            use_bias=use_bias,
            bias_init=bias_init,
            rngs=rngs,
        )
        if any(size % 2 == 0 for size in self.window):
            raise ValueError(
                f"SkewConv: kernel_size must have odd sizes, got {self.window}."
            )
        check_count("terms", terms)
        check_choice("padding", padding, ("SAME", "CIRCULAR"))
        check_range("max_norm", max_norm, 0.0, exclude_low=True)
        self.terms, self.max_norm, self.precision = terms, max_norm, precision
        self.padding: Literal["SAME", "CIRCULAR"] = padding
        channels = max(self._channels(), out_features)
        shape = (*self.window, channels, channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"kernel": "of the logarithm of a convolution, not of its filters"}

    def effective_kernel(self) -> jax.Array:
        """The kernel whose skew convolution is exponentiated, scaled down if large."""
        return _within(self.kernel[...], self.max_norm)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., *space, in_features]`` to ``[..., *blocks, out_features]``."""
        inputs = self._blocks(inputs)
        inputs, kernel = promote("inputs", inputs, self.effective_kernel(), self.dtype)
        missing = kernel.shape[-1] - inputs.shape[-1]
        filled = jnp.pad(inputs, [(0, 0)] * (inputs.ndim - 1) + [(0, missing)])
        outputs = skew_convolution(
            filled,
            kernel,
            terms=self.terms,
            padding=self.padding,
            precision=self.precision,
        )
        return add_bias(outputs[..., : self.out_features], self.bias)


@compiled()
def _within(kernel: jax.Array, max_norm: float) -> jax.Array:
    """The kernel, scaled down if the bound exceeds ``max_norm``."""
    wide = widen(kernel)
    bound = _bound(wide)
    factor = max_norm / jnp.where(bound == 0.0, max_norm, bound)
    return (wide * jnp.minimum(1.0, factor)).astype(kernel.dtype)


def _bound(kernel: jax.Array) -> jax.Array:
    """Bound on the norm of the skew convolution, with zeros or periodic, scalar.

    The root of the number of taps times the largest singular value of the kernel as a
    matrix, some axes of the window going with the rows, the others with the columns
    (Singla and Feizi 2021, Theorem 1). That value is at most the norm of all singular
    values in any power, which takes products alone and has a derivative; in the power
    of 16, it exceeds the largest of 100 equal ones by a third.
    """
    rank = kernel.ndim - 2
    skew = kernel - jnp.flip(kernel, tuple(range(rank))).mT
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(skew)))
    unit = divide(skew, size)
    bounds = []
    # With the rows go no axes of the window, or one of several.
    for axis in range(-1, rank if rank > 1 else 0):
        rows = (axis, rank) if axis >= 0 else (rank,)
        matrix = jnp.moveaxis(unit, rows, range(len(rows)))
        matrix = matrix.reshape(math.prod(unit.shape[i] for i in rows), -1)
        power = jnp.matmul(matrix, matrix.T, precision="highest")
        bound, exponent = jnp.ones_like(size), 0.5
        for _ in range(3):
            # Divided by the trace, which is at least the largest eigenvalue.
            trace = jnp.trace(power)
            trace = jnp.where(trace == 0.0, 1.0, trace)
            bound, exponent = bound * trace**exponent, exponent / 2.0
            power = jnp.matmul(power / trace, power / trace, precision="highest")
        trace = jnp.trace(power)
        bounds.append(bound * jnp.where(trace == 0.0, 1.0, trace) ** exponent)
    taps = math.prod(kernel.shape[:rank])
    return math.sqrt(taps) * size * jnp.min(jnp.stack(bounds))


class CayleyConv(_LengthPreserving):
    r"""Convolution of periodic images that keeps lengths (Cayley layer).

    :func:`sphax.operators.cayley_convolution` as a layer. A stride makes the pixels of
    a block channels first. Outputs without bias are as long as inputs if there are at
    least as many filters as channels in a block, and never longer. The matrices of all
    frequencies are computed in each call; ``layer.merge(space)`` is the layer that
    holds them, for images of one size.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Size of a block of pixels, for all axes or each.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters.
        kernel_init: Initializer of the kernel.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If a size is not positive; from a call, if the last axis of the
            inputs has another size, or ``strides`` does not divide the others.

    Example:
        >>> conv = sx.layers.CayleyConv(3, 12, (3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> image = jnp.ones((4, 4, 3))
        >>> conv(image).shape, jnp.linalg.norm(conv(image)) / jnp.linalg.norm(image)
        ((2, 2, 12), Array(1., dtype=float32))
        >>> bool(jnp.allclose(conv.merge((4, 4))(image), conv(image), atol=1e-6))
        True

    References:
        Trockman, Kolter, `Orthogonalizing Convolutional Layers with the Cayley
        Transform <https://arxiv.org/abs/2104.07167>`_, ICLR 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            dtype=dtype,
            param_dtype=param_dtype,
            use_bias=use_bias,
            bias_init=bias_init,
            rngs=rngs,
        )
        shape = (*self.window, self._channels(), out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"kernel": "not the kernel in use, which is orthogonal"}

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., *space, in_features]`` to ``[..., *blocks, out_features]``."""
        inputs = self._blocks(inputs)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        space = inputs.shape[-len(self.window) - 1 : -1]
        outputs = fourier_convolution(inputs, cayley_response(kernel, space))
        return add_bias(outputs, self.bias)

    def merge(self, space: Sequence[int]) -> "FourierConv":
        """The layer with the same outputs for images of this size, for inference."""
        blocks = [n // b for n, b in zip(space, self.strides, strict=False)]
        response = cayley_response(self.kernel[...], (*blocks, *space[len(blocks) :]))
        return FourierConv(
            response, strides=self.strides, bias=self.bias, dtype=self.dtype
        )


class FourierConv(nnx.Module):
    """Convolution of periodic images of one size, by its matrices for each frequency.

    ``CayleyConv.merge`` makes it, to compute these matrices once.

    Args:
        response: As for :func:`sphax.operators.fourier_convolution`.
        strides: Size of a block of pixels that become channels first.
        bias: ``[filters]``, or None.
        dtype: Dtype of the outputs; by default that of the inputs.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: From a call, if the inputs have other sizes.

    Example:
        >>> mean = jnp.array([1.0, 0.0], complex).reshape(2, 1, 1)
        >>> sx.layers.FourierConv(mean)(jnp.array([[3.0], [5.0]])).T
        Array([[4., 4.]], dtype=float32)
    """

    def __init__(
        self,
        response: jax.Array,
        *,
        strides: Sequence[int] | None = None,
        bias: nnx.Param[jax.Array] | None = None,
        dtype: jax.typing.DTypeLike | None = None,
    ):
        self.strides, self.dtype = strides, dtype
        self.response = nnx.Variable(response)
        self.bias = nnx.data(None if bias is None else nnx.Param(bias[...]))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., *space, channels]`` to ``[..., *blocks, filters]``."""
        if self.dtype is not None:
            inputs = inputs.astype(self.dtype)
        if self.strides is not None:
            inputs = space_to_depth(inputs, self.strides)
        return add_bias(fourier_convolution(inputs, self.response[...]), self.bias)


class GroupSort(nnx.Module):
    """Sorts every group of adjacent channels, largest first (GroupSort, MaxMin).

    :func:`sphax.operators.group_sort` as a layer, which has no parameters.

    Args:
        group_size: Channels in a group.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If ``group_size`` is not positive; from a call, if it does not
            divide the channels.

    Example:
        >>> sx.layers.GroupSort()(jnp.array([1.0, 2.0, 4.0, 3.0]))
        Array([2., 1., 4., 3.], dtype=float32)

    References:
        Anil et al., `Sorting Out Lipschitz Function Approximation
        <https://arxiv.org/abs/1811.05381>`_, ICML 2019.
    """

    def __init__(self, group_size: int = 2):
        check_sizes("GroupSort", group_size=group_size)
        self.group_size = group_size

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., channels]`` to the same shape."""
        return group_sort(inputs, self.group_size)
