"""Flax's dense layer and convolution with a kernel that is made of other variables."""

import abc
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from flax.typing import PaddingLike

from sphax._checks import as_floating, check_sizes
from sphax.layers._common import check_features, make_bias, window_sizes


class Plain(nnx.Module):
    """Base of layers that compute their kernel; subclasses say which layer has it."""

    def __init__(
        self,
        kernel_shape: tuple[int, ...],
        *,
        use_bias: bool,
        dtype: Any,
        param_dtype: Any,
        precision: Any,
        bias_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ):
        *window, in_features, features = kernel_shape
        check_sizes(
            type(self).__name__,
            in_features=in_features,
            features=features,
            **window_sizes(window),
        )
        self.kernel_shape = tuple(kernel_shape)
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision
        self.bias = make_bias(use_bias, bias_init, features, param_dtype, rngs)

    @abc.abstractmethod
    def effective_kernel(self) -> jax.Array:
        """The kernel, in Flax layout, in the dtype of the parameters."""

    @abc.abstractmethod
    def merge(self) -> nnx.Linear | nnx.Conv:
        """The Flax layer with the same outputs, for inference."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in_features]`` to outputs, as the Flax layer does."""
        inputs = as_floating("inputs", inputs)
        check_features("inputs", inputs, self.kernel_shape[-2])
        return self.merge()(inputs)

    def _options(self) -> dict[str, Any]:
        """Options by which a layer of Flax has this kernel and bias."""
        bias = self.bias
        return dict(
            use_bias=bias is not None,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=lambda *_: self.effective_kernel(),
            bias_init=lambda *_: None if bias is None else bias[...],
            rngs=nnx.Rngs(0),
        )


class PlainDense(Plain):
    """The dense layer."""

    def merge(self) -> nnx.Linear:
        """The Flax layer with the same outputs, for inference."""
        return nnx.Linear(*self.kernel_shape, **self._options())


class PlainConv(Plain):
    """The convolution."""

    def __init__(
        self,
        kernel_shape: tuple[int, ...],
        *,
        strides: int | Sequence[int],
        padding: PaddingLike,
        input_dilation: int | Sequence[int],
        kernel_dilation: int | Sequence[int],
        **options: Any,
    ):
        super().__init__(kernel_shape, **options)
        self.strides, self.padding = strides, padding
        self.input_dilation, self.kernel_dilation = input_dilation, kernel_dilation

    def merge(self) -> nnx.Conv:
        """The Flax layer with the same outputs, for inference."""
        *window, in_features, features = self.kernel_shape
        return nnx.Conv(
            in_features,
            features,
            window,
            self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            **self._options(),
        )
