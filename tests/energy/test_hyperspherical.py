"""Hyperspherical energy: values, gradients, known optima, expectations, others."""

import functools
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, psi

import sphax as sx
from tests import reference

POWERS = (0.0, 0.5, 1.0, 2.0, 3.5, 9.0)
KINDS = list(itertools.product(("euclidean", "geodesic"), (False, True)))


Distance = Literal["euclidean", "geodesic"]


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def riesz(distances, power):
    return -np.log(distances) if power == 0 else distances**-power


def distances_of(x, w, distance):
    angles = reference.angles(x, w)
    return angles if distance == "geodesic" else 2 * np.sin(angles / 2)


def definition(x, power, distance="euclidean", half_space=False, where=None):
    """Mean over ordered pairs of the set, joined with its mirror in half space."""
    weights = np.ones(len(x)) if where is None else where
    numbers = np.arange(len(x))
    if half_space:
        x, weights = np.concatenate([x, -x]), np.tile(weights, 2)
        numbers = np.tile(numbers, 2)
    pairs = np.outer(weights, weights) * (numbers[:, None] != numbers)
    distances = np.where(pairs > 0, distances_of(x, x, distance), 1)
    return np.sum(pairs * riesz(distances, power)) / np.sum(pairs)


@functools.cache
def step_of(distance: Distance = "euclidean", half_space=False, block_size=None):
    """Value and gradient, compiled once for all powers and weights."""

    def step(points, power, where):
        return sx.energy.energy_and_grad(
            points,
            power=power,
            distance=distance,
            half_space=half_space,
            where=where,
            block_size=block_size,
        )

    return jax.jit(step)


def grad_of(function, x):
    return reference.numerical_gradient(function, np.asarray(x, np.float64))


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize(("distance", "half_space"), KINDS)
@pytest.mark.usefixtures("x64")
def test_value_and_gradient_are_those_of_the_definition(
    distance, half_space, block_size
):
    x, where = draw(0, 7, 4), np.array([1.0, 0.5, 2.0, 0.0, 1.0, 0.3, 1.0])
    for power in POWERS:
        step = step_of(distance, half_space, block_size)
        value, gradient = step(x, jnp.asarray(power), where)
        of = functools.partial(
            definition,
            power=power,
            distance=distance,
            half_space=half_space,
            where=where,
        )
        np.testing.assert_allclose(value, of(x), rtol=1e-12)
        expected = grad_of(of, x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7 * scale)
        along = np.sum(gradient * x, axis=1)
        np.testing.assert_allclose(along, 0.0, atol=1e-13 * scale)


@pytest.mark.usefixtures("x64")
def test_rotation_and_lengths_do_not_count():
    x, where = draw(1, 7, 4), np.ones(7)
    turn, _ = np.linalg.qr(draw(2, 4, 4))
    lengths = np.exp(draw(3, 7, 1))
    for power in POWERS:
        step = step_of(block_size=3)
        value, gradient = step(x, jnp.asarray(power), where)
        turned, of_turned = step(lengths * x @ turn, jnp.asarray(power), where)
        np.testing.assert_allclose(turned, value, rtol=1e-12)
        np.testing.assert_allclose(lengths * of_turned, gradient @ turn, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_numbers_are_the_same_powers_as_arrays():
    x = draw(4, 7, 4)

    @jax.jit
    def both(x, powers):
        energy = sx.energy.hyperspherical_energy
        numbers = [energy(x, power=power) for power in (0, 1, 2, 3.5)]
        arrays = jax.vmap(lambda power: energy(x, power=power))(powers)
        return jnp.stack(numbers), arrays

    numbers, arrays = both(x, jnp.array([0.0, 1.0, 2.0, 3.5]))
    np.testing.assert_allclose(numbers, arrays, rtol=1e-13)
    expected = [definition(x, power) for power in (0, 1, 2, 3.5)]
    np.testing.assert_allclose(numbers, expected, rtol=1e-12)


# Known optima


def simplex(n):
    return np.eye(n) - 1 / n


def even_permutations(n):
    for order in itertools.permutations(range(n)):
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        if inversions % 2 == 0:
            yield list(order)


def icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)]
    return np.array([np.roll(corner, turn) for corner in corners for turn in range(3)])


def cell_600():
    golden = (1 + 5**0.5) / 2
    points = [*(2 * np.eye(4)), *(-2 * np.eye(4))]
    points += map(np.array, itertools.product((-1, 1), repeat=4))
    for signs in itertools.product((-1, 1), repeat=3):
        point = np.array([*(np.array(signs) * [golden, 1, 1 / golden]), 0])
        points += [point[order] for order in even_permutations(4)]
    return np.array(points)


def e8():
    points = []
    for i, j in itertools.combinations(range(8), 2):
        for a, b in itertools.product((-1, 1), repeat=2):
            points.append(a * np.eye(8)[i] + b * np.eye(8)[j])
    halves = np.array(list(itertools.product((-0.5, 0.5), repeat=8)))
    return np.array([*points, *halves[np.prod(halves, axis=1) > 0]])


