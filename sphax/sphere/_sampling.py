"""Random points on the unit sphere."""

import jax
import jax.numpy as jnp

from sphax._checks import check_key
from sphax.sphere._lengths import normalize


def sample_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Unit vectors drawn uniformly from the unit sphere in ``d`` dimensions.

    Args:
        key: PRNG key.
        shape: Shape of the result, ``(..., d)``.
        dtype: Floating dtype of the result.

    Returns:
        Unit vectors, ``[..., d]``.

    Raises:
        TypeError: If ``key`` is not a random key.
        ValueError: If ``d`` is 0.

    Example:
        >>> points = sx.sphere.sample_uniform(jax.random.key(0), (1000, 3))
        >>> bool(jnp.abs(points.mean(0)).max() < 0.05)
        True
    """
    check_key(key)
    return normalize(jax.random.normal(key, shape, dtype))
