"""Energies of points that are split over devices: those of one device."""

import math
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from sphax.sharding._energy import _on_mesh

on_one = sx.energy.hyperspherical_energy
on_mesh = sx.sharding.hyperspherical_energy
N, D = 24, 5
POINTS = np.random.default_rng(0).normal(size=(N, D))
# Some points are masked, the last ones of a device among them.
WEIGHTS = np.random.default_rng(1).uniform(0.5, 2.0, N)
WEIGHTS[[0, 7, 22, 23]] = 0.0

# Devices along the axes, and options. Rows of a device are in blocks of `block_size`.
ROWS: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "1": ({"a": 1}, {"power": 2.0}),
    "2": ({"a": 2}, {"power": 0.0, "distance": "geodesic", "block_size": 5}),
    "3": ({"a": 3}, {"power": 2.0, "half_space": True}),
    "4": ({"a": 4}, {"power": 1.0, "block_size": 4}),
    "8": ({"a": 8}, {"power": 1.5, "half_space": True}),
    "2 x 4": ({"a": 2, "b": 4}, {"power": 3.0, "block_size": 2}),
}
# Where the gradient is taken outside of `shard_map` too: blocks and half spaces, powers
# with a form of their own and others, one axis and two.
OUTSIDE = {"2", "8", "2 x 4"}
same = partial(
    jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13)
)


def inside(mesh, axes, function, out_specs: Any = P(), *, check_vma=True):
    """The function of points and weights on each device, compiled."""
    specs = P(axes), P(axes), P()
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=specs,
            out_specs=out_specs,
            check_vma=check_vma,
        )
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients_are_those_of_one_device(name):
    """In points, weights and power; the gradient may be taken inside of shard_map."""
    sizes, options = ROWS[name]
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes))
    options = dict(options)
    power = options.pop("power")
    is_array = power in (1.5, 3.0)  # the others have a form of their own

    def energy(points, weights, array_power, **more):
        given = array_power if is_array else power
        return on_one(points, where=weights, power=given, **options, **more)

    differentiated = (0, 1, 2) if is_array else (0, 1)
    expected = jax.jit(jax.value_and_grad(energy, differentiated))(
        POINTS, WEIGHTS, power
    )
    split = partial(energy, row_axis=tuple(sizes))
    spec = NamedSharding(mesh, P(tuple(sizes)))
    placed = *jax.device_put((POINTS, WEIGHTS), spec), power
    within = inside(
        mesh,
        tuple(sizes),
        jax.value_and_grad(split, differentiated),
        (P(), (P(tuple(sizes)), P(tuple(sizes)), P())[: len(differentiated)]),
    )
    same(within(*placed), expected)
    if name in OUTSIDE:
        whole = inside(mesh, tuple(sizes), split, check_vma=len(sizes) == 1)
        found = jax.jit(jax.value_and_grad(whole, differentiated))(*placed)
        same(found, expected)
        assert found[1][0].sharding.spec == P(tuple(sizes), None)


