"""Batch normalization, initializers and calls of operators, shared by the networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

# A constructor of a convolution, called as `nnx.Conv` is.
Conv = Callable[..., Any]

# He et al. 2015, Eq. 10: Gaussian, variance 2 / fan_in.
HE_INIT = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
# Caffe's "xavier", which differs from Glorot's: uniform, variance 1 / fan_in.
CAFFE_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")


class BatchNorm(nnx.BatchNorm):
    """Batch normalization with statistics of float32 at least, in the inputs' dtype."""

    def __init__(
        self,
        features: int,
        *,
        param_dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
        use_scale: bool = True,
    ):
        # Without `dtype`, which would round the running statistics before their use.
        super().__init__(
            features,
            momentum=0.9,
            use_scale=use_scale,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        # In float32 whatever the parameters are, or in float64 as they are.
        for statistic in (self.mean, self.var):
            exact = jnp.promote_types(param_dtype, jnp.float32)
            statistic.set_value(statistic[...].astype(exact))

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        """Maps ``[..., features]`` to the same shape and dtype."""
        normed = super().__call__(x, use_running_average=use_running_average)
        return normed.astype(x.dtype)


def apply_conv(conv: Any, x: jax.Array, use_running_average: bool | None) -> jax.Array:
    """Calls a convolution, with the mode if it has a running statistic."""
    if hasattr(conv, "use_running_average"):
        return conv(x, use_running_average=use_running_average)
    return conv(x)
