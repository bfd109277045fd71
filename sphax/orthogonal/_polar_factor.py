"""Polar factor of matrices of any rank: the matrix sign of Muon, to convergence."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_range
from sphax._compiled import compiled
from sphax._linalg import (
    entries,
    identity_like,
    largest_entry,
    newton_schulz_step,
    product,
)
from sphax._numerics import divide, inverse_power, safe_sqrt, widen
from sphax.sphere import length


def polar_factor(a: ArrayLike, *, tolerance: float | None = None) -> jax.Array:
    r"""Matrix with all singular values set to 1 but those that are zero (matrix sign).

    The polar factor :math:`U V^\top` of :math:`A = U \Sigma V^\top` with
    :math:`\sigma_i > 0`. Among matrices of spectral norm 1, it has the largest inner
    product with :math:`A`, which is the nuclear norm of :math:`A`. The columns of a
    tall matrix of full rank become orthonormal, and so do the rows of a wide one;
    :func:`lowdin` makes columns orthonormal at any rank.

    It is computed by products only: polynomials of degree five, each close to 1 on the
    singular values that those before it leave (Polar Express), and two Newton-Schulz
    steps.

    Args:
        a: Floating, ``[..., m, n]`` of any shape.
        tolerance: Share :math:`\tau` of the largest singular value from which on
            singular values become 1, between 0 and 1; by default the square root of the
            epsilon of the dtype, float32 at least. Those below become about their share
            divided by :math:`\tau`, so that rounding does not become a direction.

    Returns:
        Matrices whose singular values are 1 or, up to rounding over :math:`\tau`, 0;
        shape and dtype of ``a``, computed in float32 at least; zero for zero.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., m, n]``, or ``tolerance`` is not between 0
            and 1.

    Example:
        >>> sx.orthogonal.polar_factor(jnp.array([[3.0, 0.0], [0.0, 0.0]]))
        Array([[1., 0.],
               [0., 0.]], dtype=float32)

    References:
        Amsel et al., `The Polar Express <https://arxiv.org/abs/2505.16932>`_, 2025;
        Björck, Bowie, `An Iterative Algorithm for Computing the Best Estimate of an
        Orthogonal Matrix <https://doi.org/10.1137/0708036>`_, 1971.
    """
    a = as_floating("a", a)
    if a.ndim < 2:
        raise ValueError(f"a must be [..., m, n], got shape {a.shape}.")
    if tolerance is None:
        eps = jnp.finfo(jnp.promote_types(a.dtype, jnp.float32)).eps
        tolerance = math.sqrt(float(eps))
    check_range("tolerance", tolerance, 0.0, 1.0, exclude_low=True)
    return _polar_factor(a, tolerance=float(tolerance))


@compiled("tolerance")
def _polar_factor(a, *, tolerance):
    if 0 in a.shape[-2:]:
        return a
    is_wide = a.shape[-2] < a.shape[-1]
    x = widen(a.mT if is_wide else a)
    x = x * inverse_power(largest_entry(x))
    # The fourth root of a norm of the square of the Gram matrix is at most n^(1/8)
    # times the largest singular value, the Frobenius norm up to n^(1/2) times.
    gram = product(x.mT, x)
    root = safe_sqrt(safe_sqrt(length(entries(product(gram, gram)))))
    x = divide(x, root[..., None, None])
    smallest = tolerance / x.shape[-1] ** 0.125
    polynomials = jnp.asarray(_polynomials(smallest, str(x.dtype)), x.dtype)
    x = jax.lax.scan(_apply, x, polynomials)[0]
    x = newton_schulz_step(newton_schulz_step(x))
    return (x.mT if is_wide else x).astype(a.dtype)


def _apply(x, coefficients):
    """The matrix with each singular value changed by an odd polynomial."""
    scale, center, least = coefficients
    gram = product(x.mT, x)
    identity = identity_like(gram)
    # As a square, since three terms with signs in turn would cancel.
    shifted = gram - center * identity
    return product(x, scale * product(shifted, shifted) + least * identity), None


@functools.cache
def _polynomials(smallest: float, dtype: str) -> np.ndarray:
    """Coefficients of polynomials ``x (c (x^2 - s)^2 + d)`` in turn, ``[steps, 3]``.

    They take singular values in ``[smallest, 1]`` so close to 1 that two Newton-Schulz
    steps remove the rest.
    """
    # A Newton-Schulz step changes 1 - e to 1 - 1.5 e^2 and less.
    enough = 1.0 - 0.5 * float(np.finfo(dtype).eps) ** 0.25
    low, high, steps = smallest, 1.0, []
    while low < enough:
        # Nothing from a tenth of the largest on becomes small, which would cost digits.
        # The end of an interval goes to the end of the next, with 13 times its rounding
        # error, and further on it diverges: a wider interval makes it an inner point.
        ends = max(low, 0.1 * high), 1.01 * high
        first, third, fifth = _best_polynomial(*ends)
        center = -third / (2.0 * fifth)
        steps.append((fifth, center, first - fifth * center**2))
        low, least = (first * x + third * x**3 + fifth * x**5 for x in (low, ends[0]))
        low, high = min(low, least), 2.0 - least
    return np.array(steps).reshape(-1, 3)


def _best_polynomial(low: float, high: float) -> tuple[float, float, float]:
    """The odd polynomial of degree five that is closest to 1 on an interval (Remez)."""
    # The error takes its largest size four times, with signs in turn: at both ends and
    # at the two extrema between them.
    points = np.array([low, 0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high, high])
    # Convergence is quadratic: after four exchanges, coefficients are exact to 1e-11.
    for _ in range(6):
        powers = points[:, None] ** np.array([1, 3, 5])
        system = np.column_stack([powers, [1.0, -1.0, 1.0, -1.0]])
        first, third, fifth, _ = np.linalg.solve(system, np.ones(4))
        squares = np.roots([5.0 * fifth, 3.0 * third, first])
        points[1:3] = np.sort(np.sqrt(squares))
    return float(first), float(third), float(fifth)
