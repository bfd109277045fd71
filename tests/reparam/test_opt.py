"""OPT: maps, frozen neurons, what training preserves, tied rotations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from tests.reparam.draws import draw, params_of, perturbed

sr: Any = sx.reparam


METHODS = (
    "cayley",
    "cayley_neumann",
    "exponential",
    "gram_schmidt",
    "householder",
    "lowdin",
)


@pytest.mark.parametrize("method", METHODS)
def test_matrices_are_those_of_the_map_of_that_name(method, key):
    """Maps of scaled raw arrays; sphax.orthogonal has the tests of the maps."""
    scales = {"householder": 1.0}
    training = sr.orthogonal(method=method, neuron_init="given")
    params = {"kernel": draw(4, 3)}

    @jax.jit
    def run(key):
        free, frozen = training.init(key, params)
        free = perturbed(free, 1, 0.1)
        raw = free["kernel"].left[0, 0, 0]
        matrix = getattr(sx.orthogonal, method)(scales.get(method, 0.5) * raw)
        return training.apply(free, frozen)["kernel"], matrix

    kernel, matrix = run(key)
    np.testing.assert_allclose(kernel, matrix @ params["kernel"], atol=1e-6)


# Whole rotations, since blocks preserve parts of neurons only: a map of a
# skew-symmetric matrix, a map of directions, and the methods that redraw. That all maps
# are orthogonal wherever training leads is tested with sphax.orthogonal.
OPTIMIZED: dict[str, Any] = {
    "one block": sr.orthogonal(neuron_init="given"),
    "householder": sr.orthogonal(method="householder"),
    "s-opt": sr.stochastic_orthogonal(fraction=0.4),
    "poet": sr.poet(block_size=5, method="cayley"),
}


def invariants(kernel):
    """Lengths, energy and singular values, in float64."""
    rows = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows / lengths[:, None]
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    energy = np.mean(1 / distances[~np.eye(len(rows), dtype=bool)])
    return [lengths, energy, np.linalg.svd(rows, compute_uv=False)]


@pytest.mark.parametrize("name", OPTIMIZED)
def test_neither_adam_nor_weight_decay_breaks_orthogonality(name, key):
    training = OPTIMIZED[name]
    adam, target = optax.adamw(0.1, weight_decay=0.1), draw(2, 2, 3, 8, seed=7)

    def loss(free, frozen):
        kernel = training.apply(free, frozen)["conv"]["kernel"]
        return jnp.mean((kernel - target) ** 2)

    def step(carry, _):
        free, frozen, state = carry
        value, gradient = jax.value_and_grad(loss)(free, frozen)
        updates, state = adam.update(gradient, state, free)
        return (optax.apply_updates(free, updates), frozen, state), value

    @jax.jit
    def train(free, frozen):
        carry, losses = jax.lax.scan(step, (free, frozen, adam.init(free)), length=12)
        free, frozen, _ = carry
        free, frozen, _ = training.advance(key, free, frozen)
        return training.apply(perturbed(free, 3), frozen), losses

    free, frozen = training.init(key, params_of())
    merged, losses = train(free, frozen)
    assert losses[-1] < losses[0]
    before = invariants(frozen["conv/kernel"].kernel)
    after = invariants(merged["conv"]["kernel"])
    assert np.max(np.abs(merged["conv"]["kernel"] - frozen["conv/kernel"].kernel)) > 0.1
    same = slice(2, 3) if name == "poet" else slice(3)
    for old, new in zip(before[same], after[same], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)


@pytest.mark.parametrize("method", ["cayley", "gram_schmidt", "householder"])
def test_a_step_turns_neurons_alike_whatever_the_block_size(method, key):
    def angle(size, key):
        training = sr.orthogonal(method=method, block_size=size)
        free, frozen = training.init(key, {"kernel": jnp.ones((32, 8))})
        signs = jnp.sign(jax.random.normal(key, free["kernel"].left.shape))
        free = {"kernel": sr.Rotations(free["kernel"].left + 1e-2 * signs)}
        kernel, old = training.apply(free, frozen)["kernel"], frozen["kernel"].kernel
        return jnp.mean(sx.sphere.angle(kernel.T, old.T))

    small, large = jax.jit(lambda key: (angle(4, key), angle(32, key)))(key)
    assert 0.7 < small / large < 1.4
    assert 0.5e-2 < large < 4e-2


def test_what_is_frozen(key):
    def rows(start, n, d, initial: Any = "identity"):
        training = sr.orthogonal(neuron_init=start, rotation_init=initial)
        free, frozen = training.init(key, {"kernel": jnp.ones((d, n))})
        return np.asarray(frozen["kernel"].kernel, np.float64).T, free["kernel"].left

    gaussian, _ = rows("gaussian", 400, 50)
    np.testing.assert_allclose(np.var(gaussian), 2 / 50, rtol=0.05)
    normalized, raw = rows("normalized", 5, 4, "normal")
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), 2**0.5, rtol=1e-6)
    assert 0.3 < np.std(raw) < 2.0
    # The least energy of n points in n - 1 dimensions or more: a simplex.
    least, _ = rows("minimum_energy", 4, 5)
    expected = 2 * (4 * np.eye(4) - 1) / 3
    np.testing.assert_allclose(least @ least.T, expected, atol=2e-3)
    constant, _ = rows(lambda key, n, d: jnp.full((n, d), 3.0), 3, 2)
    np.testing.assert_array_equal(constant, np.full((3, 2), 3.0))


def test_the_direct_form_is_for_descent_on_the_group(key):
    training = sr.orthogonal(method="identity", rotation_init="normal")
    free, frozen = training.init(key, {"kernel": draw(6, 4), "bias": draw(4)})
    descent = optax.partition(
        {True: sx.optim.orthogonal_descent(0.05), False: optax.sgd(0.05)},
        sr.rotation_mask,
    )
    target = draw(6, 4, seed=3)

    def loss(free):
        params = training.apply(free, frozen)
        return jnp.sum((params["kernel"] - target) ** 2) + jnp.sum(params["bias"] ** 2)

    @jax.jit
    def step(free, state):
        value, gradient = jax.value_and_grad(loss)(free)
        updates, state = descent.update(gradient, state, free)
        return optax.apply_updates(free, updates), state, value

    state, losses = descent.init(free), []
    for _ in range(10):
        free, state, value = step(free, state)
        losses.append(value)
    assert losses[-1] < 0.9 * losses[0]
    assert np.max(sx.orthogonal.orthogonality_error(free["kernel"].left)) < 1e-5


SHAPES: dict[str, tuple[int, ...]] = {
    "a": (8, 3),
    "b": (2, 4, 5),
    "c": (6, 3),
    "d": (8, 3),
}


PARAMS = {
    name: {"kernel": draw(*shape, seed=i)}
    for i, (name, shape) in enumerate(SHAPES.items())
}


def cayley(raw, block_size):
    """Block-diagonal, in float64."""
    blocks = []
    for a in np.asarray(raw, np.float64).reshape(-1, block_size, block_size):
        s = np.triu(a, 1) / block_size**0.5
        s, eye = s - s.T, np.eye(block_size)
        blocks.append(np.linalg.inv(eye - s) @ (eye + s))
    size = block_size * len(blocks)
    matrix = np.zeros((size, size))
    for i, block in enumerate(blocks):
        at = slice(i * block_size, (i + 1) * block_size)
        matrix[at, at] = block
    return matrix


@pytest.mark.parametrize("side", ["left", "both"])
def test_kernels_of_one_dimension_turn_together(side, key):
    convolution = {"b/kernel": sx.neurons.NeuronDimensions()}  # over one axis
    training = sx.reparam.orthogonal(
        side=side,
        neuron_init="given",
        block_size=None if side == "both" else 4,
        tie=True,
        neurons=convolution,
    )
    free, frozen = training.init(key, PARAMS)
    lefts = {name: free[name]["kernel"].left for name in SHAPES}
    assert [name for name, raw in lefts.items() if raw is not None] == ["a", "c"]
    learned = jax.tree.map(lambda x: x + draw(*x.shape, seed=9), free)
    turned = jax.jit(training.apply)(learned, frozen)
    for name, left in {"a": "a", "b": "a", "c": "c", "d": "a"}.items():
        v = np.asarray(PARAMS[name]["kernel"], np.float64)
        w = v.reshape(-1, v.shape[-1])
        raw = learned[left]["kernel"].left
        w = cayley(raw, raw.shape[-1]) @ w
        if side == "both":
            # Three neurons each have a, c and d; five has b.
            right = learned["b" if name == "b" else "a"]["kernel"].right
            w = w @ cayley(right, right.shape[-1]).T
        np.testing.assert_allclose(
            turned[name]["kernel"], w.reshape(v.shape), rtol=1e-4, atol=1e-5
        )


def test_all_kernels_move_what_they_share(key):
    """In a model, by an optimizer, with energies that stay what they were."""
    model = nnx.Sequential(
        nnx.Linear(6, 6, rngs=nnx.Rngs(0)), nnx.Linear(6, 6, rngs=nnx.Rngs(1))
    )
    graphdef, params = nnx.split(model, nnx.Param)
    training = sx.reparam.orthogonal(tie=True, neuron_init="given")
    free, frozen = training.init(key, params)
    adam = optax.adam(0.1)

    def loss(free):
        model: Any = nnx.merge(graphdef, training.apply(free, frozen))
        return jnp.mean(jnp.sin(model(draw(5, 6))))

    @jax.jit
    def update(free):
        updates, _ = adam.update(jax.grad(loss)(free), adam.init(free), free)
        return optax.apply_updates(free, updates)

    before = nnx.state(model)
    after = training.merge(jax.block_until_ready(update(free)), frozen)
    for layer in (0, 1):
        old = np.asarray(before["layers"][layer]["kernel"][...])
        new = np.asarray(after["layers"][layer]["kernel"][...])
        assert np.max(np.abs(new - old)) > 1e-2
        np.testing.assert_allclose(new.T @ new, old.T @ old, atol=1e-5)
