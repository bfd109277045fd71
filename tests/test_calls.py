"""Public functions outside of ``jit``, and on many devices.

Each row of :mod:`tests.calls` is first called as in an interactive session, where the
second call has to compile nothing and keep nothing. What it returns there is what it
has to return wherever else it is called: on sharded arrays, and in ``shard_map``.
"""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.calls import CALLS, EXEMPT
from tests.test_architecture import PUBLIC

PURE = [name for name, call in CALLS.items() if not call.is_host]


@pytest.fixture(scope="module")
def compilations():
    """Names of the compilations so far; a listener appends to it."""
    found = []

    def listen(event, duration_secs, **kwargs):
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(kwargs.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_every_public_function_has_a_row():
    called = {name.partition("[")[0] for name in CALLS}
    # Records, which hold what a function returns, are made by these functions.
    demanded = {
        name
        for name, member in PUBLIC.items()
        if callable(member) and not hasattr(member, "_fields")
    }
    assert demanded - called - EXEMPT.keys() == set()
    assert not called & EXEMPT.keys()
    assert called | EXEMPT.keys() <= PUBLIC.keys()


@pytest.mark.parametrize("name", [name for name in CALLS if name not in PURE])
def test_a_second_call_keeps_nothing(name, compilations):
    """Host code, which takes concrete arrays and has no gradient."""
    call = CALLS[name]
    called_twice(call.function, call.arguments, compilations)


@pytest.mark.parametrize("name", PURE)
def test_the_same_eagerly_and_on_every_mesh(name, compilations):
    call = CALLS[name]
    arguments = jax.tree.map(jnp.asarray, call.arguments)
    called_twice(call.function, arguments, compilations)
    function = gradients(call)
    batches = [call.arguments, jax.tree.map(rolled, call.arguments)]
    expected = [called_twice(function, arguments, compilations)]
    expected.append(function(*jax.tree.map(jnp.asarray, batches[1])))

    step = jax.jit(function)
    for mesh, layout in layouts(name):
        for batch, eager in zip(batches, expected, strict=True):
            placed = on_mesh(call, mesh, layout, batch)
            found, results = step(*placed)
            same((found, results), eager)
            if AxisType.Explicit not in mesh.axis_types:
                continue
            for number, gradient in zip(call.differentiable, found, strict=True):
                jax.tree.map(check_alike, gradient, placed[number])
            if call.sharded_like is not None:
                jax.tree.map(check_alike, results, placed[call.sharded_like])
    if PURE.index(name) % 6 == 3:
        same(on_own_devices(step, batches), expected)


def called_twice(function, arguments, compilations):
    """What a function returns; its second call compiles nothing and keeps nothing."""
    result = function(*arguments)
    compilations.clear()
    # Only what the second call makes is searched for circles, in little time.
    gc.freeze()
    alive = len(jax.live_arrays())
    function(*arguments)
    gc.collect()
    assert compilations == []
    assert len(jax.live_arrays()) <= alive
    gc.unfreeze()
    return result


def gradients(call):
    """Function of the arguments: gradients in the differentiable ones, and results."""
    if not call.differentiable:
        return lambda *arguments: ((), call.function(*arguments))

    def weighted(*arguments):
        results = call.function(*arguments)
        floating = [
            x for x in jax.tree.leaves(results) if jnp.issubdtype(x.dtype, jnp.floating)
        ]
        weights = [np.cos(np.arange(x.size)).reshape(x.shape) for x in floating]
        terms = [
            jnp.sum(x * w.astype(x.dtype))
            for x, w in zip(floating, weights, strict=True)
        ]
        return sum(terms), results

    return jax.grad(weighted, argnums=call.differentiable, has_aux=True)


def layouts(name: str) -> list[tuple[jax.sharding.Mesh, dict[str, str]]]:
    """Meshes, and the axis of the mesh on which each named axis lies.

    Every row is on a 4 x 2 mesh of explicit axes. Every sixth row is on one more: each
    of its axes alone on eight devices, or the 4 x 2 mesh with automatic axes, in turn.
    Explicit axes are made automatic in one place that all functions share, so that a
    layout at fault shows in some of them.
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
    turn, rest = divmod(PURE.index(name), 6)
    if rest == 0:
        chosen.append(others[turn % len(others)])
    return chosen


def is_axes(x):
    return isinstance(x, tuple) and all(n is None or isinstance(n, str) for n in x)


def on_mesh(call, mesh, layout, arguments):
    """The arguments of a call, sharded over the mesh."""

    def place(axes, argument):
        spec = P(*(layout.get(name) for name in axes))
        return jax.tree.map(
            lambda x: jax.device_put(x, NamedSharding(mesh, spec)), argument
        )

    return tuple(
        jax.tree.map(place, axes, argument, is_leaf=is_axes)
        for axes, argument in zip(call.axes, arguments, strict=True)
    )


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


def same(actual, desired):
    """Equal to the rounding of sums as large as the largest entry of an array."""

    def check(x, y):
        x, y = (np.asarray(each, np.float64) for each in (x, y))
        largest = np.max(np.abs(y), initial=1.0, where=np.isfinite(y))
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6 * largest)

    jax.tree.map(check, without_keys(actual), without_keys(desired))


def without_keys(tree):
    """Raw numbers in the place of random keys."""

    def raw(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(raw, tree)


def check_alike(gradient, argument):
    """A gradient lies on the devices as its argument does."""
    assert gradient.sharding.is_equivalent_to(argument.sharding, argument.ndim)
