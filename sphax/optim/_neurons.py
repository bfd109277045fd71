"""Which leaves of a params pytree hold neurons.

A leaf goes by its path, ``"head/kernel"``, whatever the containers are: nested dicts,
an ``nnx.State``, and what ``nnx.Optimizer`` makes of it between `init` and `update`
then give the same names.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sphax.optim._dimensions import Axes, NeuronDimensions, axes_of

# A declaration: a pytree with `NeuronDimensions`, or a function of params to one.
Neurons = NeuronDimensions | Callable[[optax.Params], Any] | Any
Found = dict[str, Axes]
# As optax takes it: a pytree of booleans, or a function of params to one.
Mask = Callable[[optax.Params], Any] | Any


def find_neurons(params: optax.Params, neurons: Neurons) -> Found:
    """The leaves that hold neurons, by path.

    Raises:
        TypeError: If ``neurons`` holds anything but `NeuronDimensions`.
        ValueError: If it declares what params lacks, or axes that a leaf lacks, or if
            no leaf is found.
    """
    if _stands_for_any(params):
        # Then optax wants a leaf for each part of the state not shaped like params.
        return jnp.zeros([])  # pyright: ignore[reportReturnType]
    leaves = _by_path(params, optax.MaskedNode)
    declared = _declared(neurons(params) if callable(neurons) else neurons)
    _check_known(declared, leaves)
    found = {}
    # In the order that jit gives a dict: leaves have the same numbers in all steps.
    for name in sorted(leaves):
        leaf = leaves[name]
        if isinstance(leaf, optax.MaskedNode):
            continue
        dimensions = _dimensions_of(name, leaf, declared)
        if dimensions is not None:
            found[name] = axes_of(dimensions, jnp.shape(leaf), name)
    if not found:
        raise ValueError(
            "params must have neurons: leaves named kernel, of rank two or above, or"
            " declared, such as neurons={'head/prototypes': NeuronDimensions(index_axis"
            f"=0)}}; got {_listed(leaves)}."
        )
    return found


def select(tree: Any, found: Found) -> dict[str, jax.Array]:
    """The leaves found, by path; raises if params were not given, or are others."""
    if tree is None:
        raise ValueError("params must be given: update(updates, state, params).")
    leaves = _by_path(tree)
    if missing := found.keys() - leaves.keys():
        raise ValueError(
            "updates and params must have the leaves that init found, got none for"
            f" {_listed(missing)}."
        )
    return {name: jnp.asarray(leaves[name]) for name in found}


def replace(tree: Any, leaves: dict[str, jax.Array]) -> Any:
    """``tree`` with the leaves given, by path, in the place of its own."""
    return jax.tree.map_with_path(
        lambda path, leaf: leaves.get(_name(path), leaf), tree
    )


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


def _dimensions_of(name: str, leaf: Any, declared: dict[str, NeuronDimensions]):
    covering = [path for path in declared if _covers(path, name)]
    if covering:
        return declared[max(covering, key=len)]  # the one closest to the leaf
    is_kernel = name.rpartition("/")[2] == "kernel" and jnp.ndim(leaf) >= 2
    return NeuronDimensions() if is_kernel else None


def _declared(neurons: Any) -> dict[str, NeuronDimensions]:
    declared = _by_path(neurons, NeuronDimensions)
    for name, dimensions in declared.items():
        if not isinstance(dimensions, NeuronDimensions):
            raise TypeError(
                "neurons must hold NeuronDimensions, and nothing or None elsewhere, got"
                f" {type(dimensions).__name__} at {_listed([name])}."
            )
    return declared


def _check_known(declared: Iterable[str], leaves: dict[str, Any]) -> None:
    # What a mask has left out is known: declarations may be shared between masks.
    masked = [name for name, x in leaves.items() if isinstance(x, optax.MaskedNode)]
    for path in declared:
        is_known = any(_covers(path, name) for name in leaves)
        if not is_known and not any(_covers(name, path) for name in masked):
            raise ValueError(
                f"neurons must declare leaves of params, got {path}, which is none of"
                f" {_listed(leaves)}."
            )


def _covers(path: str, name: str) -> bool:
    """Whether a path leads to a leaf, or to a subtree that has it."""
    return not path or name == path or name.startswith(path + "/")


def _by_path(tree: Any, *as_leaves: type) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: isinstance(x, as_leaves))
    named = {_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(
            "paths must differ, joined by slashes, got two leaves of one path among"
            f" {_listed(named)}."
        )
    return named


def _name(path: jax.tree_util.KeyPath) -> str:
    # The array in an `nnx.Variable`, or in a box with its sharding, is the leaf itself.
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name or "a single leaf" for name in names)) or "no leaf"
