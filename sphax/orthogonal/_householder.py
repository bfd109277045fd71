"""Product of Householder reflections."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._linalg import (
    identity_like,
    invert_triangular,
    polish_straight_through,
    product,
)
from sphax._numerics import widen
from sphax.sphere import direction


def householder(v: ArrayLike) -> jax.Array:
    r"""Product of reflections along the rows (Householder parameterization).

    .. math::
        Q = H_0 H_1 \cdots H_{k-1} = I - 2\, \hat V^\top T^{-1} \hat V, \qquad
        H_i = I - 2\, \hat v_i \hat v_i^\top, \qquad
        T = I + 2 \operatorname{triu}(\hat V \hat V^\top, 1)

    with the directions :math:`\hat v_i` as the rows of :math:`\hat V` (compact WY
    form). Forward and backward take matrix products and the inverse of a triangular
    matrix; there is no loop over the reflections. :math:`n` reflections reach every
    orthogonal matrix of determinant :math:`(-1)^n`, and :math:`n - 1` all others.

    Args:
        v: Normals of the mirrors, floating, ``[..., k, n]``; their lengths do not
            matter.

    Returns:
        Orthogonal matrices, ``[..., n, n]``, dtype of ``v``, computed in float32 at
        least. The determinant is :math:`(-1)^k`. A zero row reflects nothing,
        :math:`H_i = I`, and has zero gradient.

    Raises:
        TypeError: If ``v`` is not floating.
        ValueError: If ``v`` is not ``[..., k, n]``.

    Example:
        >>> sx.orthogonal.householder(jnp.array([[3.0, 0.0]]))
        Array([[-1.,  0.],
               [ 0.,  1.]], dtype=float32)

    References:
        Schreiber, Van Loan, `A Storage-Efficient WY Representation for Products of
        Householder Transformations <https://doi.org/10.1137/0910005>`_, 1989;
        Joffrain et al., `Accumulating Householder Transformations, Revisited
        <https://doi.org/10.1145/1141885.1141886>`_, 2006 (the triangular form).
    """
    v = as_floating("v", v)
    if v.ndim < 2:
        raise ValueError(f"v must be [..., k, n], got shape {v.shape}.")
    return _householder(v)


@compiled()
def _householder(v):
    rows = direction(widen(v))
    triangle = jnp.triu(2.0 * product(rows, rows.mT), 1)
    inverse = invert_triangular(identity_like(triangle) + triangle)
    identity = jnp.broadcast_to(
        jnp.eye(v.shape[-1], dtype=rows.dtype), (*v.shape[:-2], *v.shape[-1:] * 2)
    )
    q = identity - 2.0 * product(rows.mT, product(inverse, rows))
    return polish_straight_through(q).astype(v.dtype)
