"""Almost-orthogonal layers, which lengthen nothing."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PaddingLike

from sphax.layers._common import COLUMNS_INIT, window_of
from sphax.layers._plain import Plain, PlainConv, PlainDense
from sphax.orthogonal import almost_orthogonal, almost_orthogonal_kernel


class _Rescaled(Plain):
    """A free kernel, stored, and the rescaled one of it, in use."""

    kernel: nnx.Param[jax.Array]

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"kernel": "not the kernel in use, which is rescaled"}


class AlmostOrthogonalLinear(_Rescaled, PlainDense):
    r"""Dense layer that lengthens no vector, by rescaled weights of each input (AOL).

    It is created and called like :class:`flax.nnx.Linear`. The stored kernel is free;
    the kernel in use, ``layer.effective_kernel()``, has a largest singular value of at
    most 1, see :func:`sphax.orthogonal.almost_orthogonal`. It costs one product, and
    bounds lengths; :class:`OrthogonalLinear` keeps them.

    Args:
        in_features: Size of the last input axis.
        out_features: Number of output neurons.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the stored kernel.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If a size is not positive; from a call, if the last axis of the
            inputs has another size.

    Example:
        >>> layer = sx.layers.AlmostOrthogonalLinear(8, 4, rngs=nnx.Rngs(0))
        >>> bool(jnp.linalg.norm(layer.effective_kernel(), 2) <= 1.0)
        True

    References:
        Prach, Lampert, `Almost-Orthogonal Layers for Efficient General-Purpose
        Lipschitz Networks <https://arxiv.org/abs/2208.03160>`_, ECCV 2022.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
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
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))

    def effective_kernel(self) -> jax.Array:
        """The rescaled kernel, in Flax layout."""
        return almost_orthogonal(self.kernel[...].mT).mT


class AlmostOrthogonalConv(_Rescaled, PlainConv):
    r"""Convolution that lengthens no image, by rescaled kernels of each channel (AOL).

    It is created and called like :class:`flax.nnx.Conv`. The stored kernel is free;
    the kernel in use, ``layer.effective_kernel()``, is that of
    :func:`sphax.orthogonal.almost_orthogonal_kernel`. Keep to paddings that add zeros
    or continue images periodically: ``"REFLECT"`` repeats pixels, which lengthens
    images before the kernel sees them.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Strides of the window.
        padding: Padding, as in :func:`sphax.operators.decoupled_conv`.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of the parameters.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the stored kernel.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: Same as :class:`AlmostOrthogonalLinear`.
        ValueError: Same as :class:`AlmostOrthogonalLinear`, or if ``padding`` is
            ``"REFLECT"``.

    Example:
        >>> conv = sx.layers.AlmostOrthogonalConv(3, 8, (3, 3), rngs=nnx.Rngs(0))
        >>> image = jnp.ones((4, 4, 3))
        >>> bool(jnp.linalg.norm(conv(image)) <= jnp.linalg.norm(image))
        True

    References:
        Prach, Lampert, `Almost-Orthogonal Layers for Efficient General-Purpose
        Lipschitz Networks <https://arxiv.org/abs/2208.03160>`_, ECCV 2022.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        padding: PaddingLike = "SAME",
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        if padding == "REFLECT":
            raise ValueError(
                'padding must be zeros or "CIRCULAR", since reflected images are longer'
                " than the inputs, got 'REFLECT'."
            )
        shape = (*window_of(kernel_size), in_features, out_features)
        super().__init__(
            shape,
            strides=strides,
            padding=padding,
            input_dilation=1,
            kernel_dilation=1,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))

    def effective_kernel(self) -> jax.Array:
        """The rescaled kernel, in Flax layout."""
        return almost_orthogonal_kernel(self.kernel[...])
