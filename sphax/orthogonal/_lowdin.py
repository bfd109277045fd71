"""Nearest orthogonal matrix: the polar factor, or Löwdin orthogonalization."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._linalg import (
    as_tall,
    eigh,
    entries,
    identity_like,
    invert,
    largest_entry,
    product,
    symmetric_part,
)
from sphax._numerics import divide, widen
from sphax.orthogonal._gram_schmidt import factor
from sphax.sphere import direction, length

# Eigenvalues below so many epsilons of the largest one, times sqrt(n), are rounding.
_NOISE = 4.0
# Steps of the power method. The norms steer the scaling only: a few percent are enough.
_POWERS = 4
# Nine steps are enough for every matrix; the others are for norms that are far off.
_MOST = 20


def lowdin(a: ArrayLike) -> jax.Array:
    r"""Nearest matrix with orthonormal columns (Löwdin, symmetric orthogonalization).

    The polar factor :math:`Q = A (A^\top A)^{-1/2} = U V^\top` of
    :math:`A = U \Sigma V^\top`, by Newton's method with scaling. Its derivative solves

    .. math::
        dQ = Q\, \Omega, \qquad H \Omega + \Omega H = Q^\top dA - dA^\top Q, \qquad
        H = Q^\top A,

    for square :math:`A`; singular values enter it as :math:`1 / (\sigma_i + \sigma_j)`,
    which is finite where they coincide. For tall :math:`A`,
    :math:`(I - Q Q^\top)\, dA\, H^{-1}` is added. No SVD is computed or differentiated.

    Args:
        a: Floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        Matrices with orthonormal columns, shape and dtype of ``a``, computed in float32
        at least; the determinant of a square one has the sign of the determinant of
        ``a``. A matrix that is singular to rounding has several nearest ones, and gets
        one of them, with either sign; the zero matrix gets the identity. Singular
        values up to :math:`4 \sqrt n` epsilons of the largest count as zero. The
        derivative does not exist for pairs of zero singular values and, in a tall
        matrix, for a zero singular value and directions outside of the columns: there
        it is taken to be zero.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., m, n]`` with ``m >= n``.

    Example:
        >>> sx.orthogonal.lowdin(jnp.array([[3.0, 0.0], [0.0, -0.5]]))
        Array([[ 1.,  0.],
               [ 0., -1.]], dtype=float32)

    References:
        Higham, `Computing the Polar Decomposition, with Applications
        <https://doi.org/10.1137/0907079>`_, 1986;
        Löwdin, `On the Non-Orthogonality Problem
        <https://doi.org/10.1063/1.1747632>`_, 1950.
    """
    return _lowdin(as_tall("a", a))


@compiled()
def _lowdin(a):
    return _nearest(widen(a)).astype(a.dtype)


@jax.custom_jvp
def _nearest(a: jax.Array) -> jax.Array:
    """The orthogonal polar factor, ``[..., m, n]``."""
    x = a / largest_entry(a)
    if x.shape[-2] == x.shape[-1]:
        return _polar(x)
    frame, triangle = factor(x)
    return product(frame, _polar(triangle))


@_nearest.defjvp
def _nearest_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    size = largest_entry(a)
    q, da = _nearest(a), da / size
    h, inner = symmetric_part(product(q.mT, a / size)), product(q.mT, da)
    outside = da - product(q, inner) if q.shape[-2] > q.shape[-1] else None
    rotation, outside = _solve(h, inner - inner.mT, outside)
    dq = product(q, rotation)
    return q, dq if outside is None else dq + outside


def _polar(x: jax.Array) -> jax.Array:
    """The orthogonal polar factor of square matrices of entries up to 1."""
    is_zero = jnp.all(x == 0.0, axis=(-2, -1), keepdims=True)
    x = _newton(jnp.where(is_zero, identity_like(x), x))
    # A last step of order three: sigma becomes sigma (15 - 10 sigma^2 + 3 sigma^4) / 8.
    gram = product(x.mT, x)
    excess = gram - identity_like(gram)
    return x + product(x, 3.0 * product(excess, excess) - 4.0 * excess) / 8.0


def _newton(x: jax.Array) -> jax.Array:
    """Newton's iteration ``x <- (x + invert(x)') / 2``, with scaling.

    It ends where the step of order three that follows removes the remaining error.
    """
    # If x and its inverse differ by d, the Gram matrix of their mean differs from I by
    # d^2 / 8; the step of order three leaves 5 / 16 of the third power of that.
    enough = 4.0 * (jnp.finfo(x.dtype).eps / 5.0) ** (1 / 6)

    def is_far(carry):
        _, _, difference, count = carry
        return jnp.any(difference > enough) & (count < _MOST)

    def advance(carry):
        x, inverse, difference, count = carry
        x = _centered_mean(x, inverse, difference)
        inverse = invert(x).mT
        return x, inverse, _spectral_norm(x - inverse), count + 1

    x, inverse = _with_inverse(x)
    inverse = inverse.mT
    scale = jnp.sqrt(_spectral_norm(x) / _spectral_norm(inverse))
    x, inverse = x / scale, inverse * scale
    start = x, inverse, _spectral_norm(x - inverse), 0
    x, inverse, difference, _ = jax.lax.while_loop(is_far, advance, start)
    return _centered_mean(x, inverse, difference)


def _centered_mean(x, inverse, difference):
    """Mean of a matrix and its inverse, scaled to singular values around 1."""
    # Singular values of x lie in [1 / top, top], and of the mean in
    # [1, (top + 1 / top) / 2].
    top = difference / 2.0 + jnp.sqrt(1.0 + difference**2 / 4.0)
    return (x + inverse) / (2.0 * jnp.sqrt((top + 1.0 / top) / 2.0))


def _solve(h: jax.Array, c: jax.Array, y: jax.Array | None):
    """``x`` and ``z`` with ``h x + x h = c`` and ``z h = y``, for semidefinite ``h``.

    Components that belong to eigenvalues of zero, up to rounding, are zero.
    """

    def times(pair):
        x, z = pair
        return product(h, x) + product(x, h), None if z is None else product(z, h)

    def solve(_, pair):
        c, y = pair
        values, vectors = eigh(h)
        noise = _NOISE * jnp.finfo(h.dtype).eps * h.shape[-1] ** 0.5
        values = jnp.where(values > noise * values[..., -1:], values, 0.0)
        sums = values[..., :, None] + values[..., None, :]
        inner = divide(product(product(vectors.mT, c), vectors), sums)
        x = product(product(vectors, inner), vectors.mT)
        if y is None:
            return x, None
        z = divide(product(y, vectors), values[..., None, :])
        return x, product(z, vectors.mT)

    # The derivative is that of the equation, so eigenvectors are not differentiated.
    return jax.lax.custom_linear_solve(times, (c, y), solve, symmetric=True)


def _with_inverse(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``x``, with entries up to 1, and its inverse.

    To singular matrices, the smallest multiple of a fixed matrix is added that makes
    them invertible, of the order of rounding.
    """
    eps = jnp.finfo(x.dtype).eps

    def is_singular(inverse):
        # This way round, NaN is singular.
        return ~(length(entries(inverse)) <= eps**-1.25)[..., None, None]

    def is_any_singular(carry):
        _, inverse, size = carry
        return jnp.any(is_singular(inverse)) & (size < 1.0)

    def change(carry):
        y, inverse, size = carry
        size = jnp.maximum(4.0 * size, eps)
        # As irregular as a random matrix, well conditioned, and cheap to compile. The
        # size is its phase, so that the compiler cannot move it out of the loop.
        number = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
        noise = size * jnp.cos(jnp.outer(number, number) + size)
        noise = jnp.broadcast_to(noise, x.shape)
        y = jnp.where(is_singular(inverse), x + noise, y)
        return y, invert(y), size

    start = x, invert(x), jnp.zeros((), x.dtype)
    y, inverse, _ = jax.lax.while_loop(is_any_singular, change, start)
    return y, inverse


def _spectral_norm(x: jax.Array) -> jax.Array:
    """Estimate of the largest singular value, from below, ``[..., 1, 1]``."""
    # Irregular, so that it is not orthogonal to the singular vector.
    start = jnp.cos(jnp.arange(x.shape[-1], dtype=x.dtype) ** 2)
    right = jnp.broadcast_to(start, x.shape[:-1])
    for _ in range(_POWERS):
        right = direction(jnp.vecmat(jnp.matvec(x, right), x))
    return length(jnp.matvec(x, right))[..., None, None]
