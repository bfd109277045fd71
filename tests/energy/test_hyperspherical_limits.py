"""Hyperspherical energy: near and coincident pairs, derivatives, memory, errors."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import sphax as sx
from tests import jaxprs, reference

energy = sx.energy.hyperspherical_energy


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def pair_at(angle, d):
    """Two vectors of different lengths, at an angle."""
    frame, _ = np.linalg.qr(draw(0, d, 2))
    u, v = frame.T
    return np.stack([1.3 * u, 0.7 * (math.cos(angle) * u + math.sin(angle) * v)])


@functools.cache
def pair_step(distance, half_space):
    """Inverse distances of many pairs, and gradients, together."""
    return jax.jit(
        functools.partial(
            sx.energy.energy_and_grad,
            power=1.0,
            distance=distance,
            half_space=half_space,
        )
    )


ANGLES = (1.0, 0.3, 0.1, 0.07, 0.05, 0.01, 3e-3, 1e-3)


@pytest.mark.parametrize(
    ("distance", "half_space"), [("euclidean", True), ("geodesic", False)]
)
@pytest.mark.parametrize("d", [3, 512])
def test_near_pairs_keep_their_digits_in_float32(distance, half_space, d):
    points = np.stack([pair_at(angle, d) for angle in ANGLES]).astype(np.float32)
    if half_space:
        points[:, 1] *= -1  # near the mirror image
    values, gradients = pair_step(distance, half_space)(points)
    for x, value, gradient in zip(
        points.astype(np.float64), values, gradients, strict=True
    ):
        near = reference.angles(x[:1], x[1:] * (-1 if half_space else 1))[0, 0]
        inverse, slope = 1 / near, 1 / near**2
        if distance == "euclidean":
            chord, far = 2 * math.sin(near / 2), 2 * math.cos(near / 2)
            inverse = (1 / chord + 1 / far) / 2
            slope = (far / chord**2 - chord / far**2) / 4
        np.testing.assert_allclose(value, inverse, rtol=1e-4)
        lengths = np.linalg.norm(x, axis=1)
        np.testing.assert_allclose(
            np.linalg.norm(gradient, axis=1), slope / lengths, rtol=1e-3
        )


@pytest.mark.usefixtures("x64")
def test_near_pairs_keep_their_digits_in_float64():
    angles = (1e-2, 1e-4, 1e-6)
    points = np.stack([pair_at(angle, 12) for angle in angles])
    values, gradients = pair_step("geodesic", False)(points)
    np.testing.assert_allclose(1 / values, angles, rtol=1e-9)
    lengths = np.linalg.norm(gradients[:, 0], axis=1)
    np.testing.assert_allclose(lengths, np.power(angles, -2) / 1.3, rtol=1e-8)


def test_one_near_pair_does_not_change_the_others():
    """The tile is taken again: far pairs keep their values, tiles differ in size."""
    x = draw(1, 40, 6)
    x[7] = x[31] + 1e-3 * draw(2, 6)
    x = x.astype(np.float32)
    steps = [functools.partial(energy, power=2.0, block_size=b) for b in (40, 9)]
    (plain, of_plain), (tiled, of_tiled) = jax.jit(
        lambda x: [jax.value_and_grad(step)(x) for step in steps]
    )(x)
    angles = reference.angles(x.astype(np.float64), x.astype(np.float64))
    pairs = ~np.eye(40, dtype=bool)
    expected = np.mean((2 * np.sin(angles[pairs] / 2)) ** -2)
    np.testing.assert_allclose([plain, tiled], expected, rtol=1e-4)
    scale = np.abs(of_plain).max()
    np.testing.assert_allclose(of_tiled, of_plain, rtol=1e-3, atol=1e-4 * scale)


# Singular points


def singular(d):
    """Twins of several lengths, opposite points, a zero row and one apart."""
    u, v = draw(3, 2, d)
    return np.stack([u, 3 * u, 0.1 * u, -0.7 * u, 0 * u, v])


@pytest.mark.parametrize("distance", ["euclidean", "geodesic"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_singular_points_are_finite(distance, dtype):
    x = jnp.asarray(singular(4), dtype)

    @jax.jit
    def step(x, powers):
        return [
            jax.vmap(
                lambda power, half_space=half_space: sx.energy.energy_and_grad(
                    x, power=power, distance=distance, half_space=half_space
                )
            )(powers)
            for half_space in (False, True)
        ]

    for values, gradients in step(x, jnp.array([0.0, 1.0, 2.0, 5.0, 40.0, 1e4])):
        assert values.dtype == jnp.float32
        assert gradients.dtype == x.dtype
        assert np.all(np.isfinite(values))
        assert np.all(np.diff(values[:-1]) > 0)
        assert np.all(np.isfinite(np.float32(gradients)))
        assert not np.any(gradients[:, 4])


@pytest.mark.parametrize("d", [3, 1000])
def test_coincident_points_have_the_documented_energy(d):
    u, v = draw(4, 2, d).astype(np.float32)
    twins = jnp.array(np.stack([u, 3 * u, 0.1 * u]))
    step = pair_step("euclidean", False)
    value, gradient = step(twins)
    np.testing.assert_allclose(value, 2**21, rtol=1e-5)  # 4 epsilons are 2^-21
    np.testing.assert_array_equal(gradient, 0.0)
    # The third point feels the twins, the twins feel it alone.
    value, gradient = step(jnp.array(np.stack([u, 3 * u, v])))
    _, alone = step(jnp.array(np.stack([u, u, v]))[jnp.array([0, 2])])
    np.testing.assert_allclose(gradient[0], alone[0] / 3, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(gradient[2], 2 * alone[1] / 3, rtol=1e-4, atol=1e-7)


def test_steep_energies_continue_as_tangents():
    """Beyond the dtype's numbers: finite, rising, and pushing apart all the same."""
    points = np.stack([pair_at(angle, 3) for angle in (0.2, 0.02, 0.002)])
    values, gradients = jax.jit(
        functools.partial(sx.energy.energy_and_grad, power=40.0)
    )(points.astype(np.float32))
    assert np.all(np.isfinite(gradients))
    assert np.all(np.diff(values) > 0)
    # Downhill, the second moves away from the first.
    for x, gradient in zip(points, gradients, strict=True):
        assert np.sum(gradient[1] * (x[0] / 1.3 - x[1] / 0.7)) > 0
    chord = 2.0 ** (-88 / 42)
    largest = chord**-40.0 * (1 + 20 * (1 - (0.002 / chord) ** 2))
    np.testing.assert_allclose(values[2], largest, rtol=1e-4)


