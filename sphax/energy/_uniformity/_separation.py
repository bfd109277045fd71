"""Separation: minus the distance of the closest pair of directions."""

from functools import partial

import jax
import jax.numpy as jnp

from sphax._checks import as_points, check_flag, is_number
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax.energy._uniformity._sets import of_every_set, pair_cosines
from sphax.energy._uniformity._uniformity import uniformity
from sphax.sphere import angle


def separation(
    points: jax.typing.ArrayLike,
    *,
    sharpness: jax.typing.ArrayLike | None = None,
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the squared distance of the closest pair, to be minimized (MHS).

    .. math::
        -\min_{i \ne j} \rho_{ij}^2 \qquad\text{or}\qquad
        \frac1b \log \operatorname{mean}_{i \ne j} e^{-b \rho_{ij}^2},
        \qquad \rho_{ij} = \|\hat x_i - \hat x_j\|

    As all energies of this package it is negated so that minimizing it separates the
    points; its minimum is the solution of the Tammes problem. The first form moves one
    pair at a time. The second, with a ``sharpness``, moves all, the closest most: it is
    :func:`uniformity` over :math:`b`, and at most :math:`\log(n (n - 1) / 2) / b` below
    the first. The authors' code has the first, with weights of 0.1 in hidden layers, in
    half space, and 1 in the last.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        sharpness: :math:`b`, positive, a scalar; None for the closest pair alone.
        half_space: Whether the mirror images of the points count too, so that a
            direction and its opposite are one. A point and its image make no pair.
        where: Boolean mask or weights of the points, ``[..., n]``; weights count with
            a ``sharpness`` only. Points of weight zero are zeroed before anything else:
            a NaN in them reaches nothing.

    Returns:
        The energy, ``[...]``, in float32 at least, from -4 to 0; 0, with zero gradient,
        when no pair is left. The closest pair is found by its cosine, and its
        distance computed from the vectors, to full accuracy: in float32, of pairs
        closer than 1e-3 another one may be found. If several pairs are closest, one has
        the gradient. Coincident directions have zero gradient. A zero point is at a
        right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If shapes do not fit or ``sharpness``, given as a number, is not
            positive.

    Example:
        >>> sx.energy.separation(jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        Array(-2., dtype=float32)

    References:
        Liu et al., `Learning with Hyperspherical Uniformity
        <https://arxiv.org/abs/2103.01649>`_, AISTATS 2021 (MHS, hard form).
    """
    check_flag("half_space", half_space)
    if sharpness is None:
        points = as_points("points", points)
        where = as_weights(where, points.shape[:-1], "points without their last axis")
        return _hard(points, where, half_space=half_space)
    if is_number(sharpness, "sharpness") and not sharpness > 0:
        raise ValueError(f"sharpness must be positive, got {sharpness}.")
    energy = uniformity(
        points, scale=sharpness, half_space=half_space, where=where, precision="highest"
    )
    return energy / jnp.asarray(sharpness, dtype=energy.dtype)


@compiled("half_space")
def _hard(points, where, *, half_space):
    energy = partial(_closest_pair, half_space=half_space)
    return of_every_set(energy, points, where)


def _closest_pair(rows, weights, *, half_space):
    if not len(rows):
        return jnp.zeros((), jnp.promote_types(rows.dtype, jnp.float32))
    cosines, weights = pair_cosines(rows, weights, half_space=half_space)
    is_pair = weights != 0.0
    similarity = jax.lax.stop_gradient(jnp.where(is_pair, cosines, -jnp.inf))
    side, i, j = jnp.unravel_index(jnp.argmax(similarity), similarity.shape)
    # From the vectors of that pair: the cosine has lost the digits of a small angle.
    other = jnp.where(side == 0, rows[j], -rows[j])
    chord = 2.0 * jnp.sin(0.5 * angle(rows[i], other))
    return jnp.where(jnp.any(is_pair), -jnp.square(chord), 0.0)
