"""Margins: their definitions, the seed's criterion, schedules, pytrees, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests.margins.tables import MARGINS, sphereface

NAMES = list(MARGINS)
STRICT = [name for name, row in MARGINS.items() if not row.exception]


@pytest.mark.parametrize("name", NAMES)
def test_psi_and_eta_are_their_definitions(name):
    row = MARGINS[name]
    angles = np.linspace(0, np.pi, 1001)
    psi = row.margin(jnp.asarray(angles, jnp.float32))
    # Float32 angles next to a jump may fall on its other side.
    away = np.all([np.abs(angles - kink) > 1e-5 for kink in row.kinks or (9.0,)], 0)
    np.testing.assert_allclose(psi[away], row.psi(angles)[away], atol=5e-6)
    cosines = jnp.asarray(np.cos(angles[1:-1]), jnp.float32)
    eta = row.margin.negatives(cosines[None], jnp.array([0.3]))[0]
    np.testing.assert_allclose(eta, row.eta(angles[1:-1]), atol=2e-4)
    assert row.margin.modifies_negatives == (row.eta is not np.cos)


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.usefixtures("x64")
def test_criterion_of_a_margin(name):
    """Psi below what the others get on (0, pi], and decreasing."""
    margin = MARGINS[name].margin
    angles = jnp.linspace(0, jnp.pi, 4001)[1:]
    psi, eta = margin(angles), margin.negatives(jnp.cos(angles), angles)
    assert bool(jnp.all(psi < eta))
    assert bool(jnp.all(jnp.diff(psi) < 0))


def test_exceptions_to_the_criterion_are_real():
    angles = jnp.linspace(0, jnp.pi, 4001)[1:]
    for name in set(NAMES) - set(STRICT):
        margin = MARGINS[name].margin
        psi, eta = margin(angles), margin.negatives(jnp.cos(angles), angles)
        assert not bool(jnp.all(psi < eta) & jnp.all(jnp.diff(psi) < 0)), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("x64")
def test_slope_against_finite_differences(name):
    row = MARGINS[name]
    angles = np.linspace(0.013, 3.1, 97)
    angles = angles[
        [np.min(np.abs(a - np.array((9.0, *row.kinks)))) > 1e-3 for a in angles]
    ]
    slopes = jax.vmap(jax.grad(row.margin))(jnp.asarray(angles))
    numerical = (row.psi(angles + 1e-6) - row.psi(angles - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes, numerical, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_multiplicative_margin_at_the_tables_angles(m):
    # spec of the ICML paper's Figure 3, by hand from (-1)^k cos(m theta) - 2k.
    table = {
        2: [1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3],
        3: [1, 0, -0.707107, -1, -2, -3, -3.292893, -4, -5],
        4: [1, -0.5, -1, -1.5, -3, -4.5, -5, -5.5, -7],
    }
    degrees = jnp.array([0, 30, 45, 60, 90, 120, 135, 150, 180.0])
    psi = sx.margins.SphereFace(m=m)(jnp.deg2rad(degrees))
    np.testing.assert_allclose(psi, table[m], atol=3e-6)
    slope = jax.vmap(jax.grad(sx.margins.SphereFace(m=m)))(jnp.deg2rad(degrees))
    np.testing.assert_allclose(
        slope, -m * np.abs(np.sin(m * np.deg2rad(degrees))), atol=3e-6
    )


def test_margin_angle_between_classes_of_equal_norm():
    """(m - 1) / (m + 1) of the angle between the prototypes: the paper's Section 3.2.

    A class keeps the angles up to the one at which psi equals the other's cosine.
    """
    between = math.pi / 3
    for m in (2, 3, 4):
        angles = jnp.linspace(0, between, 100_001)
        keeps = sx.margins.SphereFace(m=m)(angles) > jnp.cos(between - angles)
        boundary = float(angles[jnp.sum(keeps)])
        assert between - 2 * boundary == pytest.approx(
            (m - 1) / (m + 1) * between, abs=1e-4
        )


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_are_leaves(name):
    margin = MARGINS[name].margin
    leaves, structure = jax.tree.flatten(margin)
    assert all(isinstance(leaf, float) for leaf in leaves)
    angles = jnp.linspace(0.1, 3.0, 5)
    rebuilt = jax.tree.unflatten(structure, leaves)
    np.testing.assert_array_equal(rebuilt(angles), margin(angles))
    # Per example, under vmap, and with placeholders in the place of leaves.
    rows = jax.tree.map(lambda leaf: jnp.full(5, leaf), margin)
    np.testing.assert_allclose(rows(angles), margin(angles), rtol=1e-6, atol=1e-6)
    mapped = jax.vmap(lambda row, angle: row(angle))(rows, angles)
    np.testing.assert_allclose(mapped, margin(angles), rtol=1e-6, atol=1e-6)
    jax.tree.map(lambda _: object(), margin)


def test_a_new_value_compiles_nothing():
    traces = []

    @jax.jit
    def psi(margin, angle):
        traces.append(1)
        return margin(angle)

    for annealing in (5.0, 1.0, 0.0):
        psi(sx.margins.SphereFace(m=4, annealing=annealing), jnp.ones(3))
    for margin in (0.1, 0.5):
        psi(sx.margins.ArcFace(margin=margin), jnp.ones(3))
    assert len(traces) == 2


def test_hyperparameters_can_be_learned():
    angles = jnp.array([0.3, 1.0])
    slope = jax.grad(lambda m: sx.margins.ArcFace(margin=m)(angles).sum())(0.4)
    np.testing.assert_allclose(
        slope, -np.sin(np.asarray(angles) + 0.4).sum(), rtol=1e-6
    )
    own = sx.margins.Psi(lambda angle, m: jnp.cos(angle) - m, 0.2)
    slope = jax.grad(lambda margin: margin(angles).sum())(own)
    np.testing.assert_allclose(slope.leaves[0], -2.0)


@pytest.mark.parametrize(
    ("settings", "step", "value"),
    [  # lambda of the authors' layer at its t-th forward pass, t = step + 1
        (dict(base=1000, gamma=2.5e-5, power=35, minimum=0), 0, 999.1),
        (dict(base=1000, gamma=2.5e-5, power=35, minimum=0), 999, 421.4),
        (dict(base=1000, gamma=2.5e-5, power=35, minimum=0), 4999, 16.21),
        (dict(base=1000, gamma=2e-5, power=45, minimum=0), 9999, 0.2734),
        (dict(base=1000, gamma=1e-5, power=45, minimum=0), 17999, 0.5825),
        (dict(base=1000, gamma=0.12, power=1, minimum=5), 0, 892.9),
        (dict(base=1000, gamma=0.12, power=1, minimum=5), 999, 8.26),
        (dict(base=1000, gamma=0.12, power=1, minimum=5), 1658, 5.0),
    ],
)
def test_annealing_schedule(settings, step, value):
    schedule = sx.margins.annealing_schedule(**settings)
    np.testing.assert_allclose(float(schedule(step)), value, rtol=6e-4)
    np.testing.assert_allclose(
        float(jax.jit(schedule)(jnp.array(step))), value, rtol=6e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_margin_logits(name):
    row = MARGINS[name]
    rng = np.random.default_rng(0)
    cosines, labels = rng.uniform(-0.99, 0.99, (6, 5)), np.array([0, 4, 2, 2, 1, 3])
    logits = sx.margins.margin_logits(
        jnp.asarray(cosines, jnp.float32), jnp.asarray(labels), row.margin, scale=8.0
    )
    expected = row.eta(np.arccos(cosines))
    own = np.arange(6), labels
    expected[own] = row.psi(np.arccos(cosines[own]))
    np.testing.assert_allclose(logits, 8.0 * expected, atol=1e-4)


def test_margin_logits_where_the_angle_is_lost():
    cosines = jnp.array([[1.0, -1.0, 1.0 + 1e-6], [-1.0, 1.0, 0.0]])

    def total(cosines, margin):
        return sx.margins.margin_logits(cosines, jnp.array([0, 0]), margin).sum()

    for row in MARGINS.values():
        assert np.isfinite(np.asarray(jax.grad(total)(cosines, row.margin))).all()
    unknown = sx.margins.margin_logits(
        cosines, jnp.array([3, -1]), sx.margins.ArcFace()
    )
    assert np.isnan(np.asarray(unknown)).all()


def test_errors_teach():
    sm = sx.margins
    with pytest.raises(
        ValueError, match=r"SphereFace: m must lie in \[1, inf\), got 0.5"
    ):
        sm.SphereFace(m=0.5)
    with pytest.raises(ValueError, match="SphereFace: annealing must"):
        sm.SphereFace(annealing=-1)
    with pytest.raises(ValueError, match=r"ArcFace: margin must lie in .* got 28.6"):
        sm.ArcFace(margin=28.6)  # degrees
    with pytest.raises(ValueError, match="ArcFace: beyond must be one of .*'hard'"):
        sm.ArcFace(beyond="hard")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="SphereFaceR: version"):
        sm.SphereFaceR(version=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Combined: m1 must lie"):
        sm.Combined(m1=0.0)
    with pytest.raises(ValueError, match="CosFace: margin must lie .* got nan"):
        sm.CosFace(margin=math.nan)
    with pytest.raises(TypeError, match="Psi: function must be callable"):
        sm.Psi(0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="gamma must not be negative, got -1"):
        sm.annealing_schedule(gamma=-1)
    cosines, labels = jnp.ones((2, 3)), jnp.array([0, 1])
    with pytest.raises(TypeError, match="labels must be integer"):
        sm.margin_logits(cosines, labels * 1.0, sm.ArcFace())
    with pytest.raises(ValueError, match=r"labels must have the shape of cosines"):
        sm.margin_logits(cosines, labels[:1], sm.ArcFace())
    with pytest.raises(TypeError, match="cosines must be floating"):
        sm.margin_logits(labels, labels[0], sm.ArcFace())


def test_the_reference_of_the_staircase_is_one():
    """The NumPy sum over pieces meets psi(pi) = 1 - 2m."""
    for m in (2, 3, 4):
        assert sphereface(m)(np.array([np.pi]))[0] == pytest.approx(1 - 2 * m)
