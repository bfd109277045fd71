"""The Cayley map of a skew-symmetric matrix, and its truncated Neumann series."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_count, check_flag
from sphax._compiled import compiled
from sphax._factorisations import invert
from sphax._numerics import widen
from sphax.orthogonal._matrices import (
    as_square,
    identity_like,
    product,
    share_within,
    skew_of_upper,
)
from sphax.orthogonal._newton_schulz import step


def cayley(a: ArrayLike) -> jax.Array:
    r"""Orthogonal matrix of an unconstrained one (Cayley parameterisation).

    .. math::
        Q = (I - S)^{-1} (I + S), \qquad S = \operatorname{triu}(a, 1) -
        \operatorname{triu}(a, 1)^\top

    It reaches all rotations that turn no plane by :math:`\pi`, each from one :math:`S`.
    With :math:`K = (I - S)^{-1}` it is :math:`2 K - I`, and its derivative
    :math:`2 K\, dS\, K`: one inverse forward, two products backward.

    Args:
        a: Floating, ``[..., n, n]``; only what is above the diagonal counts.

    Returns:
        Orthogonal matrices of determinant 1, shape and dtype of ``a``, computed in
        float32 at least; the identity for zero. :math:`I - S` is never singular: values
        and gradients are finite everywhere. Where the magnitudes of a row of :math:`S`
        have a sum above 3.9e4 in float32 (1.4e11 in float64), :math:`S` is scaled down
        to that sum: the result is orthogonal, nearly half a turn in the planes of the
        largest angles, but does not resolve the angles that are small beside them.
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
    """``(I - S)^-1 (I + S)``, the largest ``S`` scaled down to what has an inverse."""
    # The inverse is then off by a fourth root of epsilon, at most: two steps, of which
    # each squares that, bring it to rounding.
    largest = 0.25 * float(jnp.finfo(skew.dtype).eps) ** -0.75
    return _rotation(skew * share_within(skew, largest))


@jax.custom_jvp
def _rotation(skew: jax.Array) -> jax.Array:
    identity = identity_like(skew)
    return step(step(2.0 * invert(identity - skew) - identity))


@_rotation.defjvp
def _rotation_jvp(primals, tangents):
    (skew,), (dskew,) = primals, tangents
    q = _rotation(skew)
    # 2 K, from the result: nothing else is kept for the backward pass.
    twice = q + identity_like(q)
    return q, 0.5 * product(product(twice, dskew), twice)


def cayley_neumann(
    a: ArrayLike, *, terms: int = 4, is_last_halved: bool = False
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

    where the error of orthogonality is :math:`\|\tilde Q^\top \tilde Q - I\|_2`, and
    :math:`Q` is that of :func:`cayley`. From :math:`\sigma = 1` on the series
    diverges: the result is far from orthogonal, and not finite once :math:`S^k` leaves
    the numbers of the dtype. Use :func:`cayley` where :math:`S` may grow.

    Args:
        a: Floating, ``[..., n, n]``; only what is above the diagonal counts.
        terms: :math:`k`, 1 or more. It costs :math:`k - 1` products.
        is_last_halved: Whether the last term is taken once, not twice.

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
    check_flag("is_last_halved", is_last_halved)
    return _cayley_neumann(a, terms=int(terms), is_last_halved=bool(is_last_halved))


@compiled("terms", "is_last_halved")
def _cayley_neumann(a, *, terms, is_last_halved):
    skew = skew_of_upper(widen(a))
    last = 0.5 if is_last_halved else 1.0
    # Horner's scheme: I + 2 S (I + S (I + ... + S (last I))).
    series = last * skew
    for _ in range(terms - 1):
        series = skew + product(skew, series)
    return (identity_like(skew) + 2.0 * series).astype(a.dtype)
