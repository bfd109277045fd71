"""Public functions on sharded arrays: what they return on one device, sharded alike."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.calls import CALLS
from tests.test_eager_calls import gradients

PURE = [name for name, call in CALLS.items() if not call.is_host]
# The first row of each function.
FIRST = list({name.partition("[")[0]: name for name in reversed(PURE)}.values())[::-1]


def layouts(name: str) -> list[tuple[jax.sharding.Mesh, dict[str, str]]]:
    """Meshes, and the axis of the mesh on which each named axis lies.

    Every row is on a 4 x 2 mesh of explicit axes. The first row of every third function
    is on one more: each of its axes alone on eight devices, or the 4 x 2 mesh with
    automatic axes, in turn. Explicit axes are made automatic in one place that all
    functions share, so that a layout at fault shows in some of them.
    """
    tuples: list[Any] = jax.tree.leaves(CALLS[name].axes, is_leaf=is_axes)
    names = dict.fromkeys(axis for axes in tuples for axis in axes if axis is not None)
    ordered = [axis for axis in names if axis != "features"] + ["features"]
    both: dict[str, str] = dict(zip(ordered, ("a", "b"), strict=False))
    automatic = (AxisType.Auto, AxisType.Auto)
    others = [
        *((jax.make_mesh((8,), ("d",)), {axis: "d"}) for axis in ordered[:-1]),
        (jax.make_mesh((4, 2), ("a", "b"), automatic), both),
    ]
    chosen = [(jax.make_mesh((4, 2), ("a", "b")), both)]
    if name in FIRST[::3]:
        chosen.append(others[FIRST.index(name) // 3 % len(others)])
    return chosen


def is_axes(x):
    return isinstance(x, tuple) and all(n is None or isinstance(n, str) for n in x)


def placed(call, mesh, layout, arguments):
    """The arguments of a call on the mesh."""

    def place(axes, argument):
        spec = P(*(layout.get(name) for name in axes))
        return jax.tree.map(
            lambda x: jax.device_put(x, NamedSharding(mesh, spec)), argument
        )

    return tuple(
        jax.tree.map(place, axes, argument, is_leaf=is_axes)
        for axes, argument in zip(call.axes, arguments, strict=True)
    )


def compiled(call):
    """Gradients and results in one program."""
    if call.differentiable:
        return jax.jit(gradients(call))
    return jax.jit(lambda *arguments: ((), call.function(*arguments)))


def same(actual, desired):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(
            np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=2e-5, atol=2e-6
        ),
        without_keys(actual),
        without_keys(desired),
    )


def without_keys(tree):
    """Raw numbers in the place of random keys."""

    def raw(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(raw, tree)


@pytest.mark.parametrize("name", PURE)
def test_the_same_on_every_mesh(name):
    """On sharded arrays, and on two devices that compute with arrays of their own.

    Each is what the other is compared with, which compiles no third program: within
    ``shard_map``, a device runs the function as it would alone.
    """
    call = CALLS[name]
    step = compiled(call)
    batches = [call.arguments, jax.tree.map(rolled, call.arguments)]
    expected = on_own_devices(step, batches)
    for mesh, layout in layouts(name):
        for batch, own in zip(batches, expected, strict=True):
            arguments = placed(call, mesh, layout, batch)
            found, results = step(*arguments)
            same((found, results), own)
            if AxisType.Explicit not in mesh.axis_types:
                continue
            for number, gradient in zip(call.differentiable, found, strict=True):
                jax.tree.map(check_alike, gradient, arguments[number])
            if call.sharded_like is not None:
                jax.tree.map(check_alike, results, arguments[call.sharded_like])


def rolled(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key or not x.ndim else np.roll(x, 1, axis=0)


def on_own_devices(step, batches):
    """What the step returns for each batch, each on a device of its own."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    mesh = jax.make_mesh((len(batches),), ("d",))

    def on_device(*arguments):
        own = jax.tree.map(lambda x: x[0], arguments)
        return jax.tree.map(lambda x: x[None], step(*own))

    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    placed = jax.device_put(stacked, NamedSharding(mesh, P("d")))
    results = jax.tree.map(np.asarray, without_keys(jax.jit(mapped)(*placed)))
    return [jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(batches))]


def check_alike(gradient, argument):
    """A gradient lies on the devices as its argument does."""
    assert gradient.sharding.is_equivalent_to(argument.sharding, argument.ndim)
