"""Paths of the leaves of a pytree, such as ``"head/kernel"``.

The path of a leaf does not depend on the containers: nested dicts, an ``nnx.State``,
and what ``nnx.Optimizer`` passes to `init` and `update` all give the same paths.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any

import jax


def by_path(tree: Any, *as_leaves: type) -> dict[str, Any]:
    """All leaves by path; objects of the types ``as_leaves`` are leaves too."""
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: isinstance(x, as_leaves))
    named = {path_of(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(
            "paths must differ, joined by slashes, got two leaves of one path among"
            f" {listed(named)}."
        )
    return named


def path_of(keys: jax.tree_util.KeyPath) -> str:
    """The path as one string."""
    # The array inside an `nnx.Variable`, or inside a box that has its sharding, goes by
    # the path of the variable or box.
    if keys and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def closest(declared: Container[str], name: str) -> str | None:
    """The longest declared path to a leaf, or to a subtree that contains it."""
    return next((path for path in _ways_to(name) if path in declared), None)


def check_known(
    declared: Iterable[str],
    leaves: dict[str, Any],
    masked: tuple[type, ...],
    argument: str,
) -> None:
    """Raises unless every declared path leads to a leaf, masked or not."""
    # Masked leaves count, since several masks may share their declarations.
    left_out = {name for name, leaf in leaves.items() if isinstance(leaf, masked)}
    known = {path for name in leaves for path in _ways_to(name)}
    for path in declared:
        if path not in known and left_out.isdisjoint(_ways_to(path)):
            raise ValueError(
                f"{argument} must declare leaves of params, got {path}, which is not"
                f" among {listed(leaves)}."
            )


def listed(names: Iterable[str]) -> str:
    """A list of paths for an error message."""
    return ", ".join(sorted(name or "a single leaf" for name in names)) or "no leaf"


def _ways_to(name: str) -> Iterator[str]:
    """The paths of a leaf and of all subtrees that contain it, longest first."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""
