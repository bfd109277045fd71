"""Squared gap between two directions, or one and the other's mirror image, accurate."""

from functools import partial

import jax
import jax.numpy as jnp

# Features whose squares are summed before the sum meets memory.
_FEATURES = 8


def squared_gaps(
    cosines: jax.Array, u: jax.Array, v: jax.Array, is_pair: jax.Array
) -> jax.Array:
    r"""The smaller one of :math:`\|u - v\|^2` and :math:`\|u + v\|^2`, ``[n, m]``.

    From the cosine it is :math:`2 - 2 |c|`, which has lost its digits near 0. If any
    pair is so near that a third of them may be gone, near pairs are taken again from
    the vectors. The derivative is always that of the cosine, in which it is exact.

    Args:
        cosines: Products of the unit vectors, ``[n, m]``.
        u: ``[n, d]``.
        v: ``[m, d]``.
        is_pair: Which entries have to be accurate, ``[n, m]``.
    """
    sign = jnp.where(cosines < 0.0, -1.0, 1.0).astype(cosines.dtype)
    gaps = 2.0 - 2.0 * sign * cosines
    fixed = jax.lax.stop_gradient(gaps)
    accurate = _accurate(fixed, sign, *jax.lax.stop_gradient((u, v)), is_pair)
    return accurate + (gaps - fixed)


def _accurate(gaps, sign, u, v, is_pair):
    is_near = is_pair & (gaps < float(jnp.finfo(gaps.dtype).eps) ** (1 / 3))

    def take_again(state):
        gaps, to_do = state
        # Summed onto the state: what does not depend on it, the compiler would move out
        # of the loop, and always do.
        again = _add_squares(jnp.where(is_near, 0.0, gaps), sign, u, v)
        return jnp.where(is_near, again, gaps), to_do & ~to_do

    # A loop of one turn or none. Under `vmap`, a `cond` would do both of its branches.
    gaps, _ = jax.lax.while_loop(
        lambda state: state[1], take_again, (gaps, jnp.any(jnp.any(is_near, axis=0)))
    )
    return gaps


def _add_squares(start, sign, u, v):
    """``start`` and the squares of ``v - sign u``, a few features at a time."""
    padding = (0, 0), (0, -u.shape[1] % _FEATURES)
    u, v = jnp.pad(u, padding), jnp.pad(v, padding)

    def add(total, first):
        few = partial(
            jax.lax.dynamic_slice_in_dim,
            start_index=first,
            slice_size=_FEATURES,
            axis=1,
        )
        for of_u, of_v in zip(few(u).T, few(v).T, strict=True):
            total = total + jnp.square(of_v[None, :] - sign * of_u[:, None])
        return total, None

    firsts = jnp.arange(0, u.shape[1], _FEATURES, dtype=jnp.int32)
    return jax.lax.scan(add, start, firsts)[0]
