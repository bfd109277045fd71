"""Compilation of functions: once for all calls alike, and for arrays on any mesh."""

import functools
import inspect
import itertools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[F], F]:
    """Decorator that jits a module-level function, for arrays on any mesh.

    Without ``jit``, a loop would be compiled again in every call, since its body is a
    new function each time.

    Explicit axes of a mesh, the default of :func:`jax.make_mesh`, become automatic
    inside the function: on explicit axes, JAX refuses gathers and products whose result
    could be sharded in several ways. Each result is sharded along its leading axes like
    the argument that has most leading axes in common with it (the first of several).
    So gradients are sharded like their arguments, and losses ``[n]`` like embeddings
    ``[n, features]``.

    Args:
        static: Names of the arguments that are hashable and fixed at compile time. All
            others are pytrees of arrays.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        # Unused arguments are kept: an argument whose shape alone is used still
        # determines the devices.
        @functools.partial(jax.jit, static_argnames=static, keep_unused=True)
        @functools.wraps(function)
        def on_any_mesh(*args, **kwargs):
            given = signature.bind(*args, **kwargs).arguments
            fixed = {name: given.pop(name) for name in static if name in given}
            return _with_automatic_axes(lambda given: function(**given, **fixed), given)

        return on_any_mesh  # pyright: ignore[reportReturnType]

    return decorate


def _with_automatic_axes(function: Callable[[Any], Any], given: Any) -> Any:
    """``function(given)``, in which the explicit axes of the mesh are automatic."""
    arguments = [jax.typeof(leaf) for leaf in jax.tree.leaves(given)]
    meshes = [argument.sharding.mesh for argument in arguments]
    mesh = next((mesh for mesh in meshes if mesh.explicit_axes), None)
    if mesh is None:
        return function(given)
    as_automatic = functools.partial(
        jax.sharding.auto_axes, function, axes=mesh.explicit_axes
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    results = jax.eval_shape(as_automatic(out_sharding=replicated), given)
    shardings = jax.tree.map(
        lambda result: NamedSharding(mesh, _spec_of(result.shape, arguments)), results
    )
    return as_automatic(out_sharding=shardings)(given)


def _spec_of(shape: tuple[int, ...], arguments: list[Any]) -> PartitionSpec:
    """Sharding of a result of this shape; see :func:`compiled`."""

    def leading_axes_in_common(argument):
        same = (x == y for x, y in zip(shape, argument.shape, strict=False))
        return sum(itertools.takewhile(bool, same))

    closest = max(arguments, key=leading_axes_in_common)
    spec = closest.sharding.spec[: leading_axes_in_common(closest)]
    return PartitionSpec(*spec)


def map_alike(
    function: Callable[..., Any],
    entries: Mapping[Any, Any],
    fixed: Mapping[Any, Hashable],
    *shared: Any,
) -> dict[Any, Any]:
    """Applies ``function(fixed, entry, *shared)`` to every entry, compiled once.

    A network has many kernels of few shapes. All entries with the same shapes, dtypes,
    shardings and ``fixed`` are calls of one compiled function, which JAX traces once,
    also inside an outer ``jit``. Entries are not stacked: a loop or ``vmap`` over a
    stack took longer to compile (jaxlib 0.10, CPU), and doubled the memory.

    Args:
        function: A module-level function.
        entries: Pytrees of arrays, by name.
        fixed: The hashable, static argument of each entry, by name.
        shared: Pytrees of arrays that are the same for all entries.

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
