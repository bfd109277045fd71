"""Compressive energies: projections, their own steps, what is differentiated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

N, D, P, COUNT = 5, 6, 3, 2
RATE = 0.4


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# The definitions.


def energy(z, half=True, power=2.0, angle=False):
    u = reference.directions(z)
    rho = reference.angles(u, u) if angle else np.linalg.norm(u[:, None] - u, axis=-1)
    far = np.pi - rho if angle else np.linalg.norm(u[:, None] + u, axis=-1)
    others = ~np.eye(len(z), dtype=bool)
    near, far = rho[others] ** -power, far[others] ** -power
    return np.mean([near, far]) if half else np.mean(near)


def compressive(x, projections, reduce=np.mean, **options):
    return reduce([energy(x @ p.T, **options) for p in projections])


def cosines(z):
    return reference.directions(z) @ reference.directions(z).T


def pulled_back(of_cosines, z, x):
    """Gradient in P of a symmetric function of the cosines of z = x P'."""
    u, c = reference.directions(z), cosines(z)
    of_z = 2 * (of_cosines @ u - np.sum(of_cosines * c, axis=1)[:, None] * u)
    return (of_z / np.linalg.norm(z, axis=1)[:, None]).T @ x


def uphill(p, x):
    """The energy in full space, power 2: the mean of 1 / (2 - 2 c)."""
    gaps = 2 - 2 * cosines(x @ p.T) + np.eye(len(x))
    others = 1 - np.eye(len(x))
    return pulled_back(others * 2 / gaps**2 / np.sum(others), x @ p.T, x)


def angle_keeping(p, x):
    """Down the Frobenius norm of the change of cosines."""
    change = cosines(x @ p.T) - cosines(x)
    return -pulled_back(change / np.linalg.norm(change), x @ p.T, x)


LEARNED = {
    "adversarial": (sx.energy.adversarial_projection, uphill),
    "angle preserving": (sx.energy.angle_preserving_projection, angle_keeping),
}


