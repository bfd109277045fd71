"""One function of many arrays, traced and compiled once for all that are alike."""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sphax._compiled import compiled

# Arrays that are alike are stacked to go through one loop, and a stack is a copy: of no
# more numbers than these at a time (256 MiB in float32).
_AT_ONCE = 2**26


def map_alike(
    function: Callable[..., Any],
    entries: Mapping[str, Any],
    fixed: Mapping[str, Hashable],
    *shared: Any,
) -> dict[str, Any]:
    """``function(fixed, entry, *shared)`` of every entry, by name.

    A network has a few shapes of kernels, each of them many times. Entries with the
    same shapes, dtypes, shardings and ``fixed`` run one after the other in a loop, the
    body of which is traced and compiled once. A loop and not a batch: under ``vmap``,
    functions that end early, or leave a branch out, would do the work of the slowest.

    Args:
        function: A function of a module, as all that it calls :func:`compiled`.
        entries: Pytrees of arrays.
        fixed: What is static about each of them.
        shared: Pytrees of arrays, the same for all entries.

    Returns:
        The results, by name, in the order of the entries.
    """
    groups: dict[Any, list[str]] = {}
    for name, entry in entries.items():
        leaves, structure = jax.tree.flatten(entry)
        kind = structure, fixed[name], *map(_kind, leaves)
        groups.setdefault(kind, []).append(name)
    results = {}
    for (_, common, *kinds), names in groups.items():
        numbers = sum(math.prod(of_array.shape) for of_array, _ in kinds)
        count = max(1, _AT_ONCE // max(1, numbers))
        for start in range(0, len(names), count):
            some = names[start : start + count]
            of_some = tuple(entries[name] for name in some)
            values = _in_turn(of_some, shared, function=function, fixed=common)
            results.update(zip(some, values, strict=True))
    return {name: results[name] for name in entries}


def _kind(x: jax.typing.ArrayLike) -> tuple[Any, Any]:
    """What arrays in one stack have in common: shape, dtype, and where they lie."""
    is_placed = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return jax.typeof(x), x.sharding if is_placed else None


@compiled("function", "fixed")
def _in_turn(entries, shared, *, function, fixed):
    """The results for entries that are alike, as a tuple."""
    if len(entries) == 1:
        return (function(fixed, entries[0], *shared),)
    stack = jax.tree.map(lambda *arrays: jnp.stack(arrays), *entries)
    results = jax.lax.map(lambda entry: function(fixed, entry, *shared), stack)
    return tuple(
        jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(entries))
    )
