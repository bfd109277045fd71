"""The dense layer whose outputs are cosines."""

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers._common import COLUMNS_INIT, check_features, check_sizes, promote
from sphax.neurons import NeuronDimensions, to_rows
from sphax.sphere import cosine_similarity


class CosineLinear(nnx.Module):
    r"""Dense layer of cosines: :math:`y_j = \hat x \cdot \hat w_j`.

    The kernel is free, only the directions of its columns matter: nothing is ever
    written back to it. Its gradient is orthogonal to it, so that training lets the
    columns grow, never shrink.

    Args:
        in_features: Size of the last input axis.
        features: Number of output neurons.
        dtype: Of the computation; by default that of inputs and kernel together.
        param_dtype: Of the kernel.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the kernel, ``[in_features, features]``. By default
            Gaussian of variance 1 / in_features, whose directions are uniform.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size is not positive; from a call, if the last axis of its
            inputs has another size.

    Example:
        >>> layer = sx.layers.CosineLinear(2, 3, rngs=nnx.Rngs(0))
        >>> layer.kernel[...] = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> layer(jnp.array([[3.0, 4.0]]))
        Array([[ 0.6,  0.8, -0.6]], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Eq. 3.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        rngs: nnx.Rngs,
    ):
        check_sizes("CosineLinear", in_features=in_features, features=features)
        self.in_features = in_features
        self.dtype = dtype
        self.precision = precision
        self.kernel = nnx.Param(
            kernel_init(rngs.params(), (in_features, features), param_dtype)
        )

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Which leaves hold neurons: the columns, see :func:`sphax.neurons.of`."""
        return {"kernel": NeuronDimensions(index_axis=-1, vector_axis=-2)}

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in_features]`` to cosines ``[..., features]``.

        They may leave [-1, 1] by rounding. 0, with zero gradient, where the input or
        the neuron is zero.
        """
        check_features("inputs", inputs, self.in_features)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        return cosine_similarity(inputs, to_rows(kernel), precision=self.precision)
