"""The minimizer of the energy: known optima, given starts, and what it refuses."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from experiments.thomson.config import lowest_known

minimize = sx.energy.minimize_energy
# These problems are small: the compiler takes the time.
QUICK = {"xla_backend_optimization_level": 0}


@cache
def compiled(n, d, **options):
    """The minimum as a function of the key."""
    return jax.jit(lambda key: minimize(key, n, d, **options), compiler_options=QUICK)


def energy(points, power):
    """The definition, in float64."""
    points = np.asarray(points, np.float64)
    pairs = itertools.combinations(points, 2)
    distances = np.array([np.linalg.norm(x - y) for x, y in pairs])
    return np.mean(-np.log(distances) if power == 0 else distances**-power)


def simplex(n, power):
    square = 2.0 * n / (n - 1.0)
    return -0.5 * np.log(square) if power == 0 else square ** (-power / 2.0)


def cross_polytope(d):
    """Minimizes the energy of power 2."""
    return (2.0**-2 + (2 * d - 2) * 2.0**-1) / (2 * d - 1)


# Powers 0 and 2 in few and more dimensions; power 1 is that of Thomson's problem below,
# the plane that of the traced power.
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("n", "d", "power", "optimum"),
    [
        (6, 5, 0.0, simplex(6, 0)),
        (10, 5, 2.0, cross_polytope(5)),
        (12, 3, 2.0, 13 / 22),  # icosahedron
    ],
)
def test_finds_the_optima_that_are_proved(key, n, d, power, optimum):
    found = compiled(n, d, power=power)(key)
    np.testing.assert_allclose(found.energy, optimum, rtol=1e-10)
    np.testing.assert_allclose(energy(found.points, power), optimum, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found.points, axis=1), 1.0, rtol=1e-14)
    assert found.is_converged
    assert found.gradient_norm <= 1.5e-8
    assert found.energy == found.energies.min()
    assert found.energies.shape == (16,)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [7, 20])
def test_finds_the_published_energies_of_thomsons_problem(key, n):
    found = compiled(n, 3, power=1.0)(key)
    known = lowest_known()[n]
    total = energy(found.points, 1) * n * (n - 1) / 2
    assert known * (1 - 1e-8) <= total <= known * (1 + 1e-6)
    assert found.energy == pytest.approx(energy(found.points, 1), rel=1e-13)


@pytest.mark.usefixtures("x64")
def test_as_lines_as_many_as_dimensions_are_orthogonal(key):
    found = compiled(4, 4, distance="geodesic", half_space=True)(key)
    points = np.asarray(found.points)
    np.testing.assert_allclose(np.abs(points @ points.T), np.eye(4), atol=1e-7)
    assert float(found.energy) == pytest.approx(2 / np.pi, rel=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_power_can_be_traced(key):
    # In a plane, regular polygons; the product of the distances from a corner is n.
    best = jax.jit(
        lambda key, power: minimize(key, 10, 2, power=power, restarts=2),
        compiler_options=QUICK,
    )
    assert float(best(key, 0.0).energy) == pytest.approx(-np.log(10) / 9, rel=1e-10)
    points = np.asarray(best(key, 40.0).points)
    cosines = points @ points.T - 2.0 * np.eye(10)
    assert cosines.max() == pytest.approx(np.cos(np.pi / 5), abs=1e-8)


def test_a_given_start_never_goes_up(key):
    # As neurons: of any length, in float32.
    rows = 3.0 * sx.sphere.sample_uniform(key, (2, 40, 39))
    refine = jax.jit(
        lambda rows, steps: minimize(
            None, 40, 39, power=2.0, initial=rows, steps=steps, history=4
        ),
        compiler_options=QUICK,
    )
    before = [energy(start / 3.0, 2) for start in rows]
    stay, few, many = (refine(rows, steps) for steps in (1, 5, 200))
    np.testing.assert_allclose(stay.energies, before, rtol=1e-6)
    np.testing.assert_allclose(stay.points, rows[np.argmin(before)] / 3.0, atol=1e-6)
    assert not stay.is_converged
    assert np.all(few.energies < stay.energies)
    assert many.is_converged
    np.testing.assert_allclose(many.energies, simplex(40, 2), rtol=1e-5)
    again = refine(jnp.stack([many.points] * 2), 50)
    np.testing.assert_allclose(again.energies, simplex(40, 2), rtol=1e-5)


def test_half_precision_is_computed_in_float32(key):
    found = compiled(12, 3, dtype=jnp.bfloat16)(key)
    assert found.points.dtype == jnp.bfloat16
    assert found.energy.dtype == jnp.float32
    assert 66 * float(found.energy) == pytest.approx(49.165253058, rel=1e-3)


@pytest.mark.usefixtures("x64")
def test_the_key_tells_the_points(key):
    # Seven charges have one minimum, which every start turns its own way.
    best = compiled(7, 3, power=1.0)
    first, again, other = map(best, (key, key, jax.random.key(1)))
    np.testing.assert_array_equal(first.points, again.points)
    assert np.abs(first.points - other.points).max() > 0.01
    for found in (first, other):
        np.testing.assert_allclose(found.energies, first.energy, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(n=1), ValueError, "n must be 2 or more, got 1"),
        (dict(d=1), ValueError, "d must be 2 or more, got 1"),
        (dict(steps=0), ValueError, "steps must be 1 or more, got 0"),
        (dict(history=0), ValueError, "history must be 1 or more, got 0"),
        (dict(restarts=0), ValueError, "restarts must be 1 or more, got 0"),
        (dict(tolerance=0.0), ValueError, "tolerance must be positive, got 0.0"),
        (dict(power=-1.0), ValueError, "power must be 0 or more, got -1.0"),
        (dict(distance="chord"), ValueError, "distance must be one of"),
        (dict(dtype=jnp.int32), TypeError, "dtype must be floating, got .*int32"),
        (
            dict(initial=np.ones((4, 3), np.int32)),
            TypeError,
            "initial must be floating, got dtype int32",
        ),
        (
            dict(initial=np.ones((3, 4), np.float32)),
            ValueError,
            r"initial must be \[n, d\] = \[4, 3\].*got shape \(3, 4\)",
        ),
        (
            dict(initial=np.ones((4, 3), np.float32), restarts=2),
            ValueError,
            "initial takes their place, got 2 with initial: leave one",
        ),
    ],
)
def test_what_is_refused(key, options, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(partial(minimize, **(dict(n=4, d=3) | options)), key)
