"""Multiplicative dropout: random blocks of rotations are the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

# One map of a skew-symmetric matrix, and the one whose raw arrays are not square. That
# all maps have the identity at zero is tested with sphax.orthogonal.
METHODS = ("cayley", "householder")


def learned(training, key, params):
    free, frozen = training.init(key, params)
    leaves, structure = jax.tree.flatten(free)
    noise = np.random.default_rng(0)
    leaves = [x + jnp.float32(noise.normal(size=x.shape)) for x in leaves]
    return structure.unflatten(leaves), frozen


@pytest.mark.parametrize("method", METHODS)
def test_dropped_blocks_leave_their_coordinates_alone(method, key):
    training = sx.reparam.orthogonal(method=method, block_size=4, neuron_init="given")
    params = {"kernel": jnp.eye(24)}
    free, frozen = learned(training, key, params)
    run = jax.jit(
        lambda key, rate: training.apply(
            sx.reparam.multiplicative_dropout(key, free, rate), frozen
        )["kernel"]
    )
    np.testing.assert_allclose(run(key, 1.0), np.eye(24), atol=1e-6)
    full = jax.jit(training.apply)(free, frozen)["kernel"]
    np.testing.assert_allclose(run(key, 0.0), full, atol=1e-6)
    some = np.asarray(run(key, 0.5))
    kept = 0
    for start in range(0, 24, 4):
        at = slice(start, start + 4)
        is_kept = np.allclose(some[at, at], full[at, at], atol=1e-5)
        assert is_kept or np.allclose(some[at, at], np.eye(4), atol=1e-5)
        kept += is_kept
    assert 0 < kept < 6


def test_each_block_of_each_factor_is_drawn_by_itself(key):
    tuning = sx.reparam.boft(block_size=2, factors=3, rescale=True)
    free, _ = learned(tuning, key, {"a": {"kernel": jnp.ones((8, 3))}})
    drop = jax.jit(sx.reparam.multiplicative_dropout)
    fewer = jax.vmap(drop, (0, None, None))(jax.random.split(key, 4_000), free, 0.3)
    left, scale = fewer["a"]["kernel"].left, fewer["a"]["kernel"].scale
    np.testing.assert_array_equal(scale[0], free["a"]["kernel"].scale)
    is_dropped = np.all(np.asarray(left) == 0.0, axis=(-2, -1)).reshape(4_000, -1)
    assert is_dropped.shape[1] == 12
    # Six standard deviations of a share, and of a correlation.
    np.testing.assert_allclose(is_dropped.mean(0), 0.3, atol=6 * 0.21**0.5 / 4_000**0.5)
    correlation = np.corrcoef(is_dropped.T) - np.eye(12)
    assert np.max(np.abs(correlation)) < 6 / 4_000**0.5


def test_gradients_of_dropped_blocks_are_zero_and_of_others_as_without(key):
    tuning = sx.reparam.oft(block_size=4)
    free, frozen = learned(tuning, key, {"kernel": jnp.ones((16, 3))})

    def total(free, rate):
        fewer = sx.reparam.multiplicative_dropout(key, free, rate)
        return jnp.sum(tuning.apply(fewer, frozen)["kernel"] ** 3)

    slope = jax.jit(jax.grad(total))
    some, full = (slope(free, rate)["kernel"].left for rate in (0.5, 0.0))
    raw = sx.reparam.multiplicative_dropout(key, free, 0.5)["kernel"].left
    is_dropped = np.all(np.asarray(raw) == 0.0, axis=(-2, -1))
    assert 0 < is_dropped.sum() < 4
    np.testing.assert_array_equal(some[is_dropped], 0.0)
    np.testing.assert_allclose(some[~is_dropped], full[~is_dropped], rtol=1e-5)


def test_errors(key):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1], got 1.5"):
        sx.reparam.multiplicative_dropout(key, {}, 1.5)
    with pytest.raises(ValueError, match="free must have rotations"):
        sx.reparam.multiplicative_dropout(key, {"kernel": jnp.ones((2, 2))}, 0.5)
