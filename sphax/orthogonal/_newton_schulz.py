"""Newton-Schulz iteration: orthonormal columns by matrix products only."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_count
from sphax._compiled import compiled
from sphax._linalg import as_tall, entries, largest_entry, newton_schulz_step
from sphax._numerics import divide, safe_sqrt, widen
from sphax.sphere import length


def newton_schulz(a: ArrayLike, *, iterations: int = 15) -> jax.Array:
    r"""Approaches the nearest orthogonal matrix by products only (Newton-Schulz).

    .. math::
        X \leftarrow \tfrac12 X\, (3 I - X^\top X), \qquad X_0 = A / b

    with the bound :math:`b = \min(\|A\|_F, \sqrt{\|A\|_1 \|A\|_\infty})` on the largest
    singular value. A singular value :math:`\sigma` of :math:`X` becomes
    :math:`\sigma (3 - \sigma^2) / 2`: small ones grow by half in every iteration, and
    near 1 the error is squared. :func:`lowdin` is the limit, at any conditioning;
    :func:`polar_factor` comes to it in fewer products.

    Args:
        a: Floating, ``[..., m, n]`` with :math:`m \ge n`.
        iterations: Number of iterations, 0 or more, of two products each. The smallest
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
    x = x / largest_entry(x)
    sizes = jnp.abs(x)
    columns, rows = jnp.max(jnp.sum(sizes, -2), -1), jnp.max(jnp.sum(sizes, -1), -1)
    bound = safe_sqrt(jnp.minimum(length(entries(x)) ** 2, columns * rows))
    x = divide(x, bound[..., None, None])
    x = jax.lax.fori_loop(0, iterations, lambda _, x: newton_schulz_step(x), x)
    return x.astype(a.dtype)


def polish(q: ArrayLike) -> jax.Array:
    r"""Removes rounding errors from a nearly orthogonal matrix.

    One Newton-Schulz step, :math:`\tfrac12 Q\, (3 I - Q^\top Q)`, squares the
    orthogonality error, down to rounding. It moves towards the nearest orthogonal
    matrix if all singular values are below :math:`\sqrt 3`, else away from it.

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
    return newton_schulz_step(widen(q)).astype(q.dtype)