def test_masked_points_reach_nothing_and_others_do():
    x = draw(5, 5, 3).astype(np.float32)
    masked = x.copy()
    masked[[1, 3]] = np.nan
    kept = jnp.array([True, False, True, False, True])
    step = jax.jit(sx.energy.energy_and_grad)

    @jax.jit
    def with_mask(x, where):
        return sx.energy.energy_and_grad(x, where=where)

    value, gradient = with_mask(masked, kept)
    expected, of_kept = step(x[[0, 2, 4]])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[kept], of_kept, rtol=1e-5, atol=1e-7)
    assert not np.any(gradient[~kept])
    for alone in ([False] * 5, [True] + [False] * 4):
        value, gradient = with_mask(masked, jnp.array(alone))
        assert float(value) == 0.0
        np.testing.assert_array_equal(gradient, 0.0)
    assert math.isnan(with_mask(masked, jnp.ones(5, bool))[0])


# Derivatives


@pytest.mark.usefixtures("x64")
def test_derivatives_of_first_and_second_order():
    """In points, weights and power; in reverse and forward, by rules and by numbers.

    With blocks of two there are tiles on the diagonal, as a single block has, and one
    above it.
    """
    x, where, power = draw(6, 3, 3), np.array([1.0, 0.4, 2.0]), 1.5

    def of(x, where, power):
        return energy(x, power=power, where=where, block_size=2)

    @jax.jit
    def all_of(x, where, power):
        gradients = jax.grad(of, (0, 1, 2))(x, where, power)
        forward = jax.hessian(of)(x, where, power)
        reverse = jax.jacrev(jax.grad(of))(x, where, power)
        return gradients, forward, reverse

    value, gradient = jax.jit(jax.value_and_grad(of)), jax.jit(jax.grad(of))
    gradients, forward, reverse = all_of(x, where, power)
    numbers = reference.numerical_gradient(lambda w: value(x, w, power)[0], where)
    np.testing.assert_allclose(gradients[1], numbers, rtol=1e-6, atol=1e-9)
    ahead, behind = (value(x, where, power + h)[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(gradients[2], (ahead - behind) / 2e-6, rtol=1e-6)
    for i in np.ndindex(3, 3):
        numbers = reference.numerical_gradient(
            lambda x, i=i: gradient(x, where, power)[i], x
        )
        np.testing.assert_allclose(forward[i], numbers, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-13)


def test_gradients_are_those_of_energy_and_grad_alone_and_in_batches():
    x = jnp.array(draw(7, 2, 3, 5, 4), jnp.float32)

    @jax.jit
    def all_of(x):
        values, gradients = sx.energy.energy_and_grad(x, power=2.0)
        of_sum = jax.grad(lambda x: jnp.sum(energy(x, power=2.0)))(x)
        alone = jax.lax.map(
            jax.value_and_grad(functools.partial(energy, power=2.0)),
            x.reshape(6, 5, 4),
        )
        return values, gradients, of_sum, alone

    values, gradients, of_sum, (alone, of_alone) = all_of(x)
    assert values.shape == (2, 3)
    np.testing.assert_allclose(values.reshape(6), alone, rtol=1e-6)
    np.testing.assert_allclose(gradients, of_sum, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        gradients.reshape(6, 5, 4), of_alone, rtol=1e-5, atol=1e-7
    )


def test_a_schedule_of_powers_does_not_compile_again():
    x = jnp.array(draw(8, 4, 3), jnp.float32)
    step = jax.jit(
        chex.assert_max_traces(lambda power: jax.grad(energy)(x, power=power), n=1)
    )
    for power in (0.0, 1.0, 2.0):
        assert np.all(np.isfinite(step(jnp.float32(power))))


# Memory, devices, errors


def test_no_array_has_the_size_of_all_pairs():
    """Value and gradient hold three arrays of the size of the points, and tiles."""
    n, d, b = 4096, 64, 128
    points = jax.ShapeDtypeStruct((n, d), jnp.float32)
    step = jax.value_and_grad(functools.partial(energy, power=2.0, block_size=b))
    tangent = functools.partial(jax.jvp, jax.grad(energy))
    assert jaxprs.largest_array(jax.make_jaxpr(step)(points).jaxpr) <= n * d
    second = jax.make_jaxpr(lambda x: tangent((x,), (x,)))(points)
    assert jaxprs.largest_array(second.jaxpr) <= 2 * 512**2
    memory = jax.jit(step).lower(points).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes <= 4 * (3.1 * n * d + 16 * b**2)


def test_sets_on_several_devices():
    x = jnp.array(draw(9, 4, 5, 3), jnp.float32)
    mesh = jax.make_mesh((4,), ("sets",), axis_types=(jax.sharding.AxisType.Auto,))
    step = functools.partial(sx.energy.energy_and_grad, block_size=2)
    sharded = jax.shard_map(
        step, mesh=mesh, in_specs=PartitionSpec("sets"), out_specs=PartitionSpec("sets")
    )
    # A device's program has other shapes, and rounds in another order.
    for a, b in zip(jax.jit(sharded)(x), jax.jit(step)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())


X, OTHERS = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": np.ones((2, 3), int)}, TypeError, "points must be floating"),
        ({"points": np.ones(3)}, ValueError, r"points must be \[..., n, d\]"),
        ({"power": -1}, ValueError, "power must be 0 or more, got -1"),
        ({"power": jnp.ones(2)}, ValueError, r"power must be a scalar, got shape \(2,"),
        ({"power": jnp.int32(2)}, TypeError, "power must be floating"),
        ({"distance": "cosine"}, ValueError, "distance must be one of"),
        ({"block_size": 0}, ValueError, "block_size must be 1 or more, got 0"),
        ({"where": np.ones(3)}, ValueError, "where must have the shape of points"),
        ({"where": np.ones(2, int)}, TypeError, "where must be a boolean mask"),
        ({"self_index": np.zeros(2, int)}, ValueError, "got others=None"),
        ({"others": OTHERS[:, :2]}, ValueError, r"others must be \[..., m, d\]"),
        ({"others": np.float16(OTHERS)}, TypeError, "others must have the dtype of p"),
        (
            {"others": OTHERS, "self_index": np.zeros(4, int)},
            ValueError,
            "self_index mu",
        ),
        ({"others": OTHERS, "self_index": np.zeros(2)}, TypeError, "must be integer"),
    ],
)
def test_errors(arguments, error, message):
    for function in (energy, sx.energy.energy_and_grad):
        with pytest.raises(error, match=message):
            function(**({"points": X} | arguments))
