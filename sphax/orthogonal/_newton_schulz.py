"""Orthogonality by matrix products alone."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_count
from sphax._compiled import compiled
from sphax._numerics import divide, widen
from sphax.orthogonal._matrices import (
    as_tall,
    frobenius_norm,
    identity_like,
    product,
    size_of,
)


def newton_schulz(a: ArrayLike, *, iterations: int = 15) -> jax.Array:
    r"""Approaches the nearest orthogonal matrix by products alone (Newton-Schulz).

    .. math::
        X \leftarrow \tfrac12 X\, (3 I - X^\top X), \qquad X_0 = A / b

    with the bound :math:`b = \min(\|A\|_F, \sqrt{\|A\|_1 \|A\|_\infty})` on the largest
    singular value. A singular value :math:`\sigma` of :math:`X` becomes
    :math:`\sigma (3 - \sigma^2) / 2`: small ones grow by half in every iteration, and
    near 1 the error is squared. :func:`lowdin` is the limit, at any conditioning.

    Args:
        a: Floating, ``[..., m, n]`` with :math:`m \ge n`.
        iterations: Number of them, 0 or more; each costs two products. The smallest
            singular value needs about :math:`\log(b / \sigma_n) / \log 1.5 + 4`.

    Returns:
        Nearly orthonormal columns, shape and dtype of ``a``, computed in float32 at
        least; zero, with zero gradient, for zero. A singular value of zero stays zero,
        with a gradient that grows by half in every iteration.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., m, n]`` with ``m >= n``, or ``iterations``
            is negative.

    Example:
        >>> sx.orthogonal.newton_schulz(jnp.array([[3.0, 0.0], [0.0, -0.5]]))
        Array([[ 1.,  0.],
               [ 0., -1.]], dtype=float32)

    References:
        Björck, Bowie, `An Iterative Algorithm for Computing the Best Estimate of an
        Orthogonal Matrix <https://doi.org/10.1137/0708036>`_, 1971.
    """
    a = as_tall("a", a)
    check_count("iterations", iterations, 0)
    return _newton_schulz(a, iterations=int(iterations))


@compiled("iterations")
def _newton_schulz(a, *, iterations):
    x = widen(a)
    x = x / size_of(x)
    x = divide(x, norm_bound(x)[..., None, None])
    x = jax.lax.fori_loop(0, iterations, lambda _, x: step(x), x)
    return x.astype(a.dtype)


def polish(q: ArrayLike) -> jax.Array:
    r"""Takes rounding errors out of a nearly orthogonal matrix.

    One Newton-Schulz step, :math:`\tfrac12 Q\, (3 I - Q^\top Q)`: it squares the error
    of orthogonality, down to rounding. It moves towards the nearest orthogonal matrix
    wherever all singular values are below :math:`\sqrt 3`; beyond, it moves away.

    Args:
        q: Nearly orthonormal columns, floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        The matrix, shape and dtype of ``q``, computed in float32 at least.

    Raises:
        TypeError: If ``q`` is not floating.
        ValueError: If ``q`` is not ``[..., m, n]`` with ``m >= n``.

    Example:
        >>> q = jnp.diag(jnp.array([1.001, 0.999]))
        >>> bool(sx.orthogonal.orthogonality_error(sx.orthogonal.polish(q)) < 1e-5)
        True
    """
    return _polish(as_tall("q", q))


@compiled()
def _polish(q):
    return step(widen(q)).astype(q.dtype)


def step(x: jax.Array) -> jax.Array:
    """``x (3 I - x' x) / 2``."""
    gram = product(x.mT, x)
    # The difference to x itself, so that rounding acts on the correction only.
    return x + product(x, (identity_like(gram) - gram) / 2.0)


def without_rounding(q: jax.Array, steps: int = 1) -> jax.Array:
    """``q`` polished, and the derivative of ``q``: only rounding is taken out."""
    fixed = jax.lax.stop_gradient(q)
    better = fixed
    for _ in range(steps):
        better = step(better)
    return q + (better - fixed)


def norm_bound(x: jax.Array) -> jax.Array:
    """An upper bound on the largest singular value, ``[...]``."""
    sizes = jnp.abs(x)
    columns, rows = jnp.max(jnp.sum(sizes, -2), -1), jnp.max(jnp.sum(sizes, -1), -1)
    bound = jnp.minimum(frobenius_norm(x) ** 2, columns * rows)
    is_zero = bound == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, bound)))
