r"""The log partition function of the von Mises-Fisher distribution, and its kin.

The density is :math:`e^{k \mu^\top x} / (|S| e^{\psi(k)})`, with the reduced function
:math:`\psi_d(k) = \log E_U[e^{k t}]`, :math:`t = \mu^\top x` of a uniform point.
"""

import functools
import itertools
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._numerics import divide

Polynomial = list[Fraction]  # coefficients by ascending powers


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_partition(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`\psi_d(k) = \log E_U[e^{k t}]`; its derivative is :func:`mean_cosine`."""
    return _ladder(k, dimension).psi


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_partition_gap(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`\psi_d(k) - k`, accurate where :math:`k > d / 2`."""
    return _ladder(k, dimension).psi_gap


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_cosine(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`A_d(k) = E[t] = I_{d/2}(k) / I_{d/2-1}(k)`, in [0, 1)."""
    return k * _ladder(k, dimension).rho / dimension


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_gap(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`1 - A_d(k)`, accurate for all concentrations."""
    ladder = _ladder(k, dimension)
    is_large = _is_large(k, dimension)
    return jnp.where(is_large, divide(ladder.e, k), 1.0 - k * ladder.rho / dimension)


def mean_slope(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`A_d'(k)`, the variance of :math:`t`."""
    ladder = _ladder(k, dimension)
    return ladder.slope * ladder.rho / dimension


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def divergence_from_uniform(k: jax.Array, dimension: int) -> jax.Array:
    r""":math:`k A_d(k) - \psi_d(k)`, with derivative :math:`k A_d'(k)`."""
    ladder = _ladder(k, dimension)
    small = k * k * ladder.rho / dimension - ladder.psi
    return jnp.where(_is_large(k, dimension), -ladder.e - ladder.psi_gap, small)


@log_partition.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return log_partition(k, dimension), mean_cosine(k, dimension) * dk


@log_partition_gap.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return log_partition_gap(k, dimension), -mean_gap(k, dimension) * dk


@mean_cosine.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return mean_cosine(k, dimension), mean_slope(k, dimension) * dk


@mean_gap.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    return mean_gap(k, dimension), -mean_slope(k, dimension) * dk


@divergence_from_uniform.defjvp
def _(dimension, primals, tangents):
    (k,), (dk,) = primals, tangents
    slope = k * mean_slope(k, dimension)
    return divergence_from_uniform(k, dimension), slope * dk


def _is_large(k: jax.Array, dimension: int) -> jax.Array:
    """Whether quantities near 1 are better taken from their distance to 1."""
    return k > dimension / 2


class _Ladder(NamedTuple):
    """What is computed together, each positive and free of cancellation."""

    psi: jax.Array  # log E[exp(k t)]
    psi_gap: jax.Array  # psi - k
    e: jax.Array  # k (1 - A)
    slope: jax.Array  # k A' / A
    rho: jax.Array  # d A / k


# Jitted, so that it is traced once for all functions and their derivatives.
@functools.partial(jax.jit, static_argnums=1)
def _ladder(k: jax.Array, dimension: int) -> _Ladder:
    """All quantities of one order, by Debye's expansion at a higher order.

    At order ``N``, ``steps`` above ``d / 2 - 1``, the uniform asymptotic expansion of
    Bessel functions has converged (DLMF 10.41); what vanishes with ``k`` is factored
    out, so that Stirling's series and Debye's cancel in closed form. The recurrence of
    Bessel functions then leads down to the order that is wanted; it is Gauss's
    continued fraction, run backward from its tail.
    """
    nu = dimension / 2 - 1
    steps, terms = (16, 9) if k.dtype == jnp.float64 else (8, 3)
    n = nu + steps
    s = jnp.hypot(n, k)
    p, delta = n / s, k / (s + n) * k
    of_psi, of_ratio, of_slope = (
        _polynomial(p, n, polynomials[:terms]) for polynomials in _debye(terms)
    )
    shared = -n * jnp.log1p(delta / (2 * n)) - 0.5 * jnp.log1p(delta / n)
    shared = shared + delta / s * of_psi
    psi, psi_gap = shared + delta, shared + n / (s + k) * n - n
    rho = 2 * (n + 1) / (s + n) * (1.0 + of_ratio)
    e = k / (s + n) * (n / (s + k) * n + n - k * of_ratio)
    slope = p - p * (k / s) * (k / s) * of_slope / (1.0 + of_ratio)
    for i in reversed(range(steps)):
        v = nu + i
        q = k / (2 * (v + 1)) * (k * rho / (2 * (v + 2)))
        psi, psi_gap = psi + jnp.log1p(q), psi_gap + jnp.log1p(q)
        rho = 1.0 / (1.0 + q)
        e = rho * (k / (2 * (v + 1))) * (2 * (v + 1) - e)
        slope = rho - q * rho * slope
    return _Ladder(psi, psi_gap, e, slope, rho)


def _polynomial(p: jax.Array, n: float, polynomials: list[Polynomial]) -> jax.Array:
    """``sum_j polynomials[j - 1](p) / n**j``, by Horner's rule in ``p``."""
    degree = max(map(len, polynomials))
    total = jnp.zeros_like(p)
    for power in reversed(range(degree)):
        coefficient = sum(
            float(of[power]) / n**j
            for j, of in enumerate(polynomials, 1)
            if power < len(of)
        )
        total = total * p + coefficient
    return total


@functools.cache
def _debye(terms: int) -> tuple[list[Polynomial], list[Polynomial], list[Polynomial]]:
    r"""Polynomials of the expansion: of :math:`\psi`, of the ratio, its derivative.

    With Debye's polynomials :math:`U = \sum_j u_j(p) N^{-j}` for a Bessel function and
    :math:`V` for its derivative: the terms of :math:`(\log U(p) - \log U(1)) / (1 - p)`
    and of :math:`(V / U - 1) / (1 - p)`. Coefficients are exact, by ascending powers.
    """
    one, minus_square = [Fraction(1)], [Fraction(1), Fraction(0), Fraction(-1)]
    u, v = [one], [one]
    for _ in range(terms):
        last, slope = u[-1], _derivative(u[-1])
        # p**2 (1 - p**2) u'
        spread = [Fraction(0), Fraction(0), *_product(minus_square, slope)]
        mass = _product([Fraction(1), Fraction(0), Fraction(-5)], last)
        integral = [Fraction(0), *(c / (8 * i) for i, c in enumerate(mass, 1))]
        u.append(_sum(_scaled(spread, Fraction(1, 2)), integral))
        shifted = [Fraction(0), *_product(minus_square, last)]
        v.append(
            _sum(
                u[-1], _scaled(shifted, Fraction(-1, 2)), _scaled(spread, Fraction(-1))
            )
        )
    logs, ratios = [[Fraction(0)]], [one]
    for j in range(1, terms + 1):
        # Coefficients of log U, by U (log U)' = U', and of V / U.
        logs.append(
            _sum(
                u[j],
                *(
                    _scaled(_product(logs[i], u[j - i]), Fraction(-i, j))
                    for i in range(1, j)
                ),
            )
        )
        ratios.append(
            _sum(
                v[j],
                *(
                    _scaled(_product(ratios[i], u[j - i]), Fraction(-1))
                    for i in range(j)
                ),
            )
        )
    of_psi = [_over_one_minus_p(x) for x in logs[1:]]
    of_ratio = [_over_one_minus_p(x) for x in ratios[1:]]
    return of_psi, of_ratio, [_derivative(x) for x in of_ratio]


def _over_one_minus_p(x: Polynomial) -> Polynomial:
    """``(x(p) - x(1)) / (1 - p)``."""
    return [-sum(x[i:], Fraction(0)) for i in range(1, len(x))]


def _derivative(x: Polynomial) -> Polynomial:
    return [i * c for i, c in enumerate(x)][1:] or [Fraction(0)]


def _product(x: Polynomial, y: Polynomial) -> Polynomial:
    total = [Fraction(0)] * (len(x) + len(y) - 1)
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            total[i + j] += a * b
    return total


def _scaled(x: Polynomial, factor: Fraction) -> Polynomial:
    return [factor * c for c in x]


def _sum(*polynomials: Polynomial) -> Polynomial:
    return [
        sum(coefficients, Fraction(0))
        for coefficients in itertools.zip_longest(*polynomials, fillvalue=Fraction(0))
    ]
