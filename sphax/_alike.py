"""One function of many arrays, traced and compiled once for all that are alike."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from sphax._compiled import compiled


def map_alike(
    function: Callable[..., Any],
    entries: Mapping[Any, Any],
    fixed: Mapping[Any, Hashable],
    *shared: Any,
) -> dict[Any, Any]:
    """``function(fixed, entry, *shared)`` of every entry, by name.

    A network has a few shapes of kernels, each of them many times. Entries with the
    same shapes, dtypes, shardings and ``fixed`` are calls of one compiled function: JAX
    traces it once for all of them, inside an outer ``jit`` as well, where XLA compiles
    each of its operations once. Nothing is copied for it: a stack of such entries, in a
    loop or under ``vmap``, took longer to compile (jaxlib 0.10, CPU), and as much
    memory again.

    Args:
        function: A function of a module, as all that it calls :func:`compiled`.
        entries: Pytrees of arrays.
        fixed: What is static about each of them.
        shared: Pytrees of arrays, the same for all entries.

    Returns:
        The results, by name, in the order of the entries.
    """
    return {
        name: _apply(entry, shared, function=function, fixed=fixed[name])
        for name, entry in entries.items()
    }


@compiled("function", "fixed")
def _apply(entry, shared, *, function, fixed):
    return function(fixed, entry, *shared)