def cross_polytope(d):
    return np.concatenate([np.eye(d), -np.eye(d)])


# Closed forms of Cohn and Kumar's universally optimal sets, at powers 0, 1 and 2.
OPTIMA = {
    "simplex": (
        simplex(8),
        [0.5 * math.log(7 / 16), (7 / 16) ** 0.5, 7 / 16],
    ),
    "cross_polytope": (
        cross_polytope(8),
        [
            -8 * math.log(2) / 15,
            (2**-1 + 14 * 2**-0.5) / 15,
            (2**-2 + 14 * 2**-1) / 15,
        ],
    ),
    "icosahedron": (icosahedron(), [-0.3273658368, 0.7449280766307, 13 / 22]),
    "cell_600": (cell_600(), [None, 0.811845441975, None]),
    "e8": (e8(), [None, 0.744464725959, 0.577057182706]),
}


@pytest.mark.usefixtures("x64")
def test_known_optima():
    """All of them in one batch, padded by points of weight zero."""
    sets = [points for points, _ in OPTIMA.values()]
    assert [len(points) for points in sets] == [8, 16, 12, 120, 240]
    padded = np.full((len(sets), 240, 8), np.nan)
    where = np.zeros((len(sets), 240), bool)
    for i, points in enumerate(sets):
        padded[i, : len(points)] = np.pad(points, ((0, 0), (0, 8 - points.shape[1])))
        where[i, : len(points)] = True
    for i, power in enumerate((0.0, 1.0, 2.0)):
        step = step_of(block_size=100)
        values, gradients = step(padded, jnp.asarray(power), where)
        for value, (_, known) in zip(values, OPTIMA.values(), strict=True):
            if known[i] is not None:
                np.testing.assert_allclose(value, known[i], rtol=1e-10)
        np.testing.assert_allclose(gradients, 0.0, atol=1e-14)


# Expectations


def expected_chord(power, d):
    half = (d - 1) / 2
    if power == 0:
        return -math.log(2) - (psi(half) - psi(d - 1)) / 2
    terms = gammaln(half - power / 2) + gammaln(d - 1)
    return math.exp(terms - gammaln(half) - gammaln(d - 1 - power / 2)) / 2**power


@pytest.mark.parametrize(
    ("n", "d"), [(1000, 3), (600, 16), (2, 512), (65, 512), (2, 2)]
)
def test_random_points_of_many_sizes(n, d):
    x = draw(5, n, d)
    for power in (0.0, 1.0, 2.0):
        value, gradient = step_of()(jnp.float32(x), jnp.asarray(power), np.ones(n))
        np.testing.assert_allclose(value, definition(x, power), rtol=1e-5)
        assert gradient.shape == (n, d)
        assert np.all(np.isfinite(gradient))
        if n * d > 500 and power < (d - 1) / 2:  # where the mean has a variance
            sigma = 3 / n if d == 16 else 0.05
            assert abs(value - expected_chord(power, d)) < sigma


# Against others


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.usefixtures("x64")
def test_points_against_others(half_space):
    x, others = draw(6, 5, 4), draw(7, 8, 4)
    where, others_where = np.array([1.0, 2, 0, 1, 0.5]), np.linspace(0.2, 1, 8)
    self_index = np.array([3, -1, 0, 7, 9])

    @jax.jit
    def step(x, others):
        return sx.energy.energy_and_grad(
            x,
            power=2.0,
            half_space=half_space,
            where=where,
            others=others,
            others_where=others_where,
            self_index=self_index,
            block_size=3,
        )

    def of(x, others):
        weights = np.outer(where, others_where) * (self_index[:, None] != np.arange(8))
        energies = riesz(distances_of(x, others, "euclidean"), 2)
        if half_space:
            mirrored = riesz(distances_of(x, -others, "euclidean"), 2)
            energies = (energies + mirrored) / 2
        return np.sum(weights * energies) / np.sum(weights)

    value, (d_x, d_others) = step(x, others)
    np.testing.assert_allclose(value, of(x, others), rtol=1e-12)
    expected = grad_of(lambda x: of(x, others), x)
    np.testing.assert_allclose(d_x, expected, rtol=1e-6, atol=1e-8)
    expected = grad_of(lambda others: of(x, others), others)
    np.testing.assert_allclose(d_others, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_a_set_may_be_its_own_others():
    x = jnp.asarray(draw(8, 6, 4))
    energy = functools.partial(sx.energy.hyperspherical_energy, power=1.0)

    @jax.jit
    def both(x):
        against = jax.value_and_grad(
            lambda x: energy(x, others=x, self_index=jnp.arange(6))
        )(x)
        return against, jax.value_and_grad(energy)(x)

    against, within = both(x)
    for a, b in zip(against, within, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
