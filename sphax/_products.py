"""Products of vectors with many rows, without a normalised copy of either.

The matrix product reads its operands as they are and accumulates in float32 at least.
To normalise, rows and columns of the product are scaled, and the derivative rule
projects each gradient onto its tangent where it is written.
"""

from functools import partial

import jax
import jax.numpy as jnp

from sphax._norms import divide, dot, length, widen


def inverse_lengths(x: jax.Array) -> jax.Array:
    """``1 / |x|`` along the last axis, 0 at zero, in float32 at least."""
    lengths = length(widen(x))
    return divide(jnp.ones_like(lengths), lengths)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def products(
    x: jax.Array,
    w: jax.Array,
    inverse_x: jax.Array | None,
    inverse_w: jax.Array | None,
    precision=None,
) -> jax.Array:
    """Inner products ``[..., d], [n, d] -> [..., n]``, float32 at least.

    Where its :func:`inverse_lengths` are given, an operand counts by its direction
    only: with both of them, these are the cosines. Zero, with zero gradient, where a
    direction is needed and does not exist.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return _scaled(_contract(x, w, precision, dtype), inverse_x, inverse_w)


@products.defjvp
def _products_jvp(precision, primals, tangents):
    # The change of the lengths is in the projections: their own tangents are left out.
    (x, w, inverse_x, inverse_w), (dx, dw, *_) = primals, tangents
    dx, dw = _tangent(x, dx, inverse_x), _tangent(w, dw, inverse_w)
    # In the operands' dtype, so that the transposed products, which are the gradients,
    # run in it too: a float32 cotangent would pull a float32 copy of `w` behind it.
    change = _contract(dx, w, precision, x.dtype) + _contract(x, dw, precision, x.dtype)
    out = products(x, w, inverse_x, inverse_w, precision)
    return out, _scaled(change.astype(out.dtype), inverse_x, inverse_w)


def _scaled(out, inverse_x, inverse_w):
    if inverse_w is not None:
        out = out * jnp.expand_dims(inverse_w, range(out.ndim - 1))
    return out if inverse_x is None else out * inverse_x[..., None]


def _tangent(x, change, inverse):
    """``change`` less its part along ``x``, if it is the direction that counts."""
    if inverse is None:
        return change
    rows, change = x.astype(inverse.dtype), change.astype(inverse.dtype)
    along = dot(rows, change) * inverse**2
    return (change - along[..., None] * rows).astype(x.dtype)


def _contract(x, w, precision, dtype):
    dimensions = (((x.ndim - 1,), (w.ndim - 1,)), ((), ()))
    return jax.lax.dot_general(
        x, w, dimensions, precision=precision, preferred_element_type=dtype
    )
