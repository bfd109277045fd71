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
# PyTorch's default of linear layers and convolutions: uniform, variance 1 / 3 fan_in.
TORCH_INIT = nnx.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def torch_bias_init(fan_in: int) -> nnx.Initializer:
    """PyTorch's default of a bias: uniform within 1 / sqrt(fan_in) of zero."""

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nnx.BatchNorm):
    """Batch normalization with statistics of float32 at least, in the inputs' dtype."""

    def __init__(
        self,
        features: int,
        *,
        param_dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
        use_scale: bool = True,
        use_bias: bool = True,
        epsilon: float = 1e-5,
    ):
        # Without `dtype`, which would round the running statistics before their use.
        super().__init__(
            features,
            momentum=0.9,
            epsilon=epsilon,
            use_scale=use_scale,
            use_bias=use_bias,
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
