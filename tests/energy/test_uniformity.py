"""Separation, polarisation, covering, Gram determinant, resultant, half-space forms."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

N, D = 6, 3
POLES = np.array([[0.3, -0.5, 0.8], [-0.6, 0.2, 0.1]])


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# The definitions, of points x with weights w; every pair of the set joined with its
# mirror image, but for a point and its own.


def joined(x, w, half):
    u, own = reference.directions(x), np.arange(len(x))
    if half:
        u, w, own = np.concatenate([u, -u]), np.tile(w, 2), np.tile(own, 2)
    return u, w, own


def squared_pairs(x, w, half):
    u, w, own = joined(x, w, half)
    pairs = [(i, j) for i in range(len(u)) for j in range(len(u)) if own[i] != own[j]]
    squares = np.array([np.sum((u[i] - u[j]) ** 2) for i, j in pairs])
    return squares, np.array([w[i] * w[j] for i, j in pairs])


def separation(x, w, half):
    squares, weights = squared_pairs(x, w, half)
    return -np.min(squares[weights > 0])


def soft_separation(x, w, half):
    squares, weights = squared_pairs(x, w, half)
    return np.log(np.average(np.exp(-7.0 * squares), weights=weights)) / 7.0


def max_gram_determinant(x, w, half):
    u, w, _ = joined(x, w, half)
    u = u[w > 0]
    kernel = np.exp(-0.5 * np.sum((u[:, None] - u[None]) ** 2, axis=-1))
    return -np.linalg.slogdet(kernel + 1e-6 * np.eye(len(u)))[1]


def resultant_length(x, w, half):
    return np.linalg.norm(np.average(reference.directions(x), axis=0, weights=w))


def at_poles(x, w, half, of_squares, poles=POLES):
    u, w, _ = joined(x, w, half)
    return max(of_squares(np.sum((u - v) ** 2, axis=1), w) for v in poles)


def potential(squares, w):
    return -np.average(squares ** (-0.5 * 3.0), weights=w)


def covering(squares, w):
    return -np.log(np.average(np.exp(-4.0 * squares), weights=w)) / 4.0


def hard_covering(squares, w):
    return np.min(squares[w > 0])


class Row(NamedTuple):
    function: Callable
    definition: Callable
    has_half: bool = True
    has_weights: bool = True
    has_poles: bool = False


unit_poles = reference.directions(POLES)
ENERGIES = {
    "separation": Row(sx.energy.separation, separation, has_weights=False),
    "soft separation": Row(
        partial(sx.energy.separation, sharpness=7.0), soft_separation
    ),
    "gram determinant": Row(
        partial(sx.energy.max_gram_determinant, scale=0.5),
        max_gram_determinant,
        has_weights=False,
    ),
    "resultant": Row(sx.energy.resultant_length, resultant_length, has_half=False),
    "polarization": Row(
        partial(sx.energy.polarization, power=3.0, steps=0),
        partial(at_poles, of_squares=potential, poles=unit_poles),
        has_poles=True,
    ),
    "covering": Row(
        partial(sx.energy.covering, sharpness=4.0, steps=0),
        partial(at_poles, of_squares=covering, poles=unit_poles),
        has_poles=True,
    ),
    "hard covering": Row(
        partial(sx.energy.covering, sharpness=None, steps=0),
        partial(at_poles, of_squares=hard_covering, poles=unit_poles),
        has_weights=False,
        has_poles=True,
    ),
}
CASES = [
    (name, half)
    for name, row in ENERGIES.items()
    for half in (False, True)[: row[2] + 1]
]


@cache
def energy_of(name, half):
    """A function of points and weights, nothing else."""
    row = ENERGIES[name]

    def energy(points, where):
        options = {"half_space": half} if row.has_half else {}
        if not row.has_poles:
            return row.function(points, where=where, **options)
        dtype = jnp.promote_types(points.dtype, jnp.float32)
        shape = (*points.shape[:-2], *POLES.shape)
        poles = jnp.broadcast_to(jnp.asarray(POLES, dtype), shape)
        return row.function(points, poles, where=where, **options)[0]

    return energy


@cache
def step_of(name, half):
    """Value and gradient, compiled as one piece."""
    return jax.jit(jax.value_and_grad(energy_of(name, half)))


@pytest.mark.parametrize(("name", "half"), CASES)
@pytest.mark.usefixtures("x64")
def test_value_and_gradient_are_those_of_the_definition(name, half):
    row = ENERGIES[name]
    x, kept = draw(1, N, D), np.arange(N) != 2
    weights = kept * np.arange(1.0, N + 1) if row.has_weights else kept.astype(float)
    dirty = np.where(kept[:, None], x, np.nan)
    value, gradient = step_of(name, half)(dirty, weights)
    of = partial(row.definition, w=weights[kept], half=half)
    np.testing.assert_allclose(value, of(x[kept]), rtol=1e-12)
    expected = reference.numerical_gradient(of, x[kept])
    np.testing.assert_allclose(gradient[kept], expected, rtol=1e-6, atol=1e-8)
    assert not np.any(gradient[~kept])


SINGULAR = {
    "zero": np.zeros((N, D)),
    "one zero": np.eye(N, D),
    "coincident": np.tile([0.6, 0.8, 0.0], (N, 1)) * np.arange(1, N + 1)[:, None],
    "antipodal": np.tile([0.6, 0.8, 0.0], (N, 1)) * [[1], [-1], [2], [-0.5], [1], [-1]],
    "at the poles": np.concatenate([POLES, -POLES, POLES]),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, jnp.float32) for name in ENERGIES]
    + [("separation", jnp.bfloat16), ("gram determinant", jnp.bfloat16)]
    + [("polarization", jnp.bfloat16)],
)
def test_singular_points_are_finite(name, dtype):
    half = dtype == jnp.bfloat16
    step, everything = step_of(name, half), np.ones(N, np.float32)
    for case, rows in SINGULAR.items():
        value, gradient = step(jnp.asarray(rows, dtype), everything)
        assert value.dtype == jnp.float32
        assert gradient.dtype == dtype
        assert np.isfinite(value), case
        assert np.all(np.isfinite(gradient.astype(np.float32))), case
        assert not np.any(gradient[np.all(rows == 0, axis=1)]), case
    x = draw(2, N, D)
    value, _ = step(jnp.asarray(x, dtype), everything)
    exact = ENERGIES[name].definition(
        np.asarray(jnp.asarray(x, dtype), np.float64), np.ones(N), half
    )
    np.testing.assert_allclose(value, exact, rtol=1e-4)


@pytest.mark.parametrize("name", ENERGIES)
def test_nothing_left_is_zero(name):
    nothing = jnp.full((N, D), jnp.nan)
    value, gradient = step_of(name, False)(nothing, np.zeros(N, np.float32))
    assert float(value) == 0.0
    assert not np.any(gradient)


@pytest.mark.parametrize("name", ["soft separation", "polarization"])
def test_batches_are_loops(name):
    points, weights = draw(3, 2, 2, N, D), np.arange(1.0, N + 1) > [[[2.0]], [[0.0]]]
    weights = jnp.asarray(np.broadcast_to(weights, (2, 2, N)), jnp.float32)
    points = jnp.asarray(points, jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        values = jax.jit(energy_of(name, False))(points, weights)
    loop = [
        [step_of(name, False)(points[i, j], weights[i, j])[0] for j in range(2)]
        for i in range(2)
    ]
    np.testing.assert_allclose(values, loop, rtol=1e-5)


# Known optima

CROSS_POLYTOPE = np.concatenate([np.eye(D), -np.eye(D)])
SIMPLEX = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [9, 9, 9]])
SIMPLEX = np.concatenate([SIMPLEX, SIMPLEX[-1:]])
ONLY = {n: (np.arange(N) < n).astype(float) for n in (3, 4, 6)}


@pytest.mark.parametrize(
    ("name", "half", "points", "count", "expected"),
    [
        ("separation", False, SIMPLEX, 4, -2 * 4 / 3),
        ("separation", False, CROSS_POLYTOPE, 6, -2.0),
        ("separation", True, CROSS_POLYTOPE, 3, -2.0),
        ("resultant", False, SIMPLEX, 4, 0.0),
        ("resultant", False, CROSS_POLYTOPE, 3, 3**-0.5),
        # The eigenvalues of a matrix with one number beside its diagonal.
        (
            "gram determinant",
            False,
            CROSS_POLYTOPE,
            3,
            -2 * np.log(1 + 1e-6 - np.exp(-1)) - np.log(1 + 1e-6 + 2 * np.exp(-1)),
        ),
    ],
)
@pytest.mark.usefixtures("x64")
def test_known_values(name, half, points, count, expected):
    value, _ = step_of(name, half)(points, ONLY[count])
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("half", [False, True])
def test_separation_of_near_points_keeps_its_digits(half):
    near = np.array([[1.0, 0.0, 0.0], [1.0, 1e-5, 0.0], *np.eye(D), [-1.0, 1.0, 1.0]])
    near[1] *= -3.0 if half else 3.0
    kept = np.arange(N) != 2  # one of those that coincide
    value, _ = step_of("separation", half)(
        jnp.asarray(near, jnp.float32), kept.astype(np.float32)
    )
    np.testing.assert_allclose(value, -1e-10, rtol=1e-5)


def test_the_determinant_of_clusters_in_float32():
    """Where the kernel is singular, up to the epsilon that is stated."""
    n = 64
    x = np.repeat(draw(4, 2, 8), n // 2, axis=0) * np.linspace(0.1, 9.0, n)[:, None]
    value = jax.jit(sx.energy.max_gram_determinant)(jnp.asarray(x, jnp.float32))
    u = reference.directions(x)
    kernel = np.exp(2 * u @ u.T - 2) + 8 * n * 2.0**-23 * np.eye(n)
    np.testing.assert_allclose(value, -np.linalg.slogdet(kernel)[1], rtol=0.02)


ERRORS = [
    (
        TypeError,
        "points must be floating",
        "separation",
        {"points": np.ones((2, 2), int)},
    ),
    (
        ValueError,
        r"points must be \[..., n, d\], got shape \(3,\)",
        "separation",
        {"points": np.ones(3)},
    ),
    (
        ValueError,
        "where must have the shape of points",
        "max_gram_determinant",
        {"where": np.ones(3)},
    ),
    (ValueError, "sharpness must be positive, got 0", "separation", {"sharpness": 0}),
    (ValueError, "scale must be positive", "max_gram_determinant", {"scale": -1.0}),
    (
        ValueError,
        "epsilon must not be negative",
        "max_gram_determinant",
        {"epsilon": -1.0},
    ),
]


@pytest.mark.parametrize(("error", "match", "name", "arguments"), ERRORS)
def test_errors_teach(error, match, name, arguments):
    arguments = {"points": np.ones((2, 2)), **arguments}
    with pytest.raises(error, match=match):
        getattr(sx.energy, name)(**arguments)
