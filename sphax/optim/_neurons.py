"""Which leaves of params a transform treats: those with neurons, under a mask."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_number, shown
from sphax._paths import by_path, listed
from sphax.neurons import Axes, Neurons, find, replace

# As optax takes it: a pytree of booleans, or a function of params to one.
Mask = Callable[[optax.Params], Any] | Any
# What optax puts in the place of leaves that a mask has left out.
MASKED = (optax.MaskedNode,)


def find_neurons(
    params: optax.Params | None,
    neurons: Neurons,
    *,
    at_least: int = 1,
    at_init: Iterable[str] | None = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> dict[str, Axes]:
    """The leaves that hold neurons, by path; raises as `sphax.neurons.find` does.

    States have arrays only, and so `update` finds again what `init` found: it raises
    unless these are the same leaves, if their paths are given.

    With a mask, it finds the leaves for which this is true. With ``allow_empty`` there
    may be no neurons at all.
    """
    if _stands_for_any(params):
        # Then optax wants a leaf for each part of the state not shaped like params.
        return jnp.zeros([])  # pyright: ignore[reportReturnType]
    if params is None:
        raise ValueError(
            "params must be given: update(updates, state, params); got no leaf."
        )
    if mask is not None:
        params = _masked(params, mask)
    found = find(
        params, neurons, at_least=at_least, masked=MASKED, allow_empty=allow_empty
    )
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
    if mask is None:
        return whole
    # A pytree may be callable, as Equinox modules are: optax would call it.
    is_function = callable(mask) and jax.tree_util.all_leaves([mask])
    return optax.masked(whole, mask if is_function else lambda params: mask)


def check_period(every: jax.typing.ArrayLike) -> None:
    """Raises unless the period, if it is a number, is a number of steps."""
    check_number("every", every)
    if isinstance(every, (int, float)) and not (every >= 1 and every == int(every)):
        raise ValueError(f"every must be a whole number, 1 or more, got {every}.")


def check_optimizer(name: str, value: Any) -> None:
    """Raises unless ``value`` is what transforms of optax are."""
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be an optimizer, such as optax.sgd(0.1), got {shown(value)}."
        )


def others_of(tree: Any, found: Iterable[str]) -> Any:
    """The pytree with all leaves found masked: what another optimizer moves."""
    if _stands_for_any(tree):
        return tree
    return replace(tree, dict.fromkeys(found, optax.MaskedNode()))


def update_all(
    updates: Any,
    params: Any,
    moves: Mapping[str, jax.Array],
    others: optax.GradientTransformation,
    state: optax.OptState,
    **extra_args: Any,
) -> tuple[Any, optax.OptState]:
    """The moves of the leaves found, by path, and the updates of all other leaves."""
    others = optax.with_extra_args_support(others)
    rest, state = others.update(
        others_of(updates, moves), state, others_of(params, moves), **extra_args
    )
    return replace(updates, {**by_path(rest), **moves}), state


def _masked(params: Any, mask: Mask) -> Any:
    """``params`` without the leaves for which the mask is false."""

    def choose(is_chosen, subtree):
        return subtree if is_chosen else jax.tree.map(lambda _: MASKED[0](), subtree)

    return jax.tree.map(choose, mask(params) if callable(mask) else mask, params)


def _stands_for_any(params: Any) -> bool:
    """Whether it is the node with which `optax.tree.map_params` initializes."""
    is_container = params is None or isinstance(params, (Mapping, Sequence))
    structure = jax.tree.structure(params)
    return not is_container and structure.num_leaves == 0 and structure.num_nodes == 1
