"""Orthogonal layers: dense layer and convolution with orthonormal kernels."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PaddingLike

from sphax._checks import check_choice
from sphax.layers._common import COLUMNS_INIT, window_of
from sphax.layers._plain import Plain, PlainConv, PlainDense
from sphax.neurons import from_rows, to_rows
from sphax.orthogonal import gram_schmidt, householder, lowdin

Method = Literal["gram_schmidt", "householder", "lowdin"]

_METHODS = {
    "gram_schmidt": gram_schmidt,
    "householder": lambda columns: householder(columns.mT)[:, : columns.shape[-1]],
    "lowdin": lowdin,
}


class _Orthonormal(Plain):
    """A free kernel, stored, and the orthonormal one of it, in use."""

    kernel: nnx.Param[jax.Array]
    method: Method

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"kernel": "not the kernel in use, whose neurons are orthonormal"}

    def effective_kernel(self) -> jax.Array:
        """The orthonormal kernel, in Flax layout."""
        rows = to_rows(self.kernel[...])
        orthonormalize = _METHODS[self.method]
        if rows.shape[0] > rows.shape[1]:
            rows = orthonormalize(rows)
        else:
            rows = orthonormalize(rows.mT).mT
        return from_rows(rows, self.kernel_shape)


class OrthogonalLinear(_Orthonormal, PlainDense):
    r"""Dense layer whose kernel has orthonormal columns, or rows if it is wide.

    It is created and called like :class:`flax.nnx.Linear`. The stored kernel is free;
    the kernel in use, ``layer.effective_kernel()``, is computed from it and is
    orthogonal whatever optimizer or weight decay acts on the stored one. Without a
    bias, outputs are as long as inputs if there are as many output features as inputs
    or more; gradients never grow.

    Args:
        in_features: Size of the last input axis.
        out_features: Number of output neurons.
        method: ``"lowdin"``, the nearest orthogonal matrix; ``"gram_schmidt"``; or
            ``"householder"``, with the columns as the normals of the reflections. See
            :mod:`sphax.orthogonal`.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters; the kernel in use is computed in float32
            at least.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the stored kernel; by default Gaussian, which makes
            the kernel in use uniformly distributed.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If a size is not positive or ``method`` is unknown; from a call, if
            the last axis of the inputs has another size.

    Example:
        >>> layer = sx.layers.OrthogonalLinear(8, 3, rngs=nnx.Rngs(0))
        >>> float(sx.orthogonal.orthogonality_error(layer.effective_kernel())) < 1e-5
        True
        >>> type(layer.merge()).__name__
        'Linear'
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        method: Method = "lowdin",
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        check_choice("method", method, tuple(_METHODS))
        shape = (in_features, out_features)
        super().__init__(
            shape,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.method = method
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))


class OrthogonalConv(_Orthonormal, PlainConv):
    r"""Convolution whose filters are orthonormal.

    It is created and called like :class:`flax.nnx.Conv`. The kernel in use,
    ``layer.effective_kernel()``, is orthogonal as a matrix of patch entries by filters,
    ``[fan_in, out_features]``: the filters are orthonormal, or the rows if there are
    more filters than entries of a patch. Since windows overlap, the convolution itself
    does not preserve lengths.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Strides of the window.
        method: Map to orthogonal matrices, as in :class:`OrthogonalLinear`.
        padding: Padding, as in :func:`sphax.operators.decoupled_conv`.
        input_dilation: Dilation of the inputs.
        kernel_dilation: Dilation of the window.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters; the kernel in use is computed in float32
            at least.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the stored kernel; by default Gaussian.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: Same as :class:`OrthogonalLinear`.
        ValueError: Same as :class:`OrthogonalLinear`.

    Example:
        >>> conv = sx.layers.OrthogonalConv(3, 8, (3, 3), rngs=nnx.Rngs(0))
        >>> filters = sx.neurons.to_rows(conv.effective_kernel())
        >>> float(sx.orthogonal.orthogonality_error(filters.T)) < 1e-5
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        method: Method = "lowdin",
        padding: PaddingLike = "SAME",
        input_dilation: int | Sequence[int] = 1,
        kernel_dilation: int | Sequence[int] = 1,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        check_choice("method", method, tuple(_METHODS))
        shape = (*window_of(kernel_size), in_features, out_features)
        super().__init__(
            shape,
            strides=strides,
            padding=padding,
            input_dilation=input_dilation,
            kernel_dilation=kernel_dilation,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.method = method
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
