"""Mean of the energies of pairs, differentiable: one sweep gives value and gradient."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from sphax._masking import total_pair_weight, zero_masked
from sphax._numerics import divide, dot, widen
from sphax.energy._pair_energies import Kind, pair_energies
from sphax.energy._tiles import (
    Rows,
    Side,
    from_blocks,
    into_blocks,
    map_blocks,
    sum_between,
    sum_within,
)
from sphax.sphere import direction


class Form(NamedTuple):
    """What is fixed when the mean is traced."""

    kind: Kind
    power: float | None  # None if it is an array
    block_size: int


class Set(NamedTuple):
    """Vectors that make pairs; ``[n, d]``, ``[n]`` and ``[n]``."""

    vectors: jax.Array
    weights: jax.Array
    ids: jax.Array  # vectors of the same number are no pair


class Gradients(NamedTuple):
    """Of a mean, in what it depends on; ``Set`` without numbers for each set."""

    power: Any
    sets: tuple[tuple[jax.Array, jax.Array], ...]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def pair_mean(form: Form, power: jax.Array | None, sets: tuple[Set, ...]) -> jax.Array:
    """Over the ordered pairs of one set, or the pairs of two; 0 if there are none."""
    return pair_mean_and_gradients(form, power, sets)[0]


@partial(pair_mean.defjvp, symbolic_zeros=True)
def _pair_mean_jvp(form, primals, tangents):
    value, gradients = pair_mean_and_gradients(form, *primals)
    d_power, d_sets = tangents
    factors = [(gradients.power, d_power)]
    for of_set, d_set in zip(gradients.sets, d_sets, strict=True):
        factors += zip(of_set, (d_set.vectors, d_set.weights), strict=True)
    change = jnp.zeros_like(value)
    for gradient, tangent in factors:
        # Of what is not differentiated, the sweep then leaves the gradient out.
        if tangent is not None and not isinstance(tangent, SymbolicZero):
            change += jnp.sum(gradient.astype(value.dtype) * tangent)
    return value, change


def pair_mean_and_gradients(
    form: Form, power: jax.Array | None, sets: tuple[Set, ...]
) -> tuple[jax.Array, Gradients]:
    """The mean and its gradients, each in the dtype of what it is the gradient in."""

    def energies(power, u, v, is_pair):
        power = power if form.power is None else form.power
        return pair_energies(form.kind, power, u, v, is_pair)

    blocks = [into_blocks(of_set, form.block_size) for of_set in sets]
    sides = [Side(_to_rows(of.vectors, of.weights), of.ids) for of in blocks]
    sum_tiles = sum_within if len(sets) == 1 else sum_between
    total, gradients = sum_tiles(energies, power, *sides)
    weight, of_weights = jax.value_and_grad(_pair_weight)(
        [of_set.weights for of_set in sets], [of_set.ids for of_set in sets]
    )
    mean = divide(total, weight)
    of_power, *of_rows = jax.tree.map(lambda x: divide(x, weight), gradients)
    of_sets = []
    for of_set, block, rows, of_weight in zip(
        sets, blocks, of_rows, of_weights, strict=True
    ):
        of_weight = into_blocks(divide(mean * of_weight, weight), form.block_size)
        rows = rows._replace(weights=rows.weights - of_weight)
        of_sets.append(from_blocks(_pull_back(block, rows), len(of_set.ids)))
    return mean, Gradients(of_power, tuple(of_sets))


def _to_rows(vectors, weights):
    return Rows(direction(widen(zero_masked(vectors, weights))), weights)


def _pull_back(blocks, of_rows):
    """Gradients in vectors and weights, block by block: nothing is kept for them."""

    def pull_back(args):
        block, of_rows = args
        return jax.vjp(_to_rows, block.vectors, block.weights)[1](of_rows)

    return map_blocks(pull_back, (blocks, of_rows))


def _pair_weight(weights, ids):
    """Sum of the weights of the pairs."""
    if len(weights) == 1:
        return total_pair_weight(weights[0])
    (of_points, of_bank), (own, rows) = weights, ids
    if not len(rows):
        return jnp.zeros_like(jnp.sum(of_points))
    is_row = (own >= 0) & (own < len(rows))
    of_own = jnp.where(is_row, of_bank[jnp.where(is_row, own, 0)], 0.0)
    return dot(of_points, jnp.sum(of_bank) - of_own)
