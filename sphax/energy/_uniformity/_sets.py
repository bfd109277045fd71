"""Functions of one set of directions, for every set of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sphax._masking import pair_weights, zero_masked
from sphax._numerics import widen
from sphax.sphere import direction, inner_products


def of_every_set(
    energy: Callable[[jax.Array, jax.Array], jax.Array],
    points: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    """``energy(rows, weights)``, a scalar, of every set ``[..., n, d]``, as ``[...]``.

    Rows of weight zero are zeroed before. Without a mask, all weights are true.
    """
    points, weights = zero_masked(points, where), weights_of(points, where)
    return jnp.vectorize(energy, signature="(n,d),(n)->()")(points, weights)


def weights_of(points: jax.Array, where: jax.Array | None) -> jax.Array:
    """The weights of points, true by default, sharded as the points are."""
    # Made from them: inside `shard_map`, both differ between devices or neither.
    return jnp.ones_like(points[..., 0], jnp.bool_) if where is None else where


def pair_cosines(
    rows: jax.Array,
    weights: jax.Array,
    *,
    half_space: bool,
    precision: jax.lax.PrecisionLike = "highest",
) -> tuple[jax.Array, jax.Array]:
    """Cosines and weights of all pairs of a set, ``[1, n, n]``.

    In half space ``[2, n, n]``: the second matrix pairs points with mirror images. A
    point has weight 0 with itself and with its own mirror image, and cosine 1 and -1.
    """
    units = direction(widen(rows))
    cosines = inner_products(units, units, precision=precision)
    # A zero point too is at no distance from itself.
    cosines = jnp.where(jnp.eye(len(rows), dtype=bool), 1.0, cosines)
    sides = [cosines, -cosines] if half_space else [cosines]
    weights = pair_weights(weights, len(rows), cosines.dtype)
    return jnp.stack(sides), jnp.stack([weights] * len(sides))
