"""Factorisations and inverses of many matrices, which on a CPU need care."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Up to this size, many matrices are inverted together on a CPU, element by element
# over all of them: LAPACK, one matrix at a time, is slower there, or no faster.
_LARGEST_TOGETHER = 32


def _over_batches(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of matrices ``[..., m, n]``, to which ``vmap`` adds a leading axis.

    Not to be differentiated: for use inside of derivative rules.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size, is_batched, *matrices):
        matrices = [
            x if is_own else jnp.broadcast_to(x, (axis_size, *x.shape))
            for x, is_own in zip(matrices, is_batched, strict=True)
        ]
        results = mapped(*matrices)
        return results, jax.tree.map(lambda _: True, results)

    return mapped


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of matrices ``[..., m, n]``, which on a CPU is given one at a time.

    For what calls LAPACK. In jaxlib 0.10, its kernels hand the matrices of a batch to
    XLA's threads (``ParallelBatchMap`` in jaxlib/cpu/lapack_kernels.cc, the path of
    https://github.com/jax-ml/jax/issues/39292), and wait for them on one of these.
    Where a program has as many such calls side by side as there are threads, as with a
    few layers, they wait for each other forever. jaxlib 0.11 goes through a batch on
    one thread.
    """

    def of_any(*matrices):
        batch = matrices[0].shape[:-2]
        if not batch:
            return function(*matrices)

        def loop(*matrices):
            flat = tuple(x.reshape(-1, *x.shape[-2:]) for x in matrices)
            results = jax.lax.map(lambda each: function(*each), flat)
            return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), results)

        return jax.lax.platform_dependent(*matrices, cpu=loop, default=function)

    return _over_batches(of_any)


qr = one_by_one(lambda x: tuple(jnp.linalg.qr(x)))
cholesky = one_by_one(jnp.linalg.cholesky)
sign_of_determinant = one_by_one(lambda x: jnp.linalg.slogdet(x)[0])
_lapack_inverse = one_by_one(jnp.linalg.inv)


@one_by_one
def eigh(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues in ascending order, and vectors, of what is symmetric already."""
    vectors, values = jax.lax.linalg.eigh(x, symmetrize_input=False)
    return values, vectors


@one_by_one
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
        right = jnp.matmul(dx, y, precision="highest")
        return y, -jnp.matmul(y, right, precision="highest")

    return rule


invert.defjvp(_inverse_jvp(invert))
invert_triangular.defjvp(_inverse_jvp(invert_triangular))


def _eliminate(x: jax.Array) -> jax.Array:
    """Inverses by Gauss-Jordan elimination in place, with pivots from the column."""
    n, batch = x.shape[-1], x.shape[:-2]
    # The matrices on the last axis, along which a CPU computes side by side.
    a = x.reshape(-1, n, n).transpose(1, 2, 0)
    numbers = jnp.arange(n, dtype=jnp.int32)[:, None]

    def eliminate(k, carry):
        a, order = carry
        column = a[:, k]
        # Rows stay where they are; those that were a pivot are none again.
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
