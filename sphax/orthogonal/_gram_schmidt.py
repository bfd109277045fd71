"""Orthonormalisation of columns, one after the other."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._factorisations import invert_triangular, qr
from sphax._numerics import divide, widen
from sphax.orthogonal._matrices import as_tall, identity_like, product
from sphax.sphere import length

# Rounding of what is left of a column that depends on those before it, in epsilons of
# its length times the number of columns; more only where those are ill-conditioned.
_NOISE = 4.0


def gram_schmidt(a: ArrayLike) -> jax.Array:
    r"""Orthonormal columns, each from the columns up to its own (Gram-Schmidt).

    The factor :math:`Q` of :math:`A = Q R` with :math:`R` upper triangular, of positive
    diagonal: unique where the columns are independent. By Householder's method, which
    keeps them orthogonal for columns however close. With
    :math:`X = Q^\top dA\, R^{-1}`, its derivative is

    .. math::
        dQ = Q\, (L - L^\top) + (I - Q Q^\top)\, dA\, R^{-1}, \qquad
        L = \operatorname{tril}(X, -1)

    Args:
        a: Floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        Matrices with orthonormal columns, shape and dtype of ``a``, computed in float32
        at least; a square one may have determinant 1 or -1. Lengths of columns do not
        count. A column that is zero, or a combination of those before it up to
        :math:`4 n` epsilons of its length, gets some direction orthogonal to theirs,
        and zero gradient; zero gives the first columns of the identity.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., m, n]`` with ``m >= n``.

    Example:
        >>> sx.orthogonal.gram_schmidt(jnp.array([[3.0, 1.0], [4.0, 0.0]]))
        Array([[ 0.6,  0.8],
               [ 0.8, -0.6]], dtype=float32)

    References:
        Walter, Lehmann, `On evaluating higher-order derivatives of the QR decomposition
        <https://arxiv.org/abs/1009.6112>`_, 2010 (the derivative).
    """
    return _gram_schmidt(as_tall("a", a))


@compiled()
def _gram_schmidt(a):
    x = widen(a)
    # The lengths of columns do not count: none is too long or short for its square.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-2, keepdims=True))
    return factor(divide(x, size))[0].astype(a.dtype)


@jax.custom_jvp
def factor(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``q`` and ``r``, the diagonal of ``r`` not negative."""
    q, r = qr(a)
    diagonal = jnp.diagonal(r, axis1=-2, axis2=-1)
    sign = jnp.where(diagonal < 0.0, -1.0, 1.0).astype(a.dtype)
    return q * sign[..., None, :], r * sign[..., None]


@factor.defjvp
def _factor_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    q, r = factor(a)
    solved = _times_inverse(da, r, a)
    inner = product(q.mT, solved)
    lower = jnp.tril(inner, -1)
    rotation = lower - lower.mT
    dq = product(q, rotation - inner) + solved
    return (q, r), (dq, product(inner - rotation, r))


def _times_inverse(x, r, a):
    """``x`` times the inverse of ``r``, zero in the columns that have no direction."""
    left = jnp.diagonal(r, axis1=-2, axis2=-1)
    # Where no more is left of a column than its rounding.
    noise = _NOISE * a.shape[-1] * jnp.finfo(a.dtype).eps * length(a.mT)
    exists = left > noise
    are_both = exists[..., None] & exists[..., None, :]
    inverse = invert_triangular(jnp.where(are_both, r, identity_like(r)))
    return product(jnp.where(exists[..., None, :], x, 0.0), inverse)
