"""Cosines and inner products of vectors with many rows, without normalized copies.

The matrix product accumulates in float32 at least. To normalize the vectors, the rows
and the columns of the product are scaled; the derivative rule then projects each
gradient onto the tangent space of its vector.
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

    The matrix :math:`c_{ij} = \hat x_i \cdot \hat w_j` of all pairs, as in
    scikit-learn, without a normalized copy of ``w``. A cosine does not resolve angles
    near 0 or :math:`\pi`; use :func:`angle` for these.

    Args:
        x: Vectors, floating, ``[..., d]``.
        w: Vectors, dtype of ``x``, ``[n, d]``.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

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
    x, w = _as_operands(x, w)
    if w.dtype != x.dtype:
        raise TypeError(
            f"w must have the dtype of x, got w {w.dtype} and x {x.dtype}; cast one."
        )
    return _cosine_similarity(x, w, precision=precision)


@compiled("precision")
def _cosine_similarity(x: jax.Array, w: jax.Array, *, precision) -> jax.Array:
    cosines = _inner_products(x, w, length(widen(x)), length(widen(w)), precision)
    return cosines.astype(x.dtype)


def inner_products(
    x: ArrayLike,
    w: ArrayLike,
    x_lengths: jax.Array | None = None,
    w_lengths: jax.Array | None = None,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Inner product of every vector with every row, optionally of their directions.

    The matrix :math:`x_i \cdot w_j` of all pairs. If the lengths of an operand are
    given, its directions take the place of its vectors: with both lengths, the result
    is :func:`cosine_similarity`. No normalized copy of ``x`` or ``w`` is made, and the
    gradient of a normalized operand is tangent at its vectors.

    Args:
        x: Vectors, floating, ``[..., d]``.
        w: Vectors, floating, ``[n, d]``.
        x_lengths: :func:`length` of ``x``, ``[...]``, to normalize ``x``. The gradient
            does not pass through this argument, but derivatives of the gradient do.
        w_lengths: :func:`length` of ``w``, ``[n]``, to normalize ``w``; likewise.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Products, ``[..., n]``, accumulated and returned in float32 at least. A zero
        vector whose direction is needed has product 0 with zero gradient.

    Raises:
        TypeError: If ``x`` or ``w`` is not floating.
        ValueError: If ``w`` is not a matrix, its rows have another length than ``x``,
            or lengths do not have one entry per vector.

    Example:
        >>> x, w = jnp.array([[3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0]])
        >>> sx.sphere.inner_products(x, w)
        Array([[6., 4.]], dtype=float32)
        >>> sx.sphere.inner_products(x, w, None, sx.sphere.length(w))
        Array([[3., 4.]], dtype=float32)
    """
    x, w = _as_operands(x, w)
    for name, lengths, vectors in (("x", x_lengths, x), ("w", w_lengths, w)):
        if lengths is not None and lengths.shape != vectors.shape[:-1]:
            raise ValueError(
                f"{name}_lengths must be {vectors.shape[:-1]}, the lengths of {name}"
                f" {vectors.shape}, got shape {lengths.shape}."
            )
    return _inner_products(x, w, x_lengths, w_lengths, precision)


def _as_operands(x: ArrayLike, w: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless floating, ``x [..., d]`` and ``w [n, d]``."""
    x, w = as_floating("x", x), as_floating("w", w)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            "w must be [n, d] and x [..., d] with the same d, got w"
            f" {w.shape} and x {x.shape}."
        )
    check_dimensions("x", x)
    return x, w


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _inner_products(x, w, x_lengths, w_lengths, precision):
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    x_factors, w_factors = _factors(x.dtype, x_lengths, w_lengths)
    scaled_x = _times(x, x_factors.before).astype(x.dtype)
    scaled_w = _times(w, w_factors.before).astype(w.dtype)
    products = _contract(scaled_x, scaled_w, precision, dtype)
    return _scale_products(products, x_factors, w_factors)


@_inner_products.defjvp
def _inner_products_jvp(precision, primals, tangents):
    # The tangents of the lengths are left out: the projections take account of them.
    (x, w, x_lengths, w_lengths), (dx, dw, *_) = primals, tangents
    x_factors, w_factors = _factors(x.dtype, x_lengths, w_lengths)
    dx = _tangent(x, dx, x_lengths, x_factors.before)
    dw = _tangent(w, dw, w_lengths, w_factors.before)
    scaled_x = _times(x, x_factors.before).astype(x.dtype)
    scaled_w = _times(w, w_factors.before).astype(w.dtype)
    # In the operands' dtype, so that the transposed products, which are the gradients,
    # are computed in it too: a float32 cotangent would make a float32 copy of `w`.
    change = _contract(dx, scaled_w, precision, x.dtype)
    change += _contract(scaled_x, dw, precision, x.dtype)
    products = _inner_products(x, w, x_lengths, w_lengths, precision)
    return products, _scale_products(widen(change), x_factors, w_factors)


class _Factors(NamedTuple):
    """Factors of an operand before the product, and of the product.

    Before the product these are powers of two, which are exact, for each row or for all
    rows. The factor of the product is None for 1, and 0 where there is no direction.
    """

    before: tuple[jax.Array, ...] = ()
    after: jax.Array | None = None


def _factors(dtype, x_lengths, w_lengths):
    """Factors of both operands that together bring their lengths to about 1.

    They keep every product within the range of the dtype, and every gradient that fits
    in it.
    """
    x_factors, w_factors = _factors_by_row(x_lengths), _factors_by_row(w_lengths)
    # The range of float16 is too short for what follows. In other dtypes `w`, which may
    # have very many rows, is left unscaled, and `x` as a whole takes a factor for it.
    # If the rows of `x` have factors too, it takes half of that (as an exponent), for
    # the sake of the transposed product.
    if w_lengths is not None and dtype != jnp.float16:
        largest = jnp.max(w_lengths, initial=0.0)
        shift = jnp.sqrt(largest)
        if x_lengths is None:
            # As far as usual lengths of `x` stay in the range at its other end.
            far = 2.0 ** (jnp.finfo(largest.dtype).maxexp * 3 // 4)
            shift = jnp.where(largest > 1.0, jnp.minimum(largest, far), shift)
        shift = inverse_power(shift)
        x_factors = _Factors((*x_factors.before, shift), x_factors.after)
        w_factors = _Factors((), _inverse(w_lengths * shift))
    return x_factors, w_factors


def _factors_by_row(lengths):
    if lengths is None:
        return _Factors()
    power = inverse_power(lengths)
    return _Factors((power,), _inverse(lengths * power))


def _inverse(x):
    return divide(jnp.ones_like(x), x)


def _times(x, factors):
    """``x`` multiplied by the factors one after the other, in their dtype."""
    for factor in factors:
        each = factor[..., None] if factor.ndim else factor.reshape((1,) * x.ndim)
        x = x.astype(factor.dtype) * each
    return x


def _scale_products(products, x_factors, w_factors):
    if w_factors.after is not None:
        after = jnp.expand_dims(w_factors.after, range(products.ndim - 1))
        products = products * after
    if x_factors.after is not None:
        products = products * x_factors.after[..., None]
    return products


def _tangent(x, change, lengths, factors):
    """``change`` times the factors, without its part along ``x`` if normalized."""
    # Factors first, so that they are last in the transpose, which is then clipped.
    wide = _times(widen(change), factors)
    if lengths is not None:
        # Products that bring ``x`` to about unit length: a compiler would keep a
        # quotient in memory.
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
