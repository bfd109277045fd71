"""Layers whose neurons are orthonormal."""

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
    """The matrix of a free kernel made orthogonal."""

    kernel: nnx.Param[jax.Array]
    method: Method

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"kernel": "not the kernel in use, whose neurons are orthonormal"}

    def effective_kernel(self) -> jax.Array:
        """The orthogonal kernel, in Flax layout."""
        rows = to_rows(self.kernel[...])
        orthonormalize = _METHODS[self.method]
        if rows.shape[0] > rows.shape[1]:
            rows = orthonormalize(rows)
        else:
            rows = orthonormalize(rows.mT).mT
        return from_rows(rows, self.kernel_shape)


class OrthogonalLinear(_Orthonormal, PlainDense):
    r"""Dense layer whose kernel has orthonormal columns, or rows if it is wide.

    Made and called as :class:`flax.nnx.Linear`. The kernel stored is free; the one in
    use, ``layer.effective_kernel()``, is orthogonal by construction, whatever optimizer
    or weight decay acts on the other. With as many features as inputs, or
    more, outputs have the length of inputs; gradients never grow.

    Args:
        in_features: Size of the last input axis.
        features: Number of output neurons.
        method: ``"lowdin"``, the nearest orthogonal matrix; ``"gram_schmidt"``; or
            ``"householder"``, with the columns as the vectors of the reflections. See
            :mod:`sphax.orthogonal`.
        use_bias: Whether to add a bias.
        dtype: Of the computation; by default that of inputs and kernel together.
        param_dtype: Of the parameters; the kernel in use is made in float32 at least.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the free kernel; by default Gaussian, with which the
            one in use is uniformly distributed.
        bias_init: Initializer of the bias.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size is not positive or ``method`` unknown; from a call, if the
            last axis of its inputs has another size.

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
        features: int,
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
        shape = (in_features, features)
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

    Made and called as :class:`flax.nnx.Conv`. The kernel in use,
    ``layer.effective_kernel()``, is orthogonal as a matrix of patches by filters,
    ``[fan_in, out_features]``: the filters are orthonormal, or the rows if there are
    more filters than entries of a patch. As
    windows overlap, this is not the same as a convolution that keeps lengths.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: As in :func:`sphax.operators.decoupled_conv`.
        method: As in :class:`OrthogonalLinear`.
        padding: As in :func:`sphax.operators.decoupled_conv`.
        input_dilation: As there.
        kernel_dilation: As there.
        use_bias: As in :class:`OrthogonalLinear`, like all that follow.
        dtype: See there.
        param_dtype: See there.
        precision: See there.
        kernel_init: See there.
        bias_init: See there.
        rngs: See there.

    Raises:
        TypeError: As :class:`OrthogonalLinear`.
        ValueError: As :class:`OrthogonalLinear`.

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
