"""Gram determinant: the volume that directions span in the space of a kernel."""

import jax
import jax.numpy as jnp

from sphax._checks import as_points, check_flag, is_number
from sphax._compiled import compiled
from sphax._linalg import cholesky, invert
from sphax._masking import as_weights
from sphax.energy._uniformity._sets import of_every_set, pair_cosines


def max_gram_determinant(
    points: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 1.0,
    epsilon: jax.typing.ArrayLike = 1e-6,
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the log determinant of a Gaussian Gram matrix, to be minimized (MGD).

    .. math::
        -\log\det (K + \epsilon I), \qquad
        K_{ij} = e^{-t \|\hat x_i - \hat x_j\|^2}

    Minimizing it maximizes the squared volume that the points span in the space of the
    kernel. It stays above 0: no two directions are further apart than 2. Nothing is
    averaged. The authors' weights are 0.01 in hidden layers, in half space, and 0.1 in
    the last.

    With mirror images, the determinant of :math:`2n` points is the product of those of
    two matrices :math:`A \pm B` of size :math:`n`.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        scale: :math:`t`, positive, a scalar.
        epsilon: :math:`\epsilon`, not negative; at least :math:`8 n` ulps of one (1e-6
            times :math:`n` in float32) are added: less would be lost in the rounding of
            a matrix of coincident points.
        half_space: Whether the mirror images of the points count too, so that a
            direction and its opposite are one; here a point and its own mirror image
            are a pair, at a distance of 2.
        where: Boolean mask of the points, ``[..., n]``; a weight that is not zero
            counts as true. Masked points do not exist, and are zeroed before anything
            else: a NaN in them reaches nothing.

    Returns:
        The energy, ``[...]``, in float32 at least; 0, with zero gradient, when nothing
        is left. Its error is about :math:`n` ulps over the least eigenvalue of
        :math:`K + \epsilon I`. Coincident points are finite, with a gradient that would
        be zero and is rounding over :math:`\epsilon`, of order 1 in float32. A zero
        point is at a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If shapes do not fit, or ``scale`` or ``epsilon``, given as numbers,
            are out of range.

    Example:
        >>> sx.energy.max_gram_determinant(jnp.array([[1.0], [-3.0]]), scale=0.5)
        Array(0.0185, dtype=float32)

    References:
        Liu et al., `Learning with Hyperspherical Uniformity
        <https://arxiv.org/abs/2103.01649>`_, AISTATS 2021 (MGD); constants of the
        authors' code.
    """
    if is_number(scale, "scale") and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}.")
    if is_number(epsilon, "epsilon") and not epsilon >= 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}.")
    check_flag("half_space", half_space)
    scale, epsilon = jnp.asarray(scale), jnp.asarray(epsilon)
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    return _max_gram_determinant(points, where, scale, epsilon, half_space=half_space)


@compiled("half_space")
def _max_gram_determinant(points, where, scale, epsilon, *, half_space):
    def energy(rows, weights):
        cosines, _ = pair_cosines(rows, weights, half_space=half_space)
        exponents = -2.0 * scale.astype(cosines.dtype) * (1.0 - cosines)
        return -_log_determinant(jnp.exp(exponents), epsilon, weights != 0)

    return of_every_set(energy, points, where)


def _log_determinant(kernel, epsilon, exists):
    """Log determinant of ``[1, n, n]``, or ``[2, n, n]`` with mirror images."""
    if not len(exists):
        return jnp.zeros((), kernel.dtype)
    if len(kernel) == 2:
        kernel = jnp.stack([kernel[0] + kernel[1], kernel[0] - kernel[1]])
    least = 8.0 * len(exists) * float(jnp.finfo(kernel.dtype).eps)
    ridge = jnp.maximum(epsilon.astype(kernel.dtype), least)
    identity = jnp.eye(len(exists), dtype=kernel.dtype)[None]
    # A masked point is a row of the identity, and leaves the determinant alone.
    both_exist = (exists[:, None] & exists[None, :])[None]
    kernel = jnp.where(both_exist, kernel + ridge * identity, identity)
    return jnp.sum(_log_of_determinant(kernel))


@jax.custom_jvp
def _log_of_determinant(x):
    """Log determinants of positive definite matrices, ``[...]``."""
    diagonal = jnp.diagonal(cholesky(x), axis1=-2, axis2=-1)
    return 2.0 * jnp.sum(jnp.log(diagonal), axis=-1)


@_log_of_determinant.defjvp
def _log_of_determinant_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_of_determinant(x), jnp.sum(invert(x) * dx, axis=(-2, -1))
