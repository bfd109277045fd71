"""Functions that compile once, for many calls that are alike and on any mesh."""

import functools
import inspect
import itertools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[F], F]:
    """Decorates a function of a module that works on arrays of any mesh.

    The function is jitted, since a loop that is traced outside of ``jit`` compiles
    again in every call: its body is another function each time.

    The axes of a mesh that are explicit, as :func:`jax.make_mesh` makes them by
    default, are automatic inside the function: where an axis is explicit, JAX refuses
    gathers and products whose result could be sharded in several ways. A result is
    sharded like the argument with which it has most leading axes in common (the first
    of several), along these axes: gradients like what they are the gradients of, losses
    ``[n]`` like embeddings ``[n, features]``.

    Args:
        static: Names of the arguments that are hashable and fixed at compile time; all
            others are pytrees of arrays.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        # An argument of which only the shape is used still says which devices to use.
        @functools.partial(jax.jit, static_argnames=static, keep_unused=True)
        @functools.wraps(function)
        def on_any_mesh(*args, **kwargs):
            given = signature.bind(*args, **kwargs).arguments
            fixed = {name: given.pop(name) for name in static if name in given}
            return _with_automatic_axes(lambda given: function(**given, **fixed), given)

        return on_any_mesh  # pyright: ignore[reportReturnType]

    return decorate


def _with_automatic_axes(function: Callable[[Any], Any], given: Any) -> Any:
    """``function(given)``, with the explicit axes of the mesh made automatic."""
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
    """How a result is sharded, by the arguments; see :func:`compiled`."""

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
