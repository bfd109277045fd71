"""The parametric rectifier, with one slope per channel."""

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_sizes
from sphax.layers._common import check_features, promote


class PReLU(nnx.Module):
    r"""Parametric rectifier with one slope for each channel (PReLU).

    .. math::
        f(x_i) = x_i \;\text{if}\; x_i > 0, \qquad a_i x_i \;\text{otherwise},

    with :math:`i` the channel and :math:`a_i` learned. :class:`flax.nnx.PReLU` shares
    one slope among all channels. The authors exclude the slopes from weight decay,
    which would bring them to zero, as in a ReLU.

    Args:
        features: Number of channels, the size of the last axis.
        slope_init: Value at which all slopes start.
        dtype: Of the computation; by default that of inputs and slopes together.
        param_dtype: Of the slopes.
        rngs: Not used, since nothing is random; accepted like in other layers.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If ``features`` is not positive; from a call, if the last axis of
            its inputs has another size.

    Example:
        >>> activation = sx.layers.PReLU(2)
        >>> activation(jnp.array([[1.0, -1.0]]))
        Array([[ 1.  , -0.25]], dtype=float32)

    References:
        He et al., `Delving Deep into Rectifiers <https://arxiv.org/abs/1502.01852>`_,
        ICCV 2015, Eq. 1.
    """

    def __init__(
        self,
        features: int,
        *,
        slope_init: float = 0.25,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        del rngs
        check_sizes("PReLU", features=features)
        self.features = features
        self.dtype = dtype
        self.slope = nnx.Param(jnp.full((features,), slope_init, param_dtype))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., features]`` to the same shape, channel by channel."""
        check_features("inputs", inputs, self.features)
        inputs, slope = promote("inputs", inputs, self.slope[...], self.dtype)
        slope = jnp.expand_dims(slope, range(inputs.ndim - 1))
        return jnp.where(inputs > 0, inputs, slope * inputs)
