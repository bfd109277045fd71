"""What becomes of the pixels of a batch before a network sees them."""

import jax
import jax.numpy as jnp


def prepare(images: jax.Array, mean: jax.Array) -> jax.Array:
    """Pixels in [0, 1] less the mean image of the training set: nothing else."""
    return images.astype(jnp.float32) / 255.0 - mean[None]


def augmented(key: jax.Array, images: jax.Array) -> jax.Array:
    """Padded by four zeros, cropped to size, flipped, each at random."""
    where_key, flip_key = jax.random.split(key)
    number, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corners = jax.random.randint(where_key, (number, 2), 0, 9)
    rows = corners[:, :1] + jnp.arange(height)[None]
    columns = corners[:, 1:] + jnp.arange(width)[None]
    index = jnp.arange(number)[:, None, None]
    return flipped(flip_key, padded[index, rows[:, :, None], columns[:, None, :]])


def flipped(key: jax.Array, images: jax.Array) -> jax.Array:
    """Left for right, every second image at random."""
    is_flipped = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(is_flipped, images[:, :, ::-1], images)
