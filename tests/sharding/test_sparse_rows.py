"""Optimizers of some rows: each row by itself, or all rows with zero gradients."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx

sparse_rows, apply_rows = sx.sharding.sparse_rows, sx.sharding.apply_rows
CLASSES = 7
# Rows of each step; rows 0 and 6 are never among them.
STEPS = [[1, 2, 5], [2, 3, 5], [1, 2, 4], [2, 4, 5]]


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


PARAMS = {
    "prototypes": draw(0, CLASSES, 3),
    "centers": draw(1, CLASSES, 2, 3),
    "bias": draw(2, CLASSES),
}
NEURONS = sx.neurons.NeuronDimensions(index_axis=0)
# Optimizers without schedules, with which each row can be compared by itself.
INNERS = {
    "sgd": optax.sgd(0.1),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adamw": optax.adamw(0.1, weight_decay=0.2),
    "rmsprop": optax.rmsprop(0.1, bias_correction=True),
    "lion": optax.lion(0.1),
    "injected": optax.inject_hyperparams(optax.adam)(0.1),
    "masked": optax.masked(
        optax.adam(0.1), {"prototypes": True, "centers": False, "bias": True}
    ),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.amsgrad(0.1)),
    "riemannian": sx.optim.riemannian_adam(
        0.1, neurons={"prototypes": NEURONS}, others=optax.adam(0.2)
    ),
}


def gradients(step, params):
    return {
        name: draw(10 + step, len(STEPS[0]), *x.shape[1:]) for name, x in params.items()
    }


def train(tx, params, *, steps=STEPS):
    """The params, and the state, after each step."""
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)

    @jax.jit
    def update(grads, state, params, rows):
        updates, state = tx.update(grads, state, params, rows=rows)
        return apply_rows(params, updates, rows), state

    history = [(params, state)]
    for step, rows in enumerate(steps):
        history.append(
            update(gradients(step, params), *reversed(history[-1]), jnp.array(rows))
        )
    return jax.tree.map(np.asarray, history)


@pytest.mark.parametrize("name", INNERS)
def test_frozen_is_an_optimizer_for_each_row(name):
    inner = INNERS[name]
    found, _ = train(sparse_rows(inner), PARAMS)[-1]

    @jax.jit
    def update(grad, state, param):
        updates, state = inner.update(grad, state, param)
        return optax.apply_updates(param, updates), state

    for row in range(CLASSES):
        param: Any = jax.tree.map(lambda x, r=row: jnp.asarray(x[r : r + 1]), PARAMS)
        state = inner.init(param)
        for step, rows in enumerate(STEPS):
            if row in rows:
                grads = gradients(step, PARAMS)
                i = rows.index(row)
                grad = jax.tree.map(lambda g, i=i: g[i : i + 1], grads)
                param, state = update(grad, state, param)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
            jax.tree.map(lambda x, r=row: x[r : r + 1], found),
            param,
        )


def test_adamw_with_a_count_for_each_row_and_a_schedule_of_all_steps():
    """Against the definition in float64."""

    def schedule(step):
        return 0.1 / (1.0 + step)

    b1, b2, eps, decay = 0.9, 0.999, 1e-8, 0.3
    inner = optax.adamw(schedule, b1, b2, eps, weight_decay=decay)
    found, state = train(sparse_rows(inner), PARAMS)[-1]
    w = PARAMS["prototypes"].astype(np.float64)
    first, second, counts = np.zeros_like(w), np.zeros_like(w), np.zeros(CLASSES)
    for step, rows in enumerate(STEPS):
        grad = gradients(step, PARAMS)["prototypes"].astype(np.float64)
        counts[rows] += 1
        first[rows] = b1 * first[rows] + (1 - b1) * grad
        second[rows] = b2 * second[rows] + (1 - b2) * grad**2
        mean = first[rows] / (1 - b1 ** counts[rows])[:, None]
        square = second[rows] / (1 - b2 ** counts[rows])[:, None]
        change = mean / (np.sqrt(square) + eps) + decay * w[rows]
        w[rows] -= schedule(step) * change
    np.testing.assert_allclose(found["prototypes"], w, rtol=2e-5)
    np.testing.assert_array_equal(state[0].count, counts)
    assert optax.tree.get_all_with_path(state, "count")[-1][1] == len(STEPS)


@pytest.mark.parametrize("name", ["nesterov", "adamw", "clipped"])
def test_dense_is_the_optimizer_of_zero_gradients_elsewhere(name):
    inner = INNERS[name]
    found = train(sparse_rows(inner, untouched="dense"), PARAMS)
    params: Any = jax.tree.map(jnp.asarray, PARAMS)
    state = inner.init(params)
    update = jax.jit(inner.update)
    for step, rows in enumerate(STEPS):
        grads = jax.tree.map(np.zeros_like, PARAMS)
        for leaf, grad in gradients(step, PARAMS).items():
            grads[leaf][rows] = grad
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        jax.tree.map(np.testing.assert_array_equal, found[step + 1], (params, state))


@pytest.mark.parametrize("untouched", ["frozen", "dense"])
def test_momentum_and_decay_of_a_row_that_is_not_sampled(untouched):
    rate, momentum, decay = 0.1, 0.9, 0.2
    inner = optax.chain(
        optax.sgd(rate, momentum), optax.add_decayed_weights(-rate * decay)
    )
    w = {"w": PARAMS["prototypes"]}
    steps = [[0, 1, 2], *3 * [[2, 3, 4]]]
    history = train(sparse_rows(inner, untouched=untouched), w, steps=steps)
    (before, state), (after, last) = history[1], history[-1]
    trace = optax.tree.get(state, "trace")["w"][:2]
    expected, old = before["w"][:2], trace
    if untouched == "dense":
        for _ in range(3):
            trace = momentum * trace
            expected = expected * (1 - rate * decay) - rate * trace
    np.testing.assert_allclose(after["w"][:2], expected, rtol=2e-6)
    np.testing.assert_allclose(optax.tree.get(last, "trace")["w"][:2], trace, rtol=2e-6)
    assert np.all(np.abs(old) > 1e-3)
    assert not np.any(after["w"][3] == before["w"][3])


def test_rows_on_a_sphere_stay_there():
    w = {"w": np.asarray(sx.sphere.normalize(PARAMS["prototypes"]))}
    inner = sx.optim.riemannian_sgd(0.1, momentum=0.9, neurons={"w": NEURONS})
    history = train(sparse_rows(inner), w)
    found = history[-1][0]["w"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(found[[0, 6]], w["w"][[0, 6]])
    assert np.all(np.abs(found[1:6] - w["w"][1:6]).max(axis=1) > 1e-3)


@pytest.mark.parametrize("untouched", ["frozen", "dense"])
def test_each_device_updates_its_rows(untouched):
    """As one device updates the rows of all."""
    tx = sparse_rows(INNERS["adamw"], untouched=untouched)
    params, grads = draw(0, 8, 3), draw(1, 4, 3)
    rows = np.array([[1], [0], [1], [1]], np.int32)

    def run(params, grads, rows):
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(grads, state, params, rows=rows)
            params = apply_rows(params, updates, rows)
        return params

    expected = jax.jit(run)(params, grads, rows[:, 0] + 2 * jnp.arange(4))
    mesh = jax.make_mesh((4, 2), ("c", "b"))
    split = jax.shard_map(run, mesh=mesh, in_specs=P("c"), out_specs=P("c"))
    placed = jax.device_put(
        (params, grads, rows.reshape(-1)), NamedSharding(mesh, P("c"))
    )
    np.testing.assert_allclose(jax.jit(split)(*placed), expected, rtol=1e-6)
    # Every part of a state that has rows lies where the params do.
    state = tx.init(placed[0])
    shardings = {x.sharding.spec[:1] for x in jax.tree.leaves(state) if x.ndim}
    assert shardings == {("c",)}


def test_updates_in_the_dtype_of_params():
    params, rows = jnp.ones((4, 2), jnp.bfloat16), jnp.array([1, 3])
    updates = jnp.full((2, 2), 2.0**-9, jnp.float32)
    whole = jnp.zeros((4, 2)).at[rows].set(updates)
    found = apply_rows(params, updates, rows)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, optax.apply_updates(params, whole))
    np.testing.assert_array_equal(found, apply_rows(params, whole, rows))


@pytest.mark.parametrize("untouched", ["frozen", "dense"])
def test_states_keep_their_dtypes_and_shapes(untouched):
    """In a loop, with narrow params and with arguments for other transforms."""
    inner = optax.adamw(optax.linear_schedule(0.1, 0.0, 9))
    tx = sparse_rows(inner, untouched=untouched)
    params = jnp.ones((4, 2), jnp.bfloat16)

    def step(carry, rows):
        params, state = carry
        updates, state = tx.update(params[:2], state, params, rows=rows, loss=1.0)
        return (apply_rows(params, updates, rows), state), None

    start: Any = params, tx.init(params)
    rows = jnp.array([[0, 2], [1, 2], [2, 3]])
    found: Any = jax.lax.scan(step, start, rows)[0]
    params, (moments, *_, schedule) = found
    assert params.dtype == jnp.bfloat16
    assert np.all(params < 1.0)
    expected = [1, 1, 3, 1] if untouched == "frozen" else 3
    np.testing.assert_array_equal(moments.count, expected)
    assert schedule.count == 3


def test_it_sees_which_params_are_its_own():
    """In a partition, with a clip in front of it, and by what optax maps over."""
    groups: Any = {"backbone": optax.sgd(0.1), "head": sparse_rows(optax.adam(0.1))}
    tx = optax.chain(
        optax.clip_by_global_norm(1e-3),
        optax.partition(groups, {"w": "head", "kernel": "backbone"}),
    )
    params = {"w": jnp.zeros((4, 2)), "kernel": jnp.ones((3, 3))}
    grads = {"w": jnp.ones((2, 2)), "kernel": jnp.ones((3, 3))}
    state = tx.init(params)
    updates: Any = tx.update(grads, state, params, rows=jnp.array([0, 2]))[0]
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-3)
    np.testing.assert_allclose(updates["kernel"], -0.1e-3 / 13**0.5, rtol=1e-5)
    tx = sparse_rows(optax.adam(0.1))
    state: Any = optax.tree.map_params(tx, lambda x: x + 1, tx.init(params["w"]))
    np.testing.assert_array_equal(state[0].mu, 1.0)
    np.testing.assert_array_equal(state[0].count, np.zeros(4))


def test_a_frozen_step_has_the_memory_of_its_rows():
    """Beside params and state, which are given away."""
    tx, params, rows = (
        sparse_rows(optax.adamw(0.1)),
        jnp.zeros((2000, 8)),
        jnp.arange(20),
    )

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, rows=rows)
        return apply_rows(params, updates, rows), state

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
        params, tx.init(params), params[:20]
    )
    memory: Any = lowered.compile().memory_analysis()
    assert memory.temp_size_in_bytes < params.nbytes / 4


class Square(NamedTuple):
    between: jax.Array


def of_pairs() -> optax.GradientTransformation:
    """A transform with a number for each pair of rows."""

    def init(params: Any):
        return Square(params @ params.T)

    return optax.GradientTransformation(init, optax.identity().update)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="inner must be an optimizer, such as optax"):
        sparse_rows(0.1)  # pyright: ignore
    with pytest.raises(ValueError, match="untouched must be one of"):
        sparse_rows(optax.sgd(0.1), untouched="still")  # pyright: ignore
    tx, params = sparse_rows(optax.sgd(0.1)), jnp.ones((4, 2))
    with pytest.raises(ValueError, match="as many rows in each leaf.*partition"):
        tx.init({"a": params, "b": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"state of .* got shape \(4, 4\) at .between"):
        sparse_rows(of_pairs()).init(params)
    state, rows = tx.init(params), jnp.array([0, 3])
    update: Any = tx.update
    with pytest.raises(ValueError, match="params must be given"):
        update(params[:2], state, rows=rows)
    with pytest.raises(ValueError, match=r"grads must be .* \(2, 2\) for 2 rows of"):
        update(params, state, params, rows=rows)
    with pytest.raises(ValueError, match=r"rows must be numbers \[rows\]"):
        update(params[:2], state, params, rows=rows[None])
    with pytest.raises(TypeError, match="rows must be integer"):
        apply_rows(params, params[:2], jnp.ones(2))
    with pytest.raises(ValueError, match=r"updates must be .* got \(3, 2\)"):
        apply_rows(params, params[:3], rows)
    shared = sparse_rows(optax.novograd(0.1))
    with pytest.raises(ValueError, match="inner must not let a row change"):
        shared.update(params[:2], shared.init(params), params, rows=rows)
