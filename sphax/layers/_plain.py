"""Flax's dense layer and convolution with a kernel that is made of other variables."""

import abc
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PaddingLike

from sphax._checks import check_sizes
from sphax.layers._common import (
    add_bias,
    check_features,
    make_bias,
    promote,
    window_sizes,
)
from sphax.operators import Cosine, Linear, decoupled_conv


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

    def _operands(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_features("inputs", inputs, self.kernel_shape[-2])
        return promote("inputs", inputs, self.effective_kernel(), self.dtype)

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

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in_features]`` to ``[..., out_features]``."""
        inputs, kernel = self._operands(inputs)
        return add_bias(jnp.matmul(inputs, kernel, precision=self.precision), self.bias)

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

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., *space, in_features]`` to ``[..., *space, out_features]``."""
        inputs, kernel = self._operands(inputs)
        # The plain convolution. `nnx.Conv` itself raises on a mesh of explicit axes if
        # channels or filters are sharded; this works on any mesh.
        outputs = decoupled_conv(
            inputs,
            kernel,
            magnitude=Linear(weighted="linear"),
            angular=Cosine(),
            precision=self.precision,
            **self._window(),
        )
        return add_bias(outputs, self.bias)

    def merge(self) -> nnx.Conv:
        """The Flax layer with the same outputs, for inference."""
        *window, in_features, features = self.kernel_shape
        options = self._window() | self._options()
        return nnx.Conv(in_features, features, window, **options)

    def _window(self) -> dict[str, Any]:
        return dict(
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
        )
