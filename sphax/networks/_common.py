"""What the networks share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers._common import check_sizes

# He et al. 2015, Eq. 10, for every layer: Gaussian, variance 2 / fan_in. Also for the
# linear one, since the 2 makes up for the PReLU that comes before a layer.
HE_INIT = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


def batch_norm(
    features: int,
    param_dtype: jax.typing.DTypeLike,
    rngs: nnx.Rngs,
    *,
    use_scale: bool = True,
) -> nnx.BatchNorm:
    """Batch normalisation whose statistics are float32 at least."""
    # Without `dtype`: it would round the running statistics before they are used. Who
    # calls it returns to the dtype of the computation.
    norm = nnx.BatchNorm(
        features,
        momentum=0.9,
        use_scale=use_scale,
        param_dtype=param_dtype,
        rngs=rngs,
    )
    # Made in float32 whatever the parameters are, where float64 does not fit.
    for statistic in (norm.mean, norm.var):
        exact = jnp.promote_types(param_dtype, jnp.float32)
        statistic.set_value(statistic[...].astype(exact))
    return norm


def check_input_shape(owner: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """``(height, width, channels)``; raises unless three positive integers."""
    if len(input_shape) != 3:
        raise ValueError(
            f"{owner}: input_shape must be (height, width, channels), got"
            f" {tuple(input_shape)}; a batch has no place in it."
        )
    height, width, channels = input_shape
    check_sizes(f"{owner}: input_shape", height=height, width=width, channels=channels)
    return height, width, channels


def check_images(images: jax.Array, shape: tuple[int, ...]) -> None:
    """Raises unless floating images of the shape, with any leading axes."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating, got dtype {images.dtype}; scale them first, for"
            " example by images / 255 - 0.5."
        )
    if images.shape[-3:] != shape:
        hint = ""
        if images.shape[-3:] == (shape[2], *shape[:2]):
            hint = " Channels come last: jnp.moveaxis(images, -3, -1)."
        elif images.shape[-2:] == shape[:2] and shape[2] == 1:
            hint = " The one channel is an axis as well: images[..., None]."
        raise ValueError(
            f"images must be [..., {', '.join(map(str, shape))}], the network's"
            f" input_shape, got shape {images.shape}.{hint}"
        )
