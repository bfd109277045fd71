"""Cosines and inner products of vectors with many rows, without normalized copies.

The matrix product accumulates in float32 at least. Normalizing scales the rows and the
columns of the product, and the derivative rule projects each gradient onto the tangent
space of its vector.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_dimensions
from sphax._compiled import compiled
from sphax._numerics import (
    bound_gradient,
    divide,
    dot,
    finite_limit,
    inverse_power,
    widen,
)
from sphax.sphere._lengths import length


def cosine_similarity(
    x: ArrayLike, w: ArrayLike, *, precision: jax.lax.PrecisionLike = None
) -> jax.Array:
    r"""Cosine of the angle between every vector and every row.

    :math:`c_{ij} = \hat x_i \cdot \hat w_j`: the cross matrix, as in scikit-learn. No
    normalised copy of ``w`` is made. A cosine says little about an angle near 0 or
    :math:`\pi`; use :func:`angle` there.

    Args:
        x: Vectors, floating, ``[..., d]``.
        w: Directions, dtype of ``x``, ``[n, d]``.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Cosines, ``[..., n]``, dtype of ``x``, accumulated in float32 at least. They may
        leave [-1, 1] by rounding. 0 with zero gradient where either vector is zero.

    Raises:
        TypeError: If ``x`` is not floating or ``w`` has another dtype.
        ValueError: If ``w`` is not a matrix or its rows have another length than ``x``.

    Example:
        >>> x = jnp.array([[3.0, 4.0]])
        >>> sx.sphere.cosine_similarity(x, jnp.array([[2.0, 0.0], [0.0, -1.0]]))
        Array([[ 0.6, -0.8]], dtype=float32)
    """
    x, w = as_floating("x", x), as_floating("w", w)
    if w.dtype != x.dtype:
        raise TypeError(
            f"w must have the dtype of x, got w {w.dtype} and x {x.dtype}; cast one."
        )
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            "w must be [n, d] and x [..., d] with the same d, got w"
            f" {w.shape} and x {x.shape}."
        )
    check_dimensions("x", x)
    return _cosine_similarity(x, w, precision=precision)


@compiled("precision")
def _cosine_similarity(x: jax.Array, w: jax.Array, *, precision) -> jax.Array:
    cosines = _inner_products(x, w, length(widen(x)), length(widen(w)), precision)
    return cosines.astype(x.dtype)


def inner_products(
    x: jax.Array,
    w: jax.Array,
    x_lengths: jax.Array | None = None,
    w_lengths: jax.Array | None = None,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Inner products of vectors with the rows of a matrix, of directions if asked.

    An operand whose lengths are given counts by its direction only: with both of them,
    these are the cosines, without a normalized copy of ``x`` or ``w``. The derivative
    rule then projects each gradient onto its tangent space.

    Args:
        x: Vectors, floating, ``[..., d]``.
        w: Rows, dtype of ``x``, ``[n, d]``.
        x_lengths: :func:`length` of ``x``, ``[...]``, to normalize ``x``. No gradient
            passes through it.
        w_lengths: :func:`length` of ``w``, ``[n]``, to normalize ``w``; likewise.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Products, ``[..., n]``, accumulated and returned in float32 at least; 0, with
        zero gradient, where a direction is needed and does not exist.

    Example:
        >>> x, w = jnp.array([[3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0]])
        >>> sx.sphere.inner_products(x, w)
        Array([[6., 4.]], dtype=float32)
        >>> sx.sphere.inner_products(x, w, None, sx.sphere.length(w))
        Array([[3., 4.]], dtype=float32)
    """
    return _inner_products(x, w, x_lengths, w_lengths, precision)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _inner_products(x, w, length_x, length_w, precision):
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    of_x, of_w = _factors(x.dtype, length_x, length_w)
    near = _times(x, of_x.before).astype(x.dtype)
    far = _times(w, of_w.before).astype(w.dtype)
    return _scaled(_contract(near, far, precision, dtype), of_x, of_w)


