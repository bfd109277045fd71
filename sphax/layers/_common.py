"""Initializers, checks of inputs, and biases, shared by the layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from sphax._checks import as_floating

# Gaussian, so that the directions are uniform on the sphere, and of length about 1, so
# that the gradient of a direction, which goes with 1 / length, has no scale by itself.
# The rows of [out, in], or the columns of [in, out].
ROWS_INIT = nnx.initializers.variance_scaling(
    1.0, "fan_in", "normal", in_axis=-1, out_axis=-2
)
COLUMNS_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")


def promote(
    name: str, inputs: jax.Array, kernel: jax.Array, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Both in ``dtype``, or in their common dtype if it is None, as in Flax."""
    return promote_dtype((as_floating(name, inputs), kernel), dtype=dtype)


def check_features(name: str, inputs: jax.Array, features: int) -> None:
    """Raises unless the last axis of ``inputs`` has ``features`` entries."""
    if inputs.ndim < 1 or inputs.shape[-1] != features:
        raise ValueError(
            f"{name} must be [..., {features}], as the layer was made, got shape"
            f" {inputs.shape}."
        )


def window_of(kernel_size: int | Sequence[int]) -> tuple[int, ...]:
    """A window, of one axis if it is a number."""
    return (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)


def window_sizes(window: Sequence[int]) -> dict[str, int]:
    """The sizes of a window by name, for ``check_sizes``."""
    return {f"kernel_size[{i}]": size for i, size in enumerate(window)}


def make_bias(
    use_bias: bool,
    bias_init: nnx.Initializer,
    features: int,
    param_dtype: Any,
    rngs: nnx.Rngs,
) -> Any:
    """The attribute of a layer that is its bias, or None."""
    bias = bias_init(rngs.params(), (features,), param_dtype) if use_bias else None
    return nnx.data(None if bias is None else nnx.Param(bias))


def add_bias(outputs: jax.Array, bias: nnx.Param[jax.Array] | None) -> jax.Array:
    """Outputs ``[..., features]`` with the bias, if there is one, in their dtype."""
    if bias is None:
        return outputs
    shift = bias[...].astype(outputs.dtype)
    return outputs + jnp.expand_dims(shift, range(outputs.ndim - 1))
