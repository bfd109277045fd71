"""Gram-Schmidt orthonormalization of the columns of a matrix."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._linalg import as_tall, identity_like, invert_triangular, product, qr
from sphax._numerics import divide, widen
from sphax.sphere import length

# A column depends on the columns before it if the remainder is no longer than so many
# epsilons of its length times the number of columns: that is its rounding, unless the
# columns are ill-conditioned.
_NOISE = 4.0


def gram_schmidt(a: ArrayLike) -> jax.Array:
    r"""Orthonormal columns, each made of the columns up to it (Gram-Schmidt).

    The factor :math:`Q` of :math:`A = Q R` with an upper triangular :math:`R` of
    positive diagonal, which is unique if the columns are independent. It is computed by
    Householder's method, whose result is orthogonal however close the columns are. With
    :math:`X = Q^\top dA\, R^{-1}`, its derivative is

    .. math::
        dQ = Q\, (L - L^\top) + (I - Q Q^\top)\, dA\, R^{-1}, \qquad
        L = \operatorname{tril}(X, -1)

    Args:
        a: Floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        Matrices with orthonormal columns, shape and dtype of ``a``, computed in float32
        at least; the determinant of a square one may be 1 or -1. The lengths of columns
        do not matter. A column that is zero, or a combination of earlier columns up to
        :math:`4 n` epsilons of its length, gets some direction orthogonal to theirs and
        zero gradient; the zero matrix gives the first columns of the identity.

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
    # Columns of size 1, so that squares neither overflow nor underflow.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-2, keepdims=True))
    return factor(divide(x, size))[0].astype(a.dtype)


@jax.custom_jvp
def factor(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``q`` and ``r`` of ``a = q r``, the diagonal of ``r`` being nonnegative."""
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
    """``x r^-1``, with zero in the columns that depend on earlier ones."""
    remainder = jnp.diagonal(r, axis1=-2, axis2=-1)
    noise = _NOISE * a.shape[-1] * jnp.finfo(a.dtype).eps * length(a.mT)
    is_free = remainder > noise
    are_both = is_free[..., None] & is_free[..., None, :]
    inverse = invert_triangular(jnp.where(are_both, r, identity_like(r)))
    return product(jnp.where(is_free[..., None, :], x, 0.0), inverse)