# Energies of projected points


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        (
            {"half_space": False, "power": 1, "distance": "geodesic", "reduce": "max"},
            {"half": False, "power": 1.0, "angle": True, "reduce": np.max},
        ),
    ],
)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(options, expected):
    x, projection, kept = draw(0, N, D), draw(1, COUNT, P, D), np.arange(N) != 2
    dirty = np.where(kept[:, None], x, np.nan)
    step = jax.jit(
        jax.value_and_grad(
            partial(sx.energy.compressive_energy, where=kept, **options), (0, 1)
        )
    )
    value, (of_points, of_projection) = step(dirty, projection)
    of = partial(compressive, **expected)
    np.testing.assert_allclose(value, of(x[kept], projection), rtol=1e-12)
    slope = reference.numerical_gradient(lambda x: of(x, projection), x[kept])
    np.testing.assert_allclose(of_points[kept], slope, rtol=1e-6, atol=1e-8)
    assert not np.any(of_points[~kept])
    slope = reference.numerical_gradient(lambda p: of(x[kept], p), projection)
    np.testing.assert_allclose(of_projection, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_groups_are_selections_of_coordinates(key):
    x, energy_of = draw(2, N, D), jax.jit(sx.energy.compressive_energy)
    for groups in (
        sx.energy.group_projections(D, 2),
        sx.energy.group_projections(D, 2, key=key),
    ):
        assert sorted(np.ravel(groups)) == list(range(D))
        matrices = np.eye(D)[np.asarray(groups)]
        value = energy_of(x, groups)
        np.testing.assert_allclose(value, compressive(x, matrices), rtol=1e-12)
    assert np.any(np.diff(groups, axis=1) != 1)


def test_random_projections_keep_cosines_to_their_error(key):
    projections = sx.energy.random_projections(key, 8, 50, count=400)
    assert projections.shape == (400, 50, 8)
    np.testing.assert_allclose(np.mean(projections), 0.0, atol=0.01)
    np.testing.assert_allclose(np.std(projections), 1.0, atol=0.01)
    u, v, c = np.eye(8)[0], np.zeros(8), 0.6
    v[:2] = c, np.sqrt(1 - c * c)
    pairs = np.swapaxes(np.asarray(projections) @ np.stack([u, v]).T, 1, 2)
    images = reference.directions(pairs)
    of_images = np.sum(images[:, 0] * images[:, 1], axis=-1)
    np.testing.assert_allclose(np.mean(of_images), c, atol=0.02)
    np.testing.assert_allclose(np.std(of_images), (1 - c * c) / 50**0.5, rtol=0.15)


# Steps of the projections


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.usefixtures("x64")
def test_projections_take_their_steps_and_the_last_is_differentiated(name):
    learn, direction = LEARNED[name]
    x, start = draw(3, N, D), draw(4, COUNT, P, D)
    after_one = np.stack([p + RATE * direction(p, x) for p in start])

    def after_two(x):
        return np.stack([p + RATE * direction(p, x) for p in after_one])

    def loss(x, start):
        projection = learn(x, start, learning_rate=RATE, steps=2)
        return sx.energy.compressive_energy(x, projection), projection

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (value, projection), (of_points, of_start) = step(x, start)
    np.testing.assert_allclose(projection, after_two(x), rtol=1e-9)
    np.testing.assert_allclose(value, compressive(x, after_two(x)), rtol=1e-9)
    expected = reference.numerical_gradient(lambda x: compressive(x, after_two(x)), x)
    np.testing.assert_allclose(of_points, expected, rtol=1e-5, atol=1e-7)
    assert not np.any(of_start)
    # With the new projections as constants it would be another gradient.
    constant = after_two(x)
    other = reference.numerical_gradient(lambda x: compressive(x, constant), x)
    assert np.max(np.abs(other - expected)) > 1e-3 * np.max(np.abs(expected))


@pytest.mark.parametrize("name", LEARNED)
def test_masked_and_singular_points(name):
    learn, direction = LEARNED[name]
    start = jnp.asarray(draw(4, 1, P, D), jnp.float32)

    @jax.jit
    def step(x, where):
        def loss(x):
            projection = learn(x, start, where=where, steps=2)
            return sx.energy.compressive_energy(x, projection, where=where), projection

        return jax.value_and_grad(loss, has_aux=True)(x)

    x, kept = draw(3, N, D), np.arange(N) != 2
    dirty = jnp.asarray(np.where(kept[:, None], x, np.nan), jnp.bfloat16)
    (value, projection), gradient = step(dirty, kept)
    assert value.dtype == projection.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    assert np.all(np.isfinite(gradient.astype(jnp.float32)))
    assert not np.any(gradient[~kept])
    exact, p = np.asarray(dirty, np.float64)[kept], np.asarray(start[0], np.float64)
    for _ in range(2):
        p = p + 0.1 * direction(p, exact)
    np.testing.assert_allclose(projection[0], p, rtol=1e-3, atol=1e-3)

    row = np.array([0.6, 0.8, 0.0, 0.0, 0.0, 0.0])
    for rows in (
        np.zeros((N, D)),
        np.eye(N, D) * (np.arange(N) != 1)[:, None],
        np.tile(row, (N, 1)),
        row * np.array([1.0, -1.0, 2.0, -0.5, 3.0])[:, None],
    ):
        (value, projection), gradient = step(
            jnp.asarray(rows, jnp.bfloat16), np.ones(N, bool)
        )
        assert np.isfinite(value)
        assert np.all(np.isfinite(projection))
        assert np.all(np.isfinite(gradient.astype(jnp.float32)))
    (value, projection), gradient = step(dirty, np.zeros(N, bool))
    assert float(value) == 0.0
    assert not np.any(gradient)
    np.testing.assert_array_equal(projection, start)


def test_batches_are_loops():
    x = jnp.asarray(draw(5, 2, N, D), jnp.float32)
    start = jnp.asarray(draw(6, COUNT, P, D), jnp.float32)

    @jax.jit
    def both(x, start):
        with jax.numpy_dtype_promotion("strict"):
            learned = sx.energy.angle_preserving_projection(x, start)
            return learned, sx.energy.compressive_energy(x, learned)

    learned, energies = both(x, start)
    assert learned.shape == (2, COUNT, P, D)
    for i in range(2):
        of_one, value = both(x[i], start)
        np.testing.assert_allclose(learned[i], of_one, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(energies[i], value, rtol=1e-4)


X, START = np.ones((2, 4)), np.ones((1, 2, 4))


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (
            ValueError,
            r"projection must be .* got float32 \(2, 4\) for points \(2, 4\)",
            lambda e: e.compressive_energy(X, START[0].astype(np.float32)),
        ),
        (
            ValueError,
            r"or integer \[count, p\], got int32 \(3,\)",
            lambda e: e.compressive_energy(X, np.arange(3, dtype=np.int32)),
        ),
        (
            TypeError,
            "projection must be floating, or integer for coordinates, got dtype bool",
            lambda e: e.compressive_energy(X, np.ones((1, 2, 4), bool)),
        ),
        (
            ValueError,
            "reduce must be one of .*'sum'",
            lambda e: e.compressive_energy(X, START, reduce="sum"),
        ),
        (
            ValueError,
            "p must be 1 or more, got 0",
            lambda e: e.random_projections(jax.random.key(0), 4, 0),
        ),
        (
            ValueError,
            "groups must divide d, got groups=3 and d=4; leave coordinates",
            lambda e: e.group_projections(4, 3),
        ),
        (
            ValueError,
            "steps must be 1 or more, got 0",
            lambda e: e.adversarial_projection(X, START, steps=0),
        ),
        (
            ValueError,
            "learning_rate must be positive, got 0",
            lambda e: e.angle_preserving_projection(X, START, learning_rate=0),
        ),
        (
            TypeError,
            "projection must be floating, got dtype int32",
            lambda e: e.adversarial_projection(X, e.group_projections(4, 2)),
        ),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call(sx.energy)
