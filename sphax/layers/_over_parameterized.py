"""Layers whose neurons are frozen and turned together."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PaddingLike

from sphax.layers._common import window_of
from sphax.layers._plain import Plain, PlainConv, PlainDense
from sphax.neurons import NeuronDimensions, find
from sphax.reparam import FrozenNeurons, Rotations
from sphax.reparam._blocks import Contiguous
from sphax.reparam._rotated import rotated_kernel
from sphax.reparam._rotations import Method, Parameterization, RotationInit

# Of mean squared length 2, as in the release.
_GAUSSIAN = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Frozen(nnx.Variable[jax.Array]):
    """A variable that nothing trains: no gradient, optimiser or decay of params.

    Example:
        >>> layer = sx.layers.OPTLinear(8, 3, rngs=nnx.Rngs(0))
        >>> list(nnx.state(layer, sx.layers.Frozen))
        ['neurons']
        >>> list(nnx.state(layer, nnx.Param))
        ['bias', 'rotation']
    """


class _OverParameterized(Plain):
    """Frozen neurons under a rotation of their space."""

    def _freeze(self, neurons, parameterization, block_size, share_blocks, rngs):
        axes = find({"kernel": neurons}, NeuronDimensions())["kernel"]
        sets, _, dimension = axes.sizes(neurons.shape)
        blocks = Contiguous(block_size).shape(dimension)
        if blocks is None:
            raise ValueError(
                "block_size must be 2 or more, and the dimension of the neurons have"
                f" such a divisor up to it, got {block_size} and {dimension}."
            )
        factors, count, size = blocks
        shape = sets, factors, 1 if share_blocks else count, size
        raw = parameterization.start(rngs.params(), shape, neurons.dtype)
        self.parameterization, self.axes = parameterization, axes
        self.neurons, self.rotation = Frozen(neurons), nnx.Param(raw)

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return {"rotation": "raw arrays of rotations, under which neurons are frozen"}

    def effective_kernel(self) -> jax.Array:
        """The kernel, in Flax layout, in the dtype of the neurons."""
        frozen = FrozenNeurons(self.neurons[...], None, None)
        matrices = self.parameterization.matrix(self.rotation[...])
        return rotated_kernel(Rotations(matrices), frozen, self.axes)


class OPTLinear(_OverParameterized, PlainDense):
    r"""Dense layer of frozen neurons in a learned orientation, :math:`W = R V`.

    Made and called as :class:`flax.nnx.Linear`; see :func:`sphax.reparam.orthogonal`,
    which does the same to the params of any model. The columns of :math:`V` are
    ``layer.neurons``, a :class:`Frozen`; ``layer.rotation`` is a raw array,
    ``[sets, factors, blocks, b, b]``, that stands for the rotation :math:`R`;
    ``layer.effective_kernel()`` is :math:`W`, and ``layer.merge()`` the plain layer
    that has it.

    Args:
        in_features: Size of the last input axis, 2 or more.
        features: Number of output neurons, 2 or more.
        method: As in :func:`sphax.reparam.orthogonal`.
        block_size: As there.
        share_blocks: As there.
        rotation_init: As there.
        scale: As there.
        use_bias: Whether to add a bias.
        dtype: Of the computation; by default that of inputs and kernel together.
        param_dtype: Of the parameters; rotations are made in float32 at least.
        precision: Of the product with the inputs, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the neurons; by default Gaussian of variance
            2 / fan-in.
        bias_init: Initializer of the bias.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size or an option is out of range; from a call, if the last
            axis of its inputs has another size.

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
        features: int,
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
            (in_features, features),
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            bias_init=bias_init,
            rngs=rngs,
        )
        neurons = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        parameterization = Parameterization(method, scale, rotation_init)
        self._freeze(neurons, parameterization, block_size, share_blocks, rngs)


class OPTConv(_OverParameterized, PlainConv):
    r"""Convolution of frozen filters in a learned orientation, :math:`W = R V`.

    Made and called as :class:`flax.nnx.Conv`, with the rotation that of
    :class:`OPTLinear`: it acts on filters as vectors of window and channels, the
    channels fastest.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters, 2 or more.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: As in :func:`sphax.operators.decoupled_conv`.
        method: As in :func:`sphax.reparam.orthogonal`.
        block_size: As there.
        share_blocks: As there.
        rotation_init: As there.
        scale: As there.
        padding: As in :func:`sphax.operators.decoupled_conv`.
        input_dilation: As there.
        kernel_dilation: As there.
        use_bias: As in :class:`OPTLinear`, like all that follow.
        dtype: See there.
        param_dtype: See there.
        precision: See there.
        kernel_init: See there.
        bias_init: See there.
        rngs: See there.

    Raises:
        TypeError: As :class:`OPTLinear`.
        ValueError: As :class:`OPTLinear`.

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
        neurons = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        parameterization = Parameterization(method, scale, rotation_init)
        self._freeze(neurons, parameterization, block_size, share_blocks, rngs)
