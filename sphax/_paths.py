"""Paths of the leaves of a pytree, such as ``"head/kernel"``.

They are the same whatever the containers are: nested dicts, an ``nnx.State``, and what
``nnx.Optimizer`` makes of it between `init` and `update`.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any

import jax


def by_path(tree: Any, *as_leaves: type) -> dict[str, Any]:
    """All leaves, by path; objects of the types given are leaves too."""
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: isinstance(x, as_leaves))
    named = {path_of(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(
            "paths must differ, joined by slashes, got two leaves of one path among"
            f" {listed(named)}."
        )
    return named


def path_of(keys: jax.tree_util.KeyPath) -> str:
    """The path, as one string."""
    # The array in an `nnx.Variable`, or in a box with its sharding, is the leaf itself.
    if keys and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def closest(declared: Container[str], name: str) -> str | None:
    """The longest of the paths that lead to a leaf or to a subtree that has it."""
    return next((path for path in _ways_to(name) if path in declared), None)


def check_known(
    declared: Iterable[str],
    leaves: dict[str, Any],
    masked: tuple[type, ...],
    argument: str,
) -> None:
    """Raises unless all paths lead to leaves, or to what a mask has left out."""
    # What a mask has left out is known: declarations may be shared between masks.
    left_out = {name for name, leaf in leaves.items() if isinstance(leaf, masked)}
    known = {path for name in leaves for path in _ways_to(name)}
    for path in declared:
        if path not in known and left_out.isdisjoint(_ways_to(path)):
            raise ValueError(
                f"{argument} must declare leaves of params, got {path}, which is not"
                f" among {listed(leaves)}."
            )


def listed(names: Iterable[str]) -> str:
    """Paths, as errors list them."""
    return ", ".join(sorted(name or "a single leaf" for name in names)) or "no leaf"


def _ways_to(name: str) -> Iterator[str]:
    """The paths of a leaf and of all subtrees that have it, the longest first."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""
