"""Which leaves of params a transform treats: those with neurons, under a mask."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sphax._paths import listed
from sphax.neurons import Axes, Neurons, find

# As optax takes it: a pytree of booleans, or a function of params to one.
Mask = Callable[[optax.Params], Any] | Any
# What optax puts in the place of leaves that a mask has left out.
MASKED = (optax.MaskedNode,)


def find_neurons(
    params: optax.Params,
    neurons: Neurons,
    *,
    at_least: int = 1,
    at_init: Iterable[str] | None = None,
) -> dict[str, Axes]:
    """The leaves that hold neurons, by path; raises as `sphax.neurons.find` does.

    States have arrays only, and so `update` finds again what `init` found: it raises
    unless these are the same leaves, if their paths are given.
    """
    if _stands_for_any(params):
        # Then optax wants a leaf for each part of the state not shaped like params.
        return jnp.zeros([])  # pyright: ignore[reportReturnType]
    if params is None:
        raise ValueError(
            "params must be given: update(updates, state, params); got no leaf."
        )
    found = find(params, neurons, at_least=at_least, masked=MASKED)
    if at_init is not None and (others := found.keys() ^ set(at_init)):
        raise ValueError(
            "params must have the neurons that init found, got none for, or others at"
            f" {listed(others)}."
        )
    return found


def transform(
    init: Callable[..., Any], update: Callable[..., Any], mask: Mask | None
) -> optax.GradientTransformationExtraArgs:
    """The two functions as a transform, of the leaves of the mask if there is one."""
    whole = optax.GradientTransformationExtraArgs(init, update)
    return whole if mask is None else optax.masked(whole, mask)


def _stands_for_any(params: Any) -> bool:
    """Whether it is the node with which `optax.tree.map_params` initialises."""
    is_container = params is None or isinstance(params, (Mapping, Sequence))
    structure = jax.tree.structure(params)
    return not is_container and structure.num_leaves == 0 and structure.num_nodes == 1
