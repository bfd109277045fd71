"""Orthogonality penalties: values, gradients, singular points, masks, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

KINDS = ["soft", "double_soft", "mutual_coherence", "spectral"]
SHAPES = {"few": (3, 5), "many": (6, 4), "one": (1, 3)}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def penalty_of(kind, **kwargs):
    if kind == "spectral":
        kwargs.setdefault("key", jax.random.key(3))
    return jax.jit(partial(sx.orthogonal.orthogonality_penalty, kind=kind, **kwargs))


def step_of(kind, **kwargs):
    """Value and gradient, compiled as one piece."""
    return jax.jit(jax.value_and_grad(penalty_of(kind, **kwargs)))


def start_of(n):
    vector = np.asarray(jax.random.normal(jax.random.key(3), (n,), jnp.float64))
    return vector / np.linalg.norm(vector)


def definition(w, kind, *, normalize=False, iterations=2):
    """From the Gram matrices as they are written, ``w`` with vectors as rows."""
    n, d = w.shape
    if normalize or kind == "mutual_coherence":
        w = reference.directions(w)
    excess, other = w @ w.T - np.eye(n), w.T @ w - np.eye(d)
    if kind == "soft":
        return np.sum(excess**2)
    if kind == "double_soft":
        return np.sum(excess**2) + np.sum(other**2)
    if kind == "mutual_coherence":
        cosines = [abs(w[i] @ w[j]) for i in range(n) for j in range(i)]
        return max(cosines, default=0.0)
    # |A^k v| / |A^(k-1) v|, without a direction on the way.
    powers = [np.linalg.matrix_power(excess, i) @ start_of(n) for i in (0, 1, 2, 3, 4)]
    lengths = np.linalg.norm(powers, axis=1)
    return lengths[iterations] / lengths[iterations - 1]


# Coherence is of directions always; and one unit vector is orthonormal, where the
# spectral definition divides zero by zero.
CASES = [
    (kind, shape, normalize)
    for kind in KINDS
    for shape in SHAPES
    for normalize in (False, True)
    if not (normalize and (kind == "mutual_coherence" or shape == "one"))
]


@pytest.mark.parametrize(("kind", "shape", "normalize"), CASES)
@pytest.mark.usefixtures("x64")
def test_value_and_gradient_are_those_of_the_definition(kind, shape, normalize):
    w = 0.8 * draw(0, *SHAPES[shape])
    value, gradient = step_of(kind, normalize=normalize)(w)
    of = partial(definition, kind=kind, normalize=normalize)
    np.testing.assert_allclose(value, of(w), rtol=1e-12, atol=1e-12)
    expected = reference.numerical_gradient(of, w)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("x64")
def test_second_derivatives(kind):
    w = draw(1, 3, 4)
    gradient = jax.jit(jax.grad(penalty_of(kind)))
    hessian = jax.jit(jax.hessian(penalty_of(kind)))(w)
    for index in np.ndindex(3, 4):
        expected = reference.numerical_gradient(lambda w, at=index: gradient(w)[at], w)
        np.testing.assert_allclose(hessian[index], expected, rtol=1e-5, atol=1e-6)


def test_hand_worked_values():
    w = jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # Gram matrix diag(4, 1)
    np.testing.assert_allclose(penalty_of("soft")(w), 9.0)
    np.testing.assert_allclose(penalty_of("double_soft")(w), 9.0 + 9.0 + 1.0)
    np.testing.assert_allclose(penalty_of("mutual_coherence")(w), 0.0)
    # A = diag(3, 0): the first product has the direction already.
    np.testing.assert_allclose(penalty_of("spectral")(w), 3.0, rtol=1e-6)
    twins = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(penalty_of("soft")(twins), 2.0)
    np.testing.assert_allclose(penalty_of("mutual_coherence")(twins), 1.0)


@pytest.mark.usefixtures("x64")
def test_spectral_rises_to_the_norm():
    w = draw(2, 5, 8)
    norm = np.linalg.norm(w @ w.T - np.eye(5), 2)
    values = [float(penalty_of("spectral", iterations=k)(w)) for k in (1, 2, 4, 60)]
    assert values == sorted(values)
    assert values[0] < 0.95 * norm
    np.testing.assert_allclose(values[-1], norm, rtol=1e-12)
    assert definition(w, "spectral", iterations=4) == pytest.approx(values[2], 1e-12)


@pytest.mark.usefixtures("x64")
def test_no_more_vectors_than_dimensions_have_zero():
    frame, _ = np.linalg.qr(draw(3, 6, 6))
    for kind in KINDS:
        value, gradient = step_of(kind)(jnp.eye(4, 6))
        least = 2.0 if kind == "double_soft" else 0.0
        np.testing.assert_allclose(value, least, atol=1e-15)
        if kind != "spectral":  # which is rounding, along a direction that it chooses
            assert not np.any(gradient), kind
    # A tight frame, here an orthonormal basis twice over, is the best that is left.
    tight = jnp.asarray(np.concatenate([frame, frame]) / np.sqrt(2.0))
    for kind in ("soft", "double_soft"):
        value, gradient = step_of(kind)(tight)
        np.testing.assert_allclose(value, 6.0)
        np.testing.assert_allclose(gradient, np.zeros((12, 6)), atol=1e-12)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_singular_rows(kind, normalize):
    """Zero, coincident and antipodal rows; all of them, and one only."""
    row = jnp.array([0.6, 0.8, 0.0])
    zero = jnp.zeros(3)
    step = step_of(kind, normalize=normalize)
    for rows in ([zero] * 3, [row, zero, row], [row, -row, 2.0 * row], [row, row, row]):
        w = jnp.stack(rows)
        value, gradient = step(w)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
        if kind != "spectral" or normalize:
            is_zero = np.asarray(jnp.all(w == 0, axis=1))
            assert not np.any(np.asarray(gradient)[is_zero])


@pytest.mark.parametrize("shape", ["few", "many"])
@pytest.mark.parametrize("kind", ["soft", "double_soft", "mutual_coherence"])
@pytest.mark.usefixtures("x64")
def test_masked_rows_do_not_exist(kind, shape):
    w = draw(4, *SHAPES[shape])
    mask = np.arange(len(w)) != 1
    dirty = w.copy()
    dirty[1] = np.nan
    masked = step_of(kind, where=mask)(dirty)
    value, gradient = step_of(kind)(w[mask])
    np.testing.assert_allclose(masked[0], value, rtol=1e-12)
    np.testing.assert_allclose(masked[1][mask], gradient, rtol=1e-12, atol=1e-12)
    assert not np.any(masked[1][1])


@pytest.mark.usefixtures("x64")
def test_spectral_with_a_mask_is_that_of_the_rest():
    w = draw(4, 4, 5)
    mask, dirty = np.arange(4) != 1, w.copy()
    dirty[1] = np.nan
    rest = w[mask]
    value = penalty_of("spectral", iterations=200, where=mask)(dirty)
    norm = np.linalg.norm(rest @ rest.T - np.eye(3), 2)
    np.testing.assert_allclose(value, norm, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_left_is_zero(kind):
    w = jnp.full((3, 2), jnp.nan)
    value, gradient = step_of(kind, where=np.zeros(3, bool))(w)
    assert float(value) == 0.0
    assert not np.any(gradient)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes(kind, dtype):
    w = jnp.asarray(draw(5, 3, 4), dtype)
    value, gradient = step_of(kind)(w)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    if kind != "spectral":  # whose start is another in every dtype
        exact = definition(np.asarray(w, np.float64), kind)
        np.testing.assert_allclose(value, exact, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_dtype_is_promoted_unasked(kind):
    w = jnp.asarray(draw(5, 5, 4), jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        penalty_of(kind, where=jnp.arange(5) < 4)(w)


def test_vmap_is_a_loop():
    stack = jnp.asarray(draw(6, 3, 4, 5), jnp.float32)
    for kind in KINDS:
        penalty = penalty_of(kind)
        loop = [penalty(w) for w in stack]
        np.testing.assert_allclose(jax.vmap(penalty)(stack), loop, rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (TypeError, "points must be floating", {"points": jnp.ones((2, 2), int)}),
        (
            ValueError,
            r"points must be \[n, d\], got shape \(3,\)",
            {"points": np.ones(3)},
        ),
        (ValueError, "kind must be one of .*'hard'", {"kind": "hard"}),
        (ValueError, "got key=None; give a jax.random.key", {"kind": "spectral"}),
        (
            ValueError,
            "iterations must be 1 or more, got 0",
            {"kind": "spectral", "iterations": 0, "key": jax.random.key(0)},
        ),
        (TypeError, "where must be a boolean mask", {"where": np.ones(2)}),
        (ValueError, r"where must have the shape", {"where": np.ones(3, bool)}),
    ],
)
def test_errors_teach(error, match, arguments):
    with pytest.raises(error, match=match):
        sx.orthogonal.orthogonality_penalty(**{"points": np.ones((2, 2)), **arguments})
