"""Cayley map of a skew-symmetric matrix, and its truncated Neumann series."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_count, check_flag
from sphax._compiled import compiled
from sphax._linalg import (
    as_square,
    factor_within,
    identity_like,
    invert,
    newton_schulz_step,
    product,
    skew_of_upper,
)
from sphax._numerics import widen


def cayley(a: ArrayLike) -> jax.Array:
    r"""Orthogonal matrix of an unconstrained one (Cayley parameterization).

    .. math::
        Q = (I - S)^{-1} (I + S), \qquad S = \operatorname{triu}(a, 1) -
        \operatorname{triu}(a, 1)^\top

    It reaches every rotation that turns no plane by :math:`\pi`, from one :math:`S`
    each.
    With :math:`K = (I - S)^{-1}` it is :math:`2 K - I`, and its derivative
    :math:`2 K\, dS\, K`: one inverse forward, two products backward.

    Args:
        a: Floating, ``[..., n, n]``; only entries above the diagonal count.

    Returns:
        Orthogonal matrices of determinant 1, shape and dtype of ``a``, computed in
        float32 at least; the identity for zero. :math:`I - S` is never singular: values
        and gradients are finite everywhere. Where the magnitudes of a row of :math:`S`
        have a sum above 3.9e4 in float32 (1.4e11 in float64), :math:`S` is scaled down
        to that sum: the result is still orthogonal, and nearly half a turn in the
        planes of the largest angles, but much smaller angles lose their digits.
        Entries on and below the diagonal have zero gradient.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., n, n]``.

    Example:
        >>> sx.orthogonal.cayley(jnp.array([[0.0, 1.0], [0.0, 0.0]]))
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)

    References:
        Cayley, Sur quelques propriétés des déterminants gauches, Crelle's Journal 1846;
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """
    return _cayley(as_square("a", a))


@compiled()
def _cayley(a):
    return cayley_of_skew(skew_of_upper(widen(a))).astype(a.dtype)


def cayley_of_skew(skew: jax.Array) -> jax.Array:
    """``(I - S)^-1 (I + S)``, with a very large ``S`` scaled down first."""
    # Up to this row sum, rounding errors of the inverse are at most a fourth root of
    # epsilon. Each of two Newton-Schulz steps squares them, down to rounding.
    largest = 0.25 * float(jnp.finfo(skew.dtype).eps) ** -0.75
    return _rotation(skew * factor_within(skew, largest))


@jax.custom_jvp
def _rotation(skew: jax.Array) -> jax.Array:
    identity = identity_like(skew)
    q = 2.0 * invert(identity - skew) - identity
    return newton_schulz_step(newton_schulz_step(q))


@_rotation.defjvp
def _rotation_jvp(primals, tangents):
    (skew,), (dskew,) = primals, tangents
    q = _rotation(skew)
    # 2 K is computed from the result, so the backward pass keeps nothing else.
    twice_k = q + identity_like(q)
    return q, 0.5 * product(product(twice_k, dskew), twice_k)


def cayley_neumann(
    a: ArrayLike, *, terms: int = 4, halve_last_term: bool = False
) -> jax.Array:
    r"""Cayley map by the first terms of its Neumann series, without an inverse.

    .. math::
        \tilde Q = I + 2 \sum_{j=1}^{k} S^j, \qquad S = \operatorname{triu}(a, 1) -
        \operatorname{triu}(a, 1)^\top

    (POET, :math:`k = 4`), or with the last term once instead of twice (OFT as released,
    :math:`I + 2 S + 2 S^2 + 2 S^3 + S^4`). With :math:`\sigma = \|S\|_2 < 1`,

    ============ =================================== ==================================
    last term    :math:`\|\tilde Q - Q\|_2` at most  orthogonality error at most, about
    ============ =================================== ==================================
    twice        :math:`2 \sigma^{k+1}`              :math:`4 \sigma^{k+1}` (k odd),
                                                     :math:`4 \sigma^{k+2}` (k even)
    once         :math:`\sigma^k`                    :math:`\sigma^{2k}` (k odd),
                                                     :math:`2 \sigma^k` (k even)
    ============ =================================== ==================================

    where the orthogonality error is :math:`\|\tilde Q^\top \tilde Q - I\|_2`, and
    :math:`Q` is the result of :func:`cayley`. For :math:`\sigma \ge 1` the series
    diverges: the result is far from orthogonal, and infinite once :math:`S^k` overflows
    the dtype. Use :func:`cayley` where :math:`S` may grow.

    Args:
        a: Floating, ``[..., n, n]``; only entries above the diagonal count.
        terms: :math:`k`, 1 or more; costs :math:`k - 1` products.
        halve_last_term: Whether to add the last term once instead of twice.

    Returns:
        Nearly orthogonal matrices, shape and dtype of ``a``, computed in float32 at
        least. Entries on and below the diagonal have zero gradient.

    Raises:
        TypeError: If ``a`` is not floating.
        ValueError: If ``a`` is not ``[..., n, n]``, or ``terms`` is below 1.

    Example:
        >>> a = jnp.array([[0.0, 0.1], [0.0, 0.0]])
        >>> jnp.abs(sx.orthogonal.cayley_neumann(a) - sx.orthogonal.cayley(a)).max()
        Array(1.98e-05, dtype=float32)

    References:
        Qiu et al., `Reparameterized LLM Training via Orthogonal Equivalence
        Transformation <https://arxiv.org/abs/2506.08001>`_, 2025.
    """
    a = as_square("a", a)
    check_count("terms", terms, 1)
    check_flag("halve_last_term", halve_last_term)
    return _cayley_neumann(a, terms=int(terms), halve_last_term=bool(halve_last_term))


@compiled("terms", "halve_last_term")
def _cayley_neumann(a, *, terms, halve_last_term):
    skew = skew_of_upper(widen(a))
    last = 0.5 if halve_last_term else 1.0
    # Horner's scheme: I + 2 S (I + S (I + ... + S (last I))).
    series = last * skew
    for _ in range(terms - 1):
        series = skew + product(skew, series)
    return (identity_like(skew) + 2.0 * series).astype(a.dtype)
