"""Products of vectors with many rows, without a normalised copy of either.

The matrix product accumulates in float32 at least. To normalise, rows and columns of
the product are scaled, and the derivative rule projects each gradient onto its tangent
where it is written.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._norms import bound_gradient, divide, dot, inverse_power, length, widen


def row_lengths(x: jax.Array) -> jax.Array:
    """Lengths of the vectors on the last axis, in float32 at least."""
    return length(widen(x))


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def products(
    x: jax.Array,
    w: jax.Array,
    length_x: jax.Array | None,
    length_w: jax.Array | None,
    precision=None,
) -> jax.Array:
    """Inner products ``[..., d], [n, d] -> [..., n]``, float32 at least.

    Where its :func:`row_lengths` are given, an operand counts by its direction only:
    with both of them, these are the cosines. Zero, with zero gradient, where a
    direction is needed and does not exist.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    of_x, of_w = _factors(x.dtype, length_x, length_w)
    near = _times(x, of_x.before).astype(x.dtype)
    far = _times(w, of_w.before).astype(w.dtype)
    return _scaled(_contract(near, far, precision, dtype), of_x, of_w)


@products.defjvp
def _products_jvp(precision, primals, tangents):
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
    out = products(x, w, length_x, length_w, precision)
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


def finite_limit(dtype: jax.typing.DTypeLike, size: int) -> float:
    """Size up to which the inner product with a unit vector is finite in float32.

    Of vectors with ``size`` entries; not beyond the range of the dtype.
    """
    wide = jnp.finfo(jnp.promote_types(dtype, jnp.float32))
    return min(float(jnp.finfo(dtype).max), 0.25 * float(wide.max) / max(size, 1))


def _contract(x, w, precision, dtype):
    dimensions = (((x.ndim - 1,), (w.ndim - 1,)), ((), ()))
    return jax.lax.dot_general(
        x, w, dimensions, precision=precision, preferred_element_type=dtype
    )