@_inner_products.defjvp
def _inner_products_jvp(precision, primals, tangents):
    # The change of the lengths is in the projections: their own tangents are left out.
    (x, w, length_x, length_w), (dx, dw, *_) = primals, tangents
    of_x, of_w = _factors(x.dtype, length_x, length_w)
    dx = _tangent(x, dx, length_x, of_x.before)
    dw = _tangent(w, dw, length_w, of_w.before)
    near = _times(x, of_x.before).astype(x.dtype)
    far = _times(w, of_w.before).astype(w.dtype)
    # In the operands' dtype, so that the transposed products, which are the gradients,
    # run in it too: a float32 cotangent would pull a float32 copy of `w` behind it.
    change = _contract(dx, far, precision, x.dtype)
    change += _contract(near, dw, precision, x.dtype)
    out = _inner_products(x, w, length_x, length_w, precision)
    return out, _scaled(widen(change), of_x, of_w)


class _Factors(NamedTuple):
    """What an operand is multiplied by before the product, and the product after it.

    Before, powers of two, which are exact, for each row or for all of them; after, None
    for 1, and 0 where a direction does not exist.
    """

    before: tuple[jax.Array, ...] = ()
    after: jax.Array | None = None


def _factors(dtype, length_x, length_w):
    """Factors that bring the lengths of the operands together to about 1.

    So no product leaves the range of the dtype, nor a gradient that fits in it.
    """
    of_x, of_w = _of_rows(length_x), _of_rows(length_w)
    # The range of float16 is short. In other dtypes `w`, which may have very many rows,
    # is left as it is, and `x` has a factor for all of it. If it has its own as well,
    # half of it on a logarithmic scale, for the sake of the transposed product.
    if length_w is not None and dtype != jnp.float16:
        largest = jnp.max(length_w, initial=0.0)
        shift = jnp.sqrt(largest)
        if length_x is None:
            # As far as usual lengths of `x` stay in the range at its other end.
            far = 2.0 ** (jnp.finfo(largest.dtype).maxexp * 3 // 4)
            shift = jnp.where(largest > 1.0, jnp.minimum(largest, far), shift)
        shift = inverse_power(shift)
        of_x = _Factors((*of_x.before, shift), of_x.after)
        of_w = _Factors((), _inverse(length_w * shift))
    return of_x, of_w


def _of_rows(lengths):
    if lengths is None:
        return _Factors()
    power = inverse_power(lengths)
    return _Factors((power,), _inverse(lengths * power))


def _inverse(x):
    return divide(jnp.ones_like(x), x)


def _times(x, factors):
    """``x`` in the dtype of the factors, multiplied by one after the other."""
    for factor in factors:
        each = factor[..., None] if factor.ndim else factor.reshape((1,) * x.ndim)
        x = x.astype(factor.dtype) * each
    return x


def _scaled(out, of_x, of_w):
    if of_w.after is not None:
        out = out * jnp.expand_dims(of_w.after, range(out.ndim - 1))
    return out if of_x.after is None else out * of_x.after[..., None]


def _tangent(x, change, lengths, factors):
    """``change`` by the factors, less its part along ``x`` if directions count."""
    # Factors first, so that they are last in the transpose, which is then clipped.
    wide = _times(widen(change), factors)
    if lengths is not None:
        # Of about unit length, by products: a compiler would keep a quotient.
        power = inverse_power(lengths)
        rows = _times(x, (power,))
        along = dot(rows, wide) * _inverse(lengths * power) ** 2
        wide = wide - along[..., None] * rows
    limit = finite_limit(x.dtype, x.shape[-1])
    return bound_gradient(wide, limit).astype(x.dtype)


def _contract(x, w, precision, dtype):
    dimensions = (((x.ndim - 1,), (w.ndim - 1,)), ((), ()))
    return jax.lax.dot_general(
        x, w, dimensions, precision=precision, preferred_element_type=dtype
    )