@pytest.mark.usefixtures("x64")
def test_value_and_gradient_of_one_sweep_and_second_derivatives():
    """Of a batch of two sets; what is masked may be NaN."""
    points = np.stack([POINTS, POINTS[::-1]])
    weights = np.stack([WEIGHTS, WEIGHTS[::-1]])
    direction = np.cos(np.arange(points.size)).reshape(points.shape)
    mesh = jax.make_mesh((4,), ("a",))

    def both(points, weights, direction, **axis):
        def gradient(points):
            summed = jax.grad(lambda x: jnp.sum(on_one(x, where=weights, **axis)))
            return summed(points)

        value = sx.energy.energy_and_grad(points, where=weights, **axis)
        return value, jax.jvp(gradient, (points,), (direction,))

    expected = jax.jit(both)(points, weights, direction)
    broken = np.where(weights[..., None] == 0.0, np.nan, points)
    rows = P(None, "a")
    split = jax.shard_map(
        partial(both, row_axis="a"),
        mesh=mesh,
        in_specs=rows,
        out_specs=((P(), rows), (rows, rows)),
    )
    placed = jax.device_put((broken, weights, direction), NamedSharding(mesh, rows))
    same(jax.jit(split)(*placed), expected)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_points_of_a_mesh(kind):
    """Also points that the devices do not divide, and of 16 bits."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), (kind, kind))
    points = POINTS.astype(np.float32)
    split = jax.device_put(points, NamedSharding(mesh, P("a")))
    value, gradient = jax.jit(
        jax.value_and_grad(partial(on_mesh, row_axis="a", mesh=mesh))
    )(split)
    expected = jax.jit(jax.value_and_grad(on_one))(points)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-8)
    assert gradient.sharding.is_equivalent_to(split.sharding, 2)
    # Outside of `jit`, by the mesh of the points, and by that of the context.
    np.testing.assert_allclose(on_mesh(split, row_axis="a"), value, rtol=1e-7)
    some = jnp.asarray(points[:21], jnp.bfloat16)
    with jax.set_mesh(mesh):
        uneven = on_mesh(some, row_axis=("a", "b"), where=WEIGHTS[:21] > 0)
    assert uneven.dtype == jnp.float32
    one = on_one(some, where=WEIGHTS[:21] > 0)
    np.testing.assert_allclose(uneven, one, rtol=1e-6)


def test_no_device_has_all_points_or_pairs():
    """By the compiled program: what travels, and the largest array."""
    n, d, devices = 512, 32, 8
    own = n // devices
    mesh = jax.make_mesh((devices,), ("a",))
    points = jax.device_put(jnp.ones((n, d)), NamedSharding(mesh, P("a")))
    run: Any = partial(on_mesh, mesh=mesh, row_axis="a", power=2.0, block_size=own // 2)
    for function, count in ((run, 4), (jax.value_and_grad(run), 4 + 5)):
        program = jax.jit(function).lower(points).compile().as_text() or ""
        shapes = [
            math.prod(map(int, found.split(",")))
            for found in re.findall(r"\[([\d,]+)\]", program)
        ]
        # Not even the pairs of one device's points with a visiting block.
        assert max(shapes) == own * d < own * own
        sent = re.findall(r"f32\[([\d,]+)\]\S* collective-permute", program)
        sizes = [math.prod(map(int, shape.split(","))) for shape in sent]
        assert sum(size == own * d for size in sizes) == count
        assert set(sizes) == {own * d, own}
        assert "all-gather" not in program
        assert "reduce-scatter" not in program
        reduced = re.findall(r"f32\[(\d+)\]\S* all-reduce", program)
        assert all(int(size) <= devices for size in reduced)


def test_a_second_call_compiles_nothing():
    mesh = jax.make_mesh((2,), ("a",))
    compiled: Any = _on_mesh
    before = compiled._cache_size()
    for seed in range(2):
        points = jax.random.normal(jax.random.key(seed), (6, 3))
        on_mesh(points, mesh=mesh, row_axis="a")
    assert compiled._cache_size() == before + 1


def test_wrong_arguments():
    points = jnp.eye(4)
    mesh = jax.make_mesh((2,), ("a",))
    with pytest.raises(
        ValueError, match="row_axis='a' must be an axis of the jax.shard"
    ):
        on_one(points, row_axis="a")
    with pytest.raises(TypeError, match="row_axis must be the name of a mesh axis"):
        on_one(points, row_axis=0)  # pyright: ignore
    with pytest.raises(ValueError, match="there is no mesh: give mesh=.* place points"):
        on_mesh(points, row_axis="a")
    with pytest.raises(
        ValueError, match=r"row_axis must name axes of .*'a'.* got .*'b'"
    ):
        on_mesh(points, mesh=mesh, row_axis="b")
    with pytest.raises(TypeError, match="row_axis must be the name"):
        on_mesh(points, mesh=mesh, row_axis=None)  # pyright: ignore
    with pytest.raises(ValueError, match="power must be 0 or more"):
        on_mesh(points, mesh=mesh, row_axis="a", power=-1.0)
    with pytest.raises(ValueError, match="where must have the shape of points"):
        on_mesh(points, mesh=mesh, row_axis="a", where=jnp.ones(3))

    def call(function):
        run = jax.shard_map(function, mesh=mesh, in_specs=P("a"), out_specs=P())
        return jax.jit(run)(jax.device_put(points, NamedSharding(mesh, P("a"))))

    with pytest.raises(ValueError, match="inside of it, use sphax.energy.hypersph"):
        call(lambda x: on_mesh(x, mesh=mesh, row_axis="a"))
    with pytest.raises(ValueError, match="row_axis is for the pairs of one set"):
        call(lambda x: on_one(x, others=x, row_axis="a"))
