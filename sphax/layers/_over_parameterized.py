"""Over-parameterized layers: frozen neurons under a learned rotation (OPT)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PaddingLike

from sphax._checks import check_count
from sphax.layers._common import window_of
from sphax.layers._plain import Plain, PlainConv, PlainDense
from sphax.neurons import NeuronDimensions
from sphax.reparam import FrozenNeurons, Reparameterization, Rotations, orthogonal

Method = (
    Literal[
        "cayley",
        "cayley_neumann",
        "exponential",
        "gram_schmidt",
        "householder",
        "lowdin",
        "identity",
    ]
    | Callable[[jax.Array], jax.Array]
)
RotationInit = Literal["identity", "normal"]

# The mean squared length is 2, as in the authors' code.
_GAUSSIAN = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Frozen(nnx.Variable[jax.Array]):
    """A variable that is not trained: optimizers of ``nnx.Param`` do not see it.

    Example:
        >>> layer = sx.layers.OPTLinear(8, 3, rngs=nnx.Rngs(0))
        >>> list(nnx.state(layer, sx.layers.Frozen))
        ['neurons']
        >>> list(nnx.state(layer, nnx.Param))
        ['bias', 'rotation']
    """


class _OverParameterized(Plain):
    """Frozen neurons under a rotation of their space."""

    method: Method
    scale: float | None

    def _freeze(self, neurons, rotation_init, block_size, share_blocks, rngs):
        """Makes the variables, of the neurons that the kernel starts with."""
        check_count(f"{type(self).__name__}: out_features", neurons.shape[-1], 2)
        training = self._training(
            block_size=block_size,
            share_blocks=share_blocks,
            rotation_init=rotation_init,
            neuron_init="given",
            allow_large=True,
        )
        free, frozen = training.init(rngs.params(), {"kernel": neurons})
        self.neurons = Frozen(frozen["kernel"].kernel)
        self.rotation = nnx.Param(free["kernel"].left)

    def _training(self, **options: Any) -> Reparameterization:
        # Not an attribute: reparameterizations with the same options are not equal.
        return orthogonal(
            method=self.method,
            scale=self.scale,
            neurons={"kernel": NeuronDimensions()},
            **options,
        )

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"rotation": "raw arrays of rotations, under which neurons are frozen"}

    def effective_kernel(self) -> jax.Array:
        """The kernel, in Flax layout, in the dtype of the neurons."""
        free = {"kernel": Rotations(left=self.rotation[...])}
        frozen = {"kernel": FrozenNeurons(self.neurons[...], None, None)}
        return self._training().apply(free, frozen)["kernel"]


class OPTLinear(_OverParameterized, PlainDense):
    r"""Dense layer of frozen neurons in a learned orientation, :math:`W = R V`.

    It is created and called like :class:`flax.nnx.Linear`, and does to its kernel what
    :func:`sphax.reparam.orthogonal` does to the params of any model. The columns of
    :math:`V` are ``layer.neurons``, a :class:`Frozen`; ``layer.rotation`` is the raw
    array of the rotation :math:`R`, ``[sets, factors, blocks, b, b]``;
    ``layer.effective_kernel()`` is :math:`W`, and ``layer.merge()`` returns the plain
    layer with this kernel.

    Args:
        in_features: Size of the last input axis, 2 or more.
        out_features: Number of output neurons, 2 or more.
        method: Map to orthogonal matrices, as in :func:`sphax.reparam.orthogonal`.
        block_size: Largest size of a block of the rotation, or ``None`` for one block.
        share_blocks: Whether all blocks of the rotation are the same.
        rotation_init: ``"identity"``, or ``"normal"`` for a random rotation.
        scale: Factor of the raw array, as in :func:`sphax.reparam.orthogonal`.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of neurons and bias; the rotation is float32 at least.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the neurons; by default Gaussian with variance
            2 / fan-in.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: From a call, if the inputs are not floating.
        ValueError: If a size or an option is out of range; from a call, if the last
            axis of the inputs has another size.

    Example:
        >>> layer = sx.layers.OPTLinear(8, 3, block_size=4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((5, 8))).shape
        (5, 3)
        >>> layer.rotation.shape
        (1, 1, 2, 4, 4)

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        method: Method = "cayley",
        block_size: int | None = None,
        share_blocks: bool = False,
        rotation_init: RotationInit = "identity",
        scale: float | None = None,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = _GAUSSIAN,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        super().__init__(
            (in_features, out_features),
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.method, self.scale = method, scale
        neurons = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        self._freeze(neurons, rotation_init, block_size, share_blocks, rngs)


class OPTConv(_OverParameterized, PlainConv):
    r"""Convolution of frozen filters in a learned orientation, :math:`W = R V`.

    It is created and called like :class:`flax.nnx.Conv`. The rotation of
    :class:`OPTLinear` acts on filters as vectors of all entries of a patch, with the
    channels as the fastest axis.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters, 2 or more.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Strides of the window.
        method: Map to orthogonal matrices, as in :func:`sphax.reparam.orthogonal`.
        block_size: Largest size of a block of the rotation, or ``None`` for one block.
        share_blocks: Whether all blocks of the rotation are the same.
        rotation_init: ``"identity"``, or ``"normal"`` for a random rotation.
        scale: Factor of the raw array, as in :func:`sphax.reparam.orthogonal`.
        padding: Padding, as in :func:`sphax.operators.decoupled_conv`.
        input_dilation: Dilation of the inputs.
        kernel_dilation: Dilation of the window.
        use_bias: Whether to add a bias.
        dtype: Dtype of the computation; by default the common one of inputs and kernel.
        param_dtype: Dtype of neurons and bias; the rotation is float32 at least.
        precision: Precision of the product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the neurons; by default Gaussian with variance
            2 / fan-in.
        bias_init: Initializer of the bias.
        rngs: Key streams; ``params`` is used.

    Raises:
        TypeError: Same as :class:`OPTLinear`.
        ValueError: Same as :class:`OPTLinear`.

    Example:
        >>> conv = sx.layers.OPTConv(2, 4, (3, 3), rngs=nnx.Rngs(0))
        >>> bool(jnp.allclose(conv.effective_kernel(), conv.neurons[...], atol=1e-6))
        True
        >>> conv(jnp.ones((5, 9, 9, 2))).shape
        (5, 9, 9, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        method: Method = "cayley",
        block_size: int | None = None,
        share_blocks: bool = False,
        rotation_init: RotationInit = "identity",
        scale: float | None = None,
        padding: PaddingLike = "SAME",
        input_dilation: int | Sequence[int] = 1,
        kernel_dilation: int | Sequence[int] = 1,
        use_bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = _GAUSSIAN,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        super().__init__(
            (*window_of(kernel_size), in_features, out_features),
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
        self.method, self.scale = method, scale
        neurons = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        self._freeze(neurons, rotation_init, block_size, share_blocks, rngs)
