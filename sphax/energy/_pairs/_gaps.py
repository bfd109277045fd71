"""Squared distances of directions that are nearly equal or nearly opposite."""

from functools import partial

import jax
import jax.numpy as jnp

# Features whose squares are summed in one pass over the pairs.
_FEATURES = 8


def squared_gaps(
    cosines: jax.Array, u: jax.Array, v: jax.Array, is_pair: jax.Array
) -> jax.Array:
    r"""The smaller one of :math:`\|u - v\|^2` and :math:`\|u + v\|^2`, ``[n, m]``.

    The cosine gives :math:`2 - 2 |c|`, which has few digits left near 0. If a pair is
    so close that a third of them may be lost, the gaps of close pairs are computed
    again, from the vectors. The derivative is always that in the cosine, where it is
    exact.

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
    """The gaps, those of close pairs from the vectors."""
    is_near = is_pair & (gaps < float(jnp.finfo(gaps.dtype).eps) ** (1 / 3))

    def recompute(state):
        gaps, to_do = state
        # Summed onto the state: what does not depend on it, the compiler would move out
        # of the loop, and compute always.
        accurate = _add_squares(jnp.where(is_near, 0.0, gaps), sign, u, v)
        return jnp.where(is_near, accurate, gaps), to_do & ~to_do

    # A loop of one iteration or none: under `vmap`, a `cond` computes both branches.
    gaps, _ = jax.lax.while_loop(
        lambda state: state[1], recompute, (gaps, jnp.any(jnp.any(is_near, axis=0)))
    )
    return gaps


def _add_squares(start, sign, u, v):
    """``start`` plus the squared lengths of ``v - sign u``."""
    padding = (0, 0), (0, -u.shape[1] % _FEATURES)
    u, v = jnp.pad(u, padding), jnp.pad(v, padding)

    def add(total, first):
        few = partial(
            jax.lax.dynamic_slice_in_dim,
            start_index=first,
            slice_size=_FEATURES,
            axis=1,
        )
        for u_column, v_column in zip(few(u).T, few(v).T, strict=True):
            total = total + jnp.square(v_column[None, :] - sign * u_column[:, None])
        return total, None

    firsts = jnp.arange(0, u.shape[1], _FEATURES, dtype=jnp.int32)
    return jax.lax.scan(add, start, firsts)[0]
