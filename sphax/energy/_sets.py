"""Sets of directions: the rows of a matrix, or of every matrix of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_dimensions
from sphax._compiled import compiled
from sphax._masking import as_weights, pair_weights, zero_masked
from sphax._numerics import widen
from sphax.sphere import direction, inner_products


def as_sets(
    points: jax.typing.ArrayLike, where: jax.typing.ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """Points ``[..., n, d]`` and their weights ``[..., n]``; raises if they are not.

    What is masked is still to be zeroed: see `of_every_set`.
    """
    points = as_floating("points", points)
    if points.ndim < 2:
        raise ValueError(f"points must be [..., n, d], got shape {points.shape}.")
    check_dimensions("points", points)
    shape = points.shape[:-1]
    weights = as_weights(where, shape, "points without their last axis")
    if weights is None:
        weights = ones_for(points, dtype=jnp.bool_)
    return points, weights


@compiled("dtype")
def ones_for(vectors: jax.Array, *, dtype: jax.typing.DTypeLike) -> jax.Array:
    """A one for each vector, sharded as the vectors are."""
    # Made from them: inside `shard_map`, both differ between devices or neither.
    return jnp.ones_like(vectors[..., 0], dtype)


def of_every_set(
    energy: Callable[[jax.Array, jax.Array], jax.Array],
    points: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """``energy(rows, weights)``, a scalar, of every set ``[n, d]``, as ``[...]``.

    Rows of weight zero are zeroed before.
    """
    points = zero_masked(points, weights)
    return jnp.vectorize(energy, signature="(n,d),(n)->()")(points, weights)


def pairs(
    rows: jax.Array,
    weights: jax.Array,
    *,
    half_space: bool,
    precision: jax.lax.PrecisionLike = "highest",
) -> tuple[jax.Array, jax.Array]:
    """Cosines and weights of all pairs of a set, ``[sides, n, n]``.

    In a half space, the second side is of the pairs with the mirror images. A point has
    weight 0 with itself and with its own mirror image, and cosine 1 and -1.
    """
    units = direction(widen(rows))
    cosines = inner_products(units, units, precision=precision)
    # A zero point too is at no distance from itself.
    cosines = jnp.where(jnp.eye(len(rows), dtype=bool), 1.0, cosines)
    sides = [cosines, -cosines] if half_space else [cosines]
    shares = pair_weights(weights, len(rows), cosines.dtype)
    return jnp.stack(sides), jnp.stack([shares] * len(sides))
