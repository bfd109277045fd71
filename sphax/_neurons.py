"""Which leaves of a params pytree hold neurons.

A leaf goes by its path, ``"head/kernel"``, whatever the containers are: nested dicts,
an ``nnx.State``, and what ``nnx.Optimizer`` makes of it between `init` and `update`
then give the same names.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._dimensions import Axes, NeuronDimensions, axes_of

# A declaration: a pytree with `NeuronDimensions`, or a function of params to one.
Neurons = NeuronDimensions | Callable[[Any], Any] | Any
Found = dict[str, Axes]


def find_neurons(
    params: Any, neurons: Neurons, *, at_least: int = 1, masked: tuple[type, ...] = ()
) -> Found:
    """The leaves that hold neurons, by path.

    Args:
        params: A pytree.
        neurons: Axes of leaves, by path; see `NeuronDimensions`.
        at_least: Leaves whose sets of neurons have fewer of them, or whose neurons have
            fewer dimensions, are left out.
        masked: Types that stand for leaves that a mask has left out.

    Raises:
        TypeError: If ``neurons`` holds anything but `NeuronDimensions`.
        ValueError: If it declares what params lacks, or axes that a leaf lacks, or if
            no leaf is found.
    """
    leaves = by_path(params, *masked)
    declared = _declared(neurons(params) if callable(neurons) else neurons)
    check_known(declared, leaves, masked, "neurons")
    found = {}
    # In the order that jit gives a dict: leaves have the same numbers in all steps.
    for name in sorted(leaves):
        leaf = leaves[name]
        if isinstance(leaf, masked):
            continue
        dimensions = _dimensions_of(name, leaf, declared)
        if dimensions is not None:
            axes = axes_of(dimensions, jnp.shape(leaf), name)
            if min(axes.sizes(jnp.shape(leaf))[1:]) >= at_least:
                found[name] = axes
    if not found:
        least = f", {at_least} neurons of {at_least} dimensions or more"
        raise ValueError(
            "params must have neurons: leaves named kernel, of rank two or above, or"
            " declared, such as neurons={'head/prototypes': NeuronDimensions(index_axis"
            f"=0)}}{least if at_least > 1 else ''}; got {listed(leaves)}."
        )
    return found


def select(tree: Any, found: Found) -> dict[str, jax.Array]:
    """The leaves found, by path; raises if params were not given, or are others."""
    if tree is None:
        raise ValueError("params must be given: update(updates, state, params).")
    leaves = by_path(tree)
    if missing := found.keys() - leaves.keys():
        raise ValueError(
            "updates and params must have the leaves that init found, got none for"
            f" {listed(missing)}."
        )
    return {name: jnp.asarray(leaves[name]) for name in found}


def replace(tree: Any, leaves: dict[str, jax.Array]) -> Any:
    """``tree`` with the leaves given, by path, in the place of its own."""
    return jax.tree.map_with_path(
        lambda path, leaf: leaves.get(_name(path), leaf), tree
    )


def by_path(tree: Any, *as_leaves: type) -> dict[str, Any]:
    """All leaves, by path; those of the types given are leaves too."""
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: isinstance(x, as_leaves))
    named = {_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(
            "paths must differ, joined by slashes, got two leaves of one path among"
            f" {listed(named)}."
        )
    return named


def closest(declared: Iterable[str], name: str) -> str | None:
    """The longest of the paths that lead to a leaf or to a subtree that has it."""
    covering = [path for path in declared if _covers(path, name)]
    return max(covering, key=len, default=None)


def check_known(
    declared: Iterable[str],
    leaves: dict[str, Any],
    masked: tuple[type, ...],
    argument: str,
) -> None:
    """Raises unless all paths lead to leaves, or to what a mask has left out."""
    # What a mask has left out is known: declarations may be shared between masks.
    left_out = [name for name, leaf in leaves.items() if isinstance(leaf, masked)]
    for path in declared:
        is_known = any(_covers(path, name) for name in leaves)
        if not is_known and not any(_covers(name, path) for name in left_out):
            raise ValueError(
                f"{argument} must declare leaves of params, got {path}, which is none"
                f" of {listed(leaves)}."
            )


def listed(names: Iterable[str]) -> str:
    """Paths, as errors list them."""
    return ", ".join(sorted(name or "a single leaf" for name in names)) or "no leaf"


def _dimensions_of(name: str, leaf: Any, declared: dict[str, NeuronDimensions]):
    path = closest(declared, name)
    if path is not None:
        return declared[path]
    is_kernel = name.rpartition("/")[2] == "kernel" and jnp.ndim(leaf) >= 2
    return NeuronDimensions() if is_kernel else None


def _declared(neurons: Any) -> dict[str, NeuronDimensions]:
    declared = by_path(neurons, NeuronDimensions)
    for name, dimensions in declared.items():
        if not isinstance(dimensions, NeuronDimensions):
            raise TypeError(
                "neurons must hold NeuronDimensions, and nothing or None elsewhere, got"
                f" {type(dimensions).__name__} at {listed([name])}."
            )
    return declared


def _covers(path: str, name: str) -> bool:
    """Whether a path leads to a leaf, or to a subtree that has it."""
    return not path or name == path or name.startswith(path + "/")


def _name(path: jax.tree_util.KeyPath) -> str:
    # The array in an `nnx.Variable`, or in a box with its sharding, is the leaf itself.
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")
