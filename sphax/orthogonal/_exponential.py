"""Exponential of a skew-symmetric matrix."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._linalg import (
    as_square,
    entries,
    factor_within,
    identity_like,
    invert,
    polish_straight_through,
    product,
    skew_of_upper,
)
from sphax._numerics import widen
from sphax.sphere import length

# Numerator of the [7/7] Padé approximant (Higham, Table 10.4).
_PADE = (17297280.0, 8648640.0, 1995840.0, 277200.0, 25200.0, 1512.0, 56.0, 1.0)
# By dtype, the norm up to which the backward error of the approximant is below rounding
# (Table 10.2), and the largest number of squarings whose rounding errors two
# Newton-Schulz steps still remove.
_RANGES = {"float32": (3.9257, 16), "float64": (0.9504, 38)}


def exponential(a: ArrayLike) -> jax.Array:
    r"""Rotation of an unconstrained matrix (exponential map of the orthogonal group).

    .. math::
        Q = \exp(S), \qquad S = \operatorname{triu}(a, 1) -
        \operatorname{triu}(a, 1)^\top

    It reaches every rotation. A Padé approximant of :math:`\exp(2^{-s} S)`, which is
    orthogonal, is squared :math:`s` times; Newton-Schulz steps then remove the rounding
    errors. Derivatives are those of the approximant and the squarings.

    Args:
        a: Floating, ``[..., n, n]``; only entries above the diagonal count.

    Returns:
        Orthogonal matrices of determinant 1, shape and dtype of ``a``, computed in
        float32 at least. Values and gradients are finite everywhere; entries on and
        below the diagonal have zero gradient. Large angles :math:`\|S\|_2` in radians
        lose digits by their rounding, which squarings amplify: at 1e5 in float32 two
        digits of the result are right, and beyond that no accuracy is left. Where the
        magnitudes of a row of :math:`S` have a sum above 2.6e5 (2.6e11 in float64),
        :math:`S` is scaled down to that sum: the result is a rotation in the same
        planes.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., n, n]``.

    Example:
        >>> sx.orthogonal.exponential(jnp.array([[0.0, jnp.pi / 2], [0.0, 0.0]]))
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)

    References:
        Higham, `The Scaling and Squaring Method for the Matrix Exponential Revisited
        <https://doi.org/10.1137/04061101X>`_, 2005;
        Lezcano-Casado, Martínez-Rubio, `Cheap Orthogonal Constraints in Neural Networks
        <https://arxiv.org/abs/1901.08428>`_, ICML 2019.
    """
    return _exponential(as_square("a", a))


@compiled()
def _exponential(a):
    skew = skew_of_upper(widen(a))
    largest, most = _RANGES[str(skew.dtype)]
    skew = skew * factor_within(skew, largest * 2.0**most)
    # Powers of a matrix of unit norm do not overflow.
    size = jax.lax.stop_gradient(length(entries(skew)))[..., None, None]
    size = jnp.where(size == 0.0, 1.0, size)
    unit = skew / size
    square = product(unit, unit)
    fourth = product(square, square)
    squarings = _squarings(size, fourth, largest)
    scale = size * 0.5 ** squarings.astype(size.dtype)
    q = _pade(unit, square, fourth, scale)
    q = _square_repeatedly(q, squarings, most)
    return polish_straight_through(q, steps=2).astype(a.dtype)


def _squarings(size, fourth, largest):
    """Number of times to halve each matrix, ``[..., 1, 1]``."""
    # Bounds the largest eigenvalue: eigenvalues come in pairs, and the fourth root
    # brings the bound close to the largest of them.
    bound = size * (length(entries(fourth))[..., None, None] / 2.0**0.5) ** 0.25
    bound = jax.lax.stop_gradient(bound)
    halvings = jnp.ceil(jnp.log2(jnp.maximum(bound / largest, 1.0)))
    return halvings.astype(jnp.int32)


def _pade(unit, square, fourth, scale):
    powers = [scale**k / _PADE[0] for k in range(8)]
    b = [c * p for c, p in zip(_PADE, powers, strict=True)]
    sixth, identity = product(fourth, square), identity_like(unit)
    even = b[6] * sixth + b[4] * fourth + b[2] * square + b[0] * identity
    odd = b[7] * sixth + b[5] * fourth + b[3] * square + b[1] * identity
    odd = product(unit, odd)
    return product(invert(even - odd), even + odd)


def _square_repeatedly(q, times, most):
    """Each matrix of ``q``, squared as many times as ``times`` says."""

    # A scan over branches: a loop with a traced number of steps has no reverse
    # derivative.
    def advance(q, number):
        def square(q):
            return jnp.where(number < times, product(q, q), q)

        return jax.lax.cond(jnp.any(number < times), square, lambda q: q, q), ()

    return jax.lax.scan(advance, q, jnp.arange(most))[0]
