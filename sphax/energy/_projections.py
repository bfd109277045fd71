"""Projections to few dimensions, and the images of directions under them."""

import jax
import jax.numpy as jnp

from sphax._checks import check_count, check_key
from sphax._numerics import widen


def random_projections(
    key: jax.Array,
    d: int,
    p: int = 40,
    *,
    count: int = 20,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    r"""Gaussian projections to ``p`` dimensions (random projection CoMHE).

    The images of two directions with cosine :math:`c` have a cosine that is off by
    about :math:`(1 - c^2) / \sqrt p`: noise that smooths the energy. Draw new
    projections in every step, with a key of that step. The scale of a projection does
    not count in :func:`compressive_energy`.

    Args:
        key: PRNG key.
        d: Dimensions of the points, 1 or more. With ``d`` of ``p`` or less (27 in the
            paper's first layer) nothing is gained: use :func:`hyperspherical_energy`.
        p: Dimensions of their images, 1 or more.
        count: How many, 1 or more.
        dtype: Floating dtype of the result.

    Returns:
        Projections, ``[count, p, d]``, of independent standard normal numbers.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> sx.energy.random_projections(jax.random.key(0), 576).shape
        (20, 40, 576)

    References:
        Lin et al., `Regularizing Neural Networks via Minimizing Hyperspherical Energy
        <https://arxiv.org/abs/1906.04892>`_, CVPR 2020; sizes of the authors' code.
    """
    check_key(key)
    for name, size in (("d", d), ("p", p), ("count", count)):
        check_count(name, size, 1)
    return jax.random.normal(key, (count, p, d), dtype)


def group_projections(
    d: int, groups: int, *, key: jax.Array | None = None
) -> jax.Array:
    """Projections to disjoint groups of coordinates (group CoMHE).

    A projection is a selection of coordinates, given by their numbers: no matrix is
    multiplied. Every coordinate is in a group.

    Args:
        d: Dimensions of the points.
        groups: How many groups, a divisor of ``d``.
        key: PRNG key of random groups; by default they are ranges of neighbors.

    Returns:
        Coordinates, int32, ``[groups, d / groups]``.

    Raises:
        ValueError: If ``groups`` does not divide ``d``.

    Example:
        >>> sx.energy.group_projections(6, 2)
        Array([[0, 1, 2],
               [3, 4, 5]], dtype=int32)

    References:
        Lin et al., `Regularizing Neural Networks via Minimizing Hyperspherical Energy
        <https://arxiv.org/abs/1906.04892>`_, CVPR 2020.
    """
    check_count("d", d, 1)
    check_count("groups", groups, 1)
    if key is not None:
        check_key(key)
    if d % groups:
        raise ValueError(
            f"groups must divide d, got groups={groups} and d={d}; leave coordinates"
            " out, or take another number of groups."
        )
    coordinates = jnp.arange(d, dtype=jnp.int32)
    if key is not None:
        coordinates = jax.random.permutation(key, coordinates)
    return coordinates.reshape(groups, d // groups)


def project(points: jax.Array, projection: jax.Array) -> jax.Array:
    """Images of ``[..., n, d]``, ``[..., count, n, p]``, in float32 at least."""
    points = widen(points)
    if jnp.issubdtype(projection.dtype, jnp.integer):
        return jnp.moveaxis(jnp.take(points, projection, axis=-1), -3, -2)
    batch = "..." if projection.ndim > 3 else ""
    return jnp.einsum(
        f"...nd,{batch}cpd->...cnp",
        points,
        projection.astype(points.dtype),
        precision="highest",
    )


def as_projection(projection: jax.typing.ArrayLike, points: jax.Array) -> jax.Array:
    """A projection as an array; raises unless it fits the points."""
    projection = jnp.asarray(projection)
    shape, d = projection.shape, points.shape[-1]
    if jnp.issubdtype(projection.dtype, jnp.integer):
        fits = len(shape) == 2
    elif jnp.issubdtype(projection.dtype, jnp.floating):
        batches = (), points.shape[:-2]
        fits = len(shape) > 2 and shape[-1] == d and shape[:-3] in batches
    else:
        raise TypeError(
            "projection must be floating, or integer for coordinates, got dtype"
            f" {projection.dtype}."
        )
    if not fits:
        raise ValueError(
            "projection must be floating [..., count, p, d] with the d of points and"
            " their leading axes or none, or integer [count, p], got"
            f" {projection.dtype} {shape} for points {points.shape}."
        )
    return projection
