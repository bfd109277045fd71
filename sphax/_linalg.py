"""Products, norms, inverses and factorizations of matrices ``[..., m, n]``.

Batches of matrices need care on a CPU: see :func:`unbatched_on_cpu`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import as_floating

# Up to this size, many matrices are inverted together on a CPU, element by element
# over all of them: LAPACK, one matrix at a time, is slower there, or no faster.
_LARGEST_TOGETHER = 32


def as_square(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless it is floating, ``[..., n, n]``."""
    array = as_floating(name, x)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"{name} must be [..., n, n], got shape {array.shape}.")
    return array


def as_tall(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless it is floating, ``[..., m, n]`` with m >= n."""
    array = as_floating(name, x)
    if array.ndim < 2 or array.shape[-1] > array.shape[-2]:
        raise ValueError(
            f"{name} must be [..., m, n] with m >= n, since its columns become"
            f" orthonormal, got shape {array.shape}; transpose a wide one."
        )
    return array


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Matrix product at the precision of its dtype, on accelerators too."""
    return jnp.matmul(x, y, precision="highest")


def identity_like(x: jax.Array) -> jax.Array:
    """The identity in the shape and dtype of square matrices."""
    return jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


def symmetric_part(x: jax.Array) -> jax.Array:
    """``(x + x') / 2``."""
    return (x + x.mT) / 2.0


def skew_of_upper(a: jax.Array) -> jax.Array:
    """The skew-symmetric matrix with the strictly upper triangle of ``a``."""
    upper = jnp.triu(a, 1)
    return upper - upper.mT


def entries(x: jax.Array) -> jax.Array:
    """All entries of each matrix as one vector, whose length is the Frobenius norm."""
    return x.reshape(*x.shape[:-2], -1)


def largest_entry(x: jax.Array) -> jax.Array:
    """Largest magnitude in each matrix, 1 for zero, ``[..., 1, 1]``; a constant."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    return jax.lax.stop_gradient(jnp.where(largest == 0.0, 1.0, largest))


def factor_within(x: jax.Array, limit: float) -> jax.Array:
    """Factor that brings the largest row sum of magnitudes down to ``limit``.

    ``[..., 1, 1]``, 1 where that sum is smaller; a constant. The sum bounds the
    singular values of skew-symmetric matrices.
    """
    size = largest_entry(x)
    # Entries are divided by the largest first, so that no sum overflows.
    sums = jnp.sum(jnp.abs(x) / size, axis=-1, keepdims=True)
    bound = jnp.max(sums, axis=-2, keepdims=True)
    within = limit / jnp.where(bound == 0.0, 1.0, bound)
    return jax.lax.stop_gradient(jnp.minimum(1.0, within / size))


def newton_schulz_step(x: jax.Array) -> jax.Array:
    """``x (3 I - x' x) / 2``, closer to orthonormal columns if these are nearly so."""
    gram = product(x.mT, x)
    # Written as a correction of x, so that rounding acts on the correction only.
    return x + product(x, (identity_like(gram) - gram) / 2.0)


def polish_straight_through(q: jax.Array, steps: int = 1) -> jax.Array:
    """``q`` after Newton-Schulz steps, with the derivative of ``q`` itself.

    The steps remove rounding errors only, which have no derivative.
    """
    fixed = jax.lax.stop_gradient(q)
    better = fixed
    for _ in range(steps):
        better = newton_schulz_step(better)
    return q + (better - fixed)


def _over_batches(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of matrices ``[..., m, n]``, to which ``vmap`` adds a leading axis.

    It has no derivative: it is for use inside derivative rules.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size, is_batched, *matrices):
        matrices = [
            x if has_axis else jnp.broadcast_to(x, (axis_size, *x.shape))
            for x, has_axis in zip(matrices, is_batched, strict=True)
        ]
        results = mapped(*matrices)
        return results, jax.tree.map(lambda _: True, results)

    return mapped


def unbatched_on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of matrices ``[..., m, n]``, called with one at a time on a CPU.

    For functions that call LAPACK. In jaxlib 0.10, LAPACK kernels hand the matrices of
    a batch to XLA's threads (``ParallelBatchMap`` in jaxlib/cpu/lapack_kernels.cc, the
    path of https://github.com/jax-ml/jax/issues/39292), and wait for them on one of
    these threads. A program that runs as many such calls side by side as there are
    threads, as one with a few layers does, then waits forever. jaxlib 0.11 goes through
    a batch on one thread.
    """

    def apply(*matrices):
        batch = matrices[0].shape[:-2]
        if math.prod(batch) == 1:
            # No loop: it would cost more to compile.
            results = function(*(x.reshape(x.shape[-2:]) for x in matrices))
            return jax.tree.map(lambda x: x.reshape(*batch, *x.shape), results)

        def loop(*matrices):
            flat = tuple(x.reshape(-1, *x.shape[-2:]) for x in matrices)
            results = jax.lax.map(lambda each: function(*each), flat)
            return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), results)

        return jax.lax.platform_dependent(*matrices, cpu=loop, default=function)

    return _over_batches(apply)


qr = unbatched_on_cpu(lambda x: tuple(jnp.linalg.qr(x)))
cholesky = unbatched_on_cpu(jnp.linalg.cholesky)
sign_of_determinant = unbatched_on_cpu(lambda x: jnp.linalg.slogdet(x)[0])
_lapack_inverse = unbatched_on_cpu(jnp.linalg.inv)


@unbatched_on_cpu
def eigh(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues in ascending order, and eigenvectors, of symmetric matrices."""
    vectors, values = jax.lax.linalg.eigh(x, symmetrize_input=False)
    return values, vectors


@unbatched_on_cpu
def _triangular_inverse(x: jax.Array) -> jax.Array:
    identity = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return jax.lax.linalg.triangular_solve(x, identity, left_side=True)


@_over_batches
def _inverse(x: jax.Array) -> jax.Array:
    if x.ndim == 2 or x.shape[-1] > _LARGEST_TOGETHER:
        return _lapack_inverse(x)
    return jax.lax.platform_dependent(x, cpu=_eliminate, default=jnp.linalg.inv)


@jax.custom_jvp
def invert(x: jax.Array) -> jax.Array:
    """Inverses of square matrices ``[..., n, n]``; not finite for a singular one."""
    return _inverse(x)


@jax.custom_jvp
def invert_triangular(x: jax.Array) -> jax.Array:
    """Inverses of upper triangular matrices ``[..., n, n]``."""
    return _triangular_inverse(x)


def _inverse_jvp(function):
    def rule(primals, tangents):
        (x,), (dx,) = primals, tangents
        y = function(x)
        return y, -product(y, product(dx, y))

    return rule


invert.defjvp(_inverse_jvp(invert))
invert_triangular.defjvp(_inverse_jvp(invert_triangular))


def _eliminate(x: jax.Array) -> jax.Array:
    """Inverses by Gauss-Jordan elimination in place, with pivots from the column."""
    n, batch = x.shape[-1], x.shape[:-2]
    # Matrices go on the last axis, along which a CPU vectorizes.
    a = x.reshape(-1, n, n).transpose(1, 2, 0)
    numbers = jnp.arange(n, dtype=jnp.int32)[:, None]

    def eliminate(k, carry):
        a, order = carry
        column = a[:, k]
        # Rows stay in place; no row is a pivot twice.
        pivot = jnp.argmax(jnp.where(order < n, -1.0, jnp.abs(column)), axis=0)
        pivot = pivot.astype(jnp.int32)[None]
        is_pivot, is_here = numbers == pivot, numbers == k
        row = jnp.take_along_axis(a, pivot[:, None], axis=0)[0]
        row = jnp.where(is_here, 1.0, row) / row[k][None]
        # Column k becomes that of the inverse.
        rest = jnp.where(is_here[None], 0.0, a) - column[:, None] * row[None]
        return jnp.where(is_pivot[:, None], row[None], rest), jnp.where(
            is_pivot, k, order
        )

    order = jnp.full_like(a[:, 0], n, jnp.int32)
    a, order = jax.lax.fori_loop(0, n, eliminate, (a, order))
    # Row p, pivot of column k, holds row k; column k holds column p.
    pivots = jnp.argsort(order, axis=0)
    a = jnp.take_along_axis(a, pivots[:, None], axis=0)
    a = jnp.take_along_axis(a, order[None], axis=1)
    return a.transpose(2, 0, 1).reshape(*batch, n, n)
