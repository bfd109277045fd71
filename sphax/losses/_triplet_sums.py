"""Sums over mined triplets, positive by positive, in the memory that the pairs take.

Turn r of a loop takes every anchor with the r-th of its positives, and all of its
negatives at once. A sum of hinges is linear in the distances wherever it has a
derivative, with the number of triplets that a distance is in as its coefficient: the
same turns count them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Rule(NamedTuple):
    """What is fixed when the loss is traced."""

    mining: str
    is_soft: bool


class Sums(NamedTuple):
    """For every anchor, ``[n]`` each."""

    totals: jax.Array  # of the costs of the mined triplets
    counts: jax.Array  # of the mined triplets, no gradient


class _Carry(NamedTuple):
    turn: jax.Array
    positive: jax.Array  # column of the positive whose turn it is, [n]
    totals: jax.Array
    counts: jax.Array
    slopes: jax.Array  # derivatives of the totals with respect to the margin, [n]
    weights: jax.Array  # and to the distances, [n, m]


def cost(rule: Rule, gap: jax.Array) -> jax.Array:
    """Hinge or soft hinge of ``d_ap - d_an + margin``."""
    return jax.nn.softplus(gap) if rule.is_soft else jax.nn.relu(gap)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def triplet_sums(
    rule: Rule,
    distances: jax.Array,
    is_positive: jax.Array,
    is_negative: jax.Array,
    margin: jax.Array,
) -> Sums:
    """Sums over the mined triplets of every anchor."""
    sums = _turns(rule, distances, is_positive, is_negative, margin)
    return Sums(sums.totals, sums.counts)


@triplet_sums.defjvp
def _triplet_sums_jvp(rule, primals, tangents):
    d_distances, _, _, d_margin = tangents
    sums = _turns(rule, *primals)
    change = jnp.sum(sums.weights * d_distances, axis=-1) + sums.slopes * d_margin
    return (
        Sums(sums.totals, sums.counts),
        Sums(change, jnp.zeros_like(sums.counts)),
    )


def _turns(rule, distances, is_positive, is_negative, margin) -> _Carry:
    following, positives = _successors(is_positive)
    # Compared as floating numbers: LLVM of jaxlib 0.10.2 cannot compile, for AVX-512
    # ("Cannot select ... SUBV_BROADCAST_LOAD"), the choice of float64 numbers by a row
    # of eight int32 that equal a column of eight.
    columns = jnp.arange(distances.shape[1], dtype=distances.dtype)[None, :]

    def take_turn(carry: _Carry) -> _Carry:
        near = jnp.take_along_axis(distances, carry.positive[:, None], axis=1)
        has_turn = carry.turn < positives
        gap = near - distances + margin
        mined = _mined(rule, distances, near, gap, is_negative & has_turn[:, None])
        slope = jax.nn.sigmoid(gap) if rule.is_soft else (gap > 0).astype(gap.dtype)
        slopes = jnp.sum(mined * slope, axis=-1)
        is_positive = columns == carry.positive[:, None].astype(columns.dtype)
        of_positive = jnp.where(is_positive, slopes[:, None], 0)
        return _Carry(
            carry.turn + 1,
            following[carry.positive],
            carry.totals + jnp.sum(mined * cost(rule, gap), axis=-1),
            carry.counts + jnp.sum(mined, axis=-1),
            carry.slopes + slopes,
            carry.weights + of_positive - mined * slope,
        )

    zeros = jnp.zeros_like(distances[:, 0])
    start = _Carry(
        jnp.zeros((), jnp.int32),
        following,
        zeros,
        zeros,
        zeros,
        jnp.zeros_like(distances),
    )
    last = jnp.max(positives, initial=0)
    return jax.lax.while_loop(lambda carry: carry.turn < last, take_turn, start)


def _successors(is_positive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next row of the same class, the first after the last, and how many there are.

    Taken again and again, it goes through all positives of a row. A row without one
    follows itself.
    """
    n, m = is_positive.shape
    rows, columns = jnp.arange(n, dtype=jnp.int32), jnp.arange(m, dtype=jnp.int32)
    steps = (columns[None, :] - rows[:, None]) % m
    step = jnp.min(jnp.where(is_positive, steps, m), axis=-1, initial=m)
    return (rows + step) % m, jnp.sum(is_positive, axis=-1, dtype=jnp.int32)


def _mined(rule, distances, near, gap, candidates) -> jax.Array:
    """Share of every negative in the place, or the places, that a pair has."""
    # Negated comparisons, so that NaN is mined: left out, it would train silently.
    is_beyond = ~(distances <= near)
    if rule.mining == "nearest_semi_hard":
        return _nearest(distances, is_beyond, candidates)
    is_within_margin = ~(gap <= 0)
    mined = {
        "all": lambda: candidates,
        "active": lambda: candidates & is_within_margin,
        "hard": lambda: candidates & ~(distances > near),
        "semi_hard": lambda: candidates & is_beyond & is_within_margin,
    }[rule.mining]()
    return mined.astype(distances.dtype)


def _nearest(distances, is_beyond, candidates) -> jax.Array:
    """The nearest candidate beyond, else the farthest of all; ties share the place."""
    beyond = candidates & is_beyond
    nearest = jnp.min(distances, axis=-1, where=beyond, initial=jnp.inf)
    farthest = jnp.max(distances, axis=-1, where=candidates, initial=-jnp.inf)
    chosen = jnp.where(nearest == jnp.inf, farthest, nearest)[:, None]
    differs = (distances < chosen) | (distances > chosen)
    mined = (candidates & ~differs).astype(distances.dtype)
    return mined / jnp.maximum(jnp.sum(mined, axis=-1, keepdims=True), 1.0)
