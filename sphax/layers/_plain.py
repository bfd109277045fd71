"""Plain dense layer and convolution, of a kernel that a subclass makes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers._common import check_features, check_sizes, promote
from sphax.operators import Cosine, Linear, decoupled_conv
from sphax.operators._padding import PaddingLike


class Plain(nnx.Module):
    """Base of layers whose kernel is made of other variables."""

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
        owner, (*window, in_features, features) = type(self).__name__, kernel_shape
        sizes = {f"kernel_size[{i}]": size for i, size in enumerate(window)}
        check_sizes(owner, in_features=in_features, features=features, **sizes)
        self.kernel_shape = tuple(kernel_shape)
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision
        bias = bias_init(rngs.params(), (features,), param_dtype) if use_bias else None
        self.bias = nnx.data(None if bias is None else nnx.Param(bias))

    def weights(self) -> jax.Array:
        """The kernel, in Flax layout, in the dtype of the parameters."""
        raise NotImplementedError

    def _operands(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_features("inputs", inputs, self.kernel_shape[-2])
        return promote("inputs", inputs, self.weights(), self.dtype)

    def _with_bias(self, outputs: jax.Array) -> jax.Array:
        if self.bias is None:
            return outputs
        bias = self.bias[...].astype(outputs.dtype)
        return outputs + jnp.expand_dims(bias, range(outputs.ndim - 1))

    def _merged(self, kind: Any, *sizes: Any, **options: Any) -> Any:
        """A layer of Flax with this kernel and bias."""
        layer = kind(
            *sizes,
            **options,
            use_bias=self.bias is not None,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            rngs=nnx.Rngs(0),
        )
        layer.kernel[...] = self.weights()
        if self.bias is not None:
            layer.bias[...] = self.bias[...]
        return layer


class PlainDense(Plain):
    """The dense layer."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in_features]`` to ``[..., features]``."""
        inputs, kernel = self._operands(inputs)
        return self._with_bias(jnp.matmul(inputs, kernel, precision=self.precision))

    def merge(self) -> nnx.Linear:
        """The Flax layer of the same outputs, for inference."""
        return self._merged(nnx.Linear, *self.kernel_shape)


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
        outputs = decoupled_conv(
            inputs,
            kernel,
            magnitude=Linear(weighted="linear"),
            angular=Cosine(),
            precision=self.precision,
            **self._window(),
        )
        return self._with_bias(outputs)

    def merge(self) -> nnx.Conv:
        """The Flax layer of the same outputs, for inference."""
        *window, in_features, features = self.kernel_shape
        return self._merged(
            nnx.Conv, in_features, features, tuple(window), **self._window()
        )

    def _window(self) -> dict[str, Any]:
        return dict(
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
        )


def window_of(kernel_size: int | Sequence[int]) -> tuple[int, ...]:
    """One axis if it is a number."""
    return (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
