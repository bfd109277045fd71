"""The dense layer whose outputs are cosines."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PrecisionLike

from sphax._checks import check_sizes
from sphax.layers._common import COLUMNS_INIT, check_features, promote
from sphax.neurons import to_rows
from sphax.sphere import cosine_similarity


class CosineLinear(nnx.Linear):
    r"""Dense layer of cosines: :math:`y_j = \hat x \cdot \hat w_j`.

    A :class:`flax.nnx.Linear` without a bias. Only the directions of the columns of its
    kernel matter: the kernel is free, and nothing is ever written back to it. Its
    gradient is orthogonal to it, so that training lets the columns grow, never shrink.

    Args:
        in_features: Size of the last input axis.
        out_features: Number of output neurons.
        dtype: Of the computation; by default that of inputs and kernel together.
        param_dtype: Of the kernel.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the kernel, ``[in_features, out_features]``. By
            default Gaussian of variance 1 / in_features, whose directions are uniform.
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
        out_features: int,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        rngs: nnx.Rngs,
    ):
        check_sizes("CosineLinear", in_features=in_features, out_features=out_features)
        super().__init__(
            in_features,
            out_features,
            use_bias=False,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=kernel_init,
            rngs=rngs,
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in_features]`` to cosines ``[..., out_features]``.

        They may leave [-1, 1] by rounding. 0, with zero gradient, where the input or
        the neuron is zero.
        """
        check_features("inputs", inputs, self.in_features)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        return cosine_similarity(inputs, to_rows(kernel), precision=self.precision)
