"""Steepest descent on orthonormal frames: steps, descent, tangency, what it keeps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

stiefel_muon = sx.optim.stiefel_muon
HEADS = sx.neurons.NeuronDimensions(batch_axis=0)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def msign(a):
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return u @ v


def twice_symmetric(a):
    return a + a.T


def dual_direction(x, m, steps, rate):
    m = m / np.linalg.norm(m) * x.shape[1] ** 0.5
    multipliers = -twice_symmetric(x.T @ m) / 4
    for k in range(steps):
        b = msign(m + 2 * x @ multipliers)
        multipliers = multipliers - rate * (1 - k / steps) * twice_symmetric(x.T @ b)
    return -msign(m + 2 * x @ multipliers)


def definition(x, slopes, rate, beta, direction, nesterov):
    """Steps of a tall frame."""
    m = np.zeros_like(x)
    for g in slopes:
        m = beta * m + (1 - beta) * g
        ahead = beta * m + (1 - beta) * g if nesterov else m
        if direction == "plain":
            a = -msign(ahead)
        elif direction == "tangent":
            a = -msign(ahead - x @ twice_symmetric(x.T @ ahead) / 2)
        else:
            a = dual_direction(x, ahead, 12, 0.2)
        if direction != "plain":
            a = a - x @ twice_symmetric(x.T @ a) / 2
        x = msign(x + rate * a)
    return x


# Kernels are [in, out]: neurons are columns, and are orthonormal if there are fewer.
CASES = [
    ("dual", (7, 4)),
    ("dual", (11, 4)),
    ("tangent", (4, 6)),
    ("plain", (7, 4)),
]


@pytest.mark.parametrize(("direction", "shape"), CASES)
@pytest.mark.usefixtures("x64")
def test_steps_are_those_of_the_definition(direction, shape):
    transform: Any = stiefel_muon(
        0.1,
        momentum=0.8,
        nesterov=direction == "tangent",
        direction=direction,
        dual_steps=12,
        dual_rate=0.2,
        radius="mup" if direction == "tangent" else 1.5,
    )
    kernel, slopes = draw(0, *shape), draw(1, 4, *shape)
    params: Any = {"kernel": kernel}
    state, update = transform.init(params), jax.jit(transform.update)
    for slope in slopes:
        updates, state = update({"kernel": slope}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
    start = msign(kernel)
    is_wide = shape[0] < shape[1]
    if is_wide:
        start, slopes = start.T, slopes.mT
    expected = definition(start, slopes, 0.1, 0.8, direction, direction == "tangent")
    expected = expected.T * (6 / 4) ** 0.5 if is_wide else 1.5 * expected
    np.testing.assert_allclose(params["kernel"], expected, rtol=1e-8, atol=1e-9)


def first_moves(kernels, slopes, **options):
    """The first step of each, over the learning rate."""
    transform: Any = stiefel_muon(1e-6, momentum=0.0, neurons=HEADS, **options)
    params = {"kernel": kernels}
    updates, _ = transform.update({"kernel": slopes}, transform.init(params), params)
    return np.asarray(updates["kernel"]) / 1e-6


@pytest.mark.usefixtures("x64")
def test_moves_descend_are_tangent_and_the_dual_ones_are_best():
    frames, slopes = np.linalg.qr(draw(2, 20, 12, 8))[0], draw(3, 20, 12, 8)
    slopes *= np.geomspace(1e-3, 1e3, 20)[:, None, None]

    def quality(moves):
        """Descent by the spectral norm of the move, for slopes of norm 1."""
        inner = np.sum(slopes * moves, (1, 2)) / np.linalg.norm(slopes, axis=(1, 2))
        assert np.all(inner < 0.0)
        sizes = np.linalg.norm(moves, 2, axis=(1, 2))
        assert np.all(sizes < 1.3)
        off = frames.mT @ moves
        assert np.abs(off + off.mT).max() < 1e-4
        return -inner / sizes

    dual, tangent = (
        quality(first_moves(frames, slopes, direction=name))
        for name in ("dual", "tangent")
    )
    assert np.all(dual >= tangent)
    assert np.mean(dual / tangent) > 1.01
    # Every symmetric matrix bounds what any move can do, and the best ones to it.
    for x, m, found, other in list(zip(frames, slopes, dual, tangent, strict=True))[:4]:
        m = m / np.linalg.norm(m)
        bound, multipliers = np.inf, -twice_symmetric(x.T @ m) / 4
        for k in range(300):
            z = m + 2 * x @ multipliers
            bound = min(bound, np.linalg.norm(z, "nuc"))
            step = 0.1 * (1 - k / 300) / 8**0.5
            multipliers = multipliers - step * twice_symmetric(x.T @ msign(z))
        assert 0.96 * bound < found < (1.0 + 1e-6) * bound
        assert 0.89 * bound < other < 0.93 * bound


@pytest.mark.usefixtures("x64")
def test_the_move_of_a_square_matrix_is_exact():
    frames, slopes = np.linalg.qr(draw(4, 5, 4, 4))[0], draw(5, 5, 4, 4)
    moves = first_moves(frames, slopes)
    for x, m, move in zip(frames, slopes, moves, strict=True):
        y = x.T @ m
        np.testing.assert_allclose(move, -x @ msign((y - y.T) / 2), atol=1e-5)


def test_zero_gradients_move_nothing_and_the_radius_may_be_any():
    frame = np.linalg.qr(draw(6, 6, 3))[0]
    params = {"kernel": jnp.float32(2.5 * frame)}
    transform: Any = stiefel_muon(0.1, radius=2.5)
    update, state = jax.jit(transform.update), transform.init(params)
    updates, after = update(zeros_like(params), state, params)
    np.testing.assert_allclose(updates["kernel"], np.zeros((6, 3)), atol=2e-6)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(after))
    slopes = {"kernel": jnp.ones((6, 3)).at[0, 0].set(jnp.inf)}
    assert np.isnan(update(slopes, state, params)[0]["kernel"]).all()
    # A stretched one is put on the manifold first.
    params = {"kernel": params["kernel"] * jnp.array([[1.0, 10.0, 0.1]])}
    updates, _ = update(zeros_like(params), state, params)
    new = params["kernel"] + updates["kernel"]
    np.testing.assert_allclose(new, 2.5 * frame, atol=1e-5)


def zeros_like(params):
    return jax.tree.map(jnp.zeros_like, params)


def test_matrices_of_lower_rank_are_refused():
    kernel = draw(7, 6, 2) @ draw(8, 2, 3)
    for leaf in (jnp.float32(kernel), jnp.zeros((3, 6)), jnp.eye(4).at[2, 2].set(0.0)):
        with pytest.raises(ValueError, match="full rank, which is .* for kernel"):
            stiefel_muon(0.1).init({"kernel": leaf})
    # Far from orthonormal, but of full rank.
    hard = np.linalg.qr(draw(9, 6, 6))[0] * np.geomspace(1.0, 1e-5, 6)
    stiefel_muon(0.1).init({"kernel": jnp.float32(hard)})
