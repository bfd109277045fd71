"""Rotated frozen neurons: what they are, what training keeps, what advance folds."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from sphax._paths import by_path

sr: Any = sx.reparam
is_rotations = partial(lambda kind, x: isinstance(x, kind), sr.Rotations)

# All that rotate by Cayley's map, of kernels with 12 dimensions and 8 neurons.
CAYLEY: dict[str, Any] = {
    "one block": sr.orthogonal(neuron_init="given"),
    "both sides": sr.orthogonal(side="both", block_size=5),
    "right side": sr.orthogonal(side="right", block_size=4, share_blocks=True),
    "oft": sr.oft(block_size=4, share_blocks=True, rescale=True),
    "boft": sr.boft(block_size=2, factors=2),
    "s-opt": sr.stochastic_orthogonal(fraction=0.4),
    "poet": sr.poet(block_size=5, method="cayley"),
    "poet, subset": sr.poet(block_size=3, sampling="subset", method="cayley"),
}
REDRAWN = {"s-opt", "poet", "poet, subset"}
ALL: dict[str, Any] = {
    **CAYLEY,
    **{
        method: sr.orthogonal(method=method, block_size=6)
        for method in ("exponential", "gram_schmidt", "householder", "lowdin")
    },
}


def draw(*shape, seed=0, dtype: Any = jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def params_of(dtype: Any = jnp.float32):
    return {
        "conv": {"bias": draw(8, dtype=dtype), "kernel": draw(2, 2, 3, 8, dtype=dtype)}
    }


def perturbed(tree, seed, size: Any = 0.5):
    """The tree with noise in all of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        leaf + size * draw(*leaf.shape, seed=seed + i, dtype=leaf.dtype)
        for i, leaf in enumerate(leaves)
    )


def rotation(raw, order, d):
    """The matrix of all factors, by Cayley's map, in float64."""
    total, size = np.eye(d), raw.shape[-1]
    for i, blocks in enumerate(np.asarray(raw, np.float64)[0]):
        order_i = np.arange(d).reshape(-1, size) if order is None else order[i]
        factor = np.eye(d)
        for j, at in enumerate(np.asarray(order_i)):
            s = np.triu(blocks[j % len(blocks)], 1) / size**0.5
            s = s - s.T
            eye = np.eye(size)
            factor[np.ix_(at, at)] = np.linalg.inv(eye - s) @ (eye + s)
        total = factor @ total
    return total


def kernel_of(rotations, frozen):
    """W = R V P' D."""
    v = np.asarray(frozen.kernel, np.float64)
    w = v.reshape(-1, v.shape[-1])
    if rotations.left is not None:
        w = rotation(rotations.left, frozen.left, len(w)) @ w
    if rotations.right is not None:
        w = w @ rotation(rotations.right, frozen.right, w.shape[1]).T
    if rotations.scale is not None:
        w = w * np.asarray(rotations.scale)
    return w.reshape(v.shape)


@pytest.mark.parametrize("name", CAYLEY)
@pytest.mark.usefixtures("x64")
def test_kernels_and_their_derivatives_are_those_of_the_definition(name, key):
    training = CAYLEY[name]
    free, frozen = training.init(key, params_of(jnp.float64))
    free = perturbed(free, 1)
    change = perturbed(jax.tree.map(jnp.zeros_like, free), 50)
    cotangent = draw(2, 2, 3, 8, seed=99, dtype=jnp.float64)

    @jax.jit
    def run(free, frozen):
        kernel = lambda free: training.apply(free, frozen)["conv"]["kernel"]  # noqa: E731
        value, tangent = jax.jvp(kernel, (free,), (change,))
        return value, tangent, jax.vjp(kernel, free)[1](cotangent)[0]

    value, tangent, gradient = run(free, frozen)

    def at(step):
        moved = jax.tree.map(lambda x, dx: x + step * dx, free, change)
        return kernel_of(moved["conv"]["kernel"], frozen["conv/kernel"])

    np.testing.assert_allclose(value, at(0.0), atol=1e-12)
    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    np.testing.assert_allclose(tangent, slope, atol=1e-8)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, change)
    total = sum(jax.tree.leaves(products["conv"]["kernel"]))
    np.testing.assert_allclose(total, np.sum(cotangent * slope), rtol=1e-7)


@pytest.mark.parametrize("name", ["both sides", "oft", "poet", "householder", "lowdin"])
def test_training_starts_at_the_frozen_neurons(name, key):
    params = params_of()

    @jax.jit
    def run(key):
        free, frozen = ALL[name].init(key, params)
        return ALL[name].apply(free, frozen), frozen["conv/kernel"].kernel

    applied, kernel = run(key)
    assert jax.tree.structure(applied) == jax.tree.structure(params)
    np.testing.assert_array_equal(applied["conv"]["bias"], params["conv"]["bias"])
    np.testing.assert_allclose(applied["conv"]["kernel"], kernel, atol=1e-5)
    assert np.array_equal(kernel, params["conv"]["kernel"]) == (name == "oft")


def invariants(kernel):
    """Lengths, energy and singular values, in float64."""
    rows = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows / lengths[:, None]
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    energy = np.mean(1 / distances[~np.eye(len(rows), dtype=bool)])
    return [lengths, energy, np.linalg.svd(rows, compute_uv=False)]


@pytest.mark.parametrize(
    "name",
    [
        "one block",
        "s-opt",
        "poet",
        "exponential",
        "gram_schmidt",
        "householder",
        "lowdin",
    ],
)
def test_neither_adam_nor_weight_decay_breaks_orthogonality(name, key):
    training = ALL[name]
    # Whole rotations, for energies to stay: blocks keep parts of neurons only.
    if name not in CAYLEY:
        training = sr.orthogonal(method=name)
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
    kept = slice(2, 3) if name == "poet" else slice(3)
    for old, new in zip(before[kept], after[kept], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)


@pytest.mark.parametrize("name", ["one block", *sorted(REDRAWN)])
def test_advance_folds_and_draws_anew(name, key):
    training = ALL[name]
    free, frozen = training.init(key, params_of())
    free = perturbed(free, 1)
    before, (new, folded, moved) = jax.jit(
        lambda free, frozen: (
            training.apply(free, frozen),
            training.advance(jax.random.key(1), free, frozen),
        )
    )(free, frozen)
    assert jax.tree.structure(new) == jax.tree.structure(free)
    assert jax.tree.structure(folded) == jax.tree.structure(frozen)
    after = training.merge(new, folded)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), after, before)
    is_redrawn = name in REDRAWN
    assert [bool(x) for x in jax.tree.leaves(moved["conv"]["kernel"])] == [
        is_redrawn for _ in jax.tree.leaves(free["conv"]["kernel"])
    ]
    assert not moved["conv"]["bias"]
    if is_redrawn:
        old, own = frozen["conv/kernel"], folded["conv/kernel"]
        assert not np.array_equal(old.left, own.left)
        assert len(np.unique(own.left)) == own.left.size
        assert not np.any(new["conv"]["kernel"].left)
        np.testing.assert_allclose(own.kernel, before["conv"]["kernel"], atol=1e-5)


def trainer(training, target, rate):
    """A step and the end of a cycle, of plain descent on a distance."""
    adam = optax.adam(rate)

    def loss(free, frozen):
        kernel = training.apply(free, frozen)["kernel"]
        return jnp.sum((kernel - target) ** 2)

    def step(free, frozen, state):
        value, gradient = jax.value_and_grad(loss)(free, frozen)
        updates, state = adam.update(gradient, state, free)
        return optax.apply_updates(free, updates), frozen, state, value

    def advance(key, free, frozen, state):
        free, frozen, moved = training.advance(key, free, frozen)
        return free, frozen, sr.reset_moments(adam, state, moved)

    return adam, step, advance


def test_moments_of_partitioned_optimizers_are_set_back(key):
    params = {"a": {"kernel": jnp.ones((8, 4))}, "bias": jnp.ones(3)}
    training = sr.stochastic_orthogonal()
    free, frozen = training.init(key, params)
    optimizer = optax.partition(
        {True: optax.trace(0.9), False: optax.trace(0.5)}, sr.rotation_mask
    )
    gradients = jax.tree.map(jnp.ones_like, free)
    _, state = optimizer.update(gradients, optimizer.init(free), free)
    _, _, moved = training.advance(key, free, frozen)
    reset = sr.reset_moments(optimizer, state, moved)
    assert jax.tree.structure(reset) == jax.tree.structure(state)
    rotations, others = (reset.inner_states[own].inner_state for own in (True, False))
    assert not np.any(rotations.trace["a"]["kernel"].left)
    np.testing.assert_array_equal(others.trace["bias"], 1.0)


def test_a_run_that_resumes_within_a_cycle_is_the_same_bit_by_bit(key):
    training = sr.poet(block_size=3)
    adam, step, advance = trainer(training, draw(6, 4, seed=1), 0.05)
    step, advance = jax.jit(step), jax.jit(advance)

    def run(carry, first, last):
        for i in range(first, last):
            if i and i % 4 == 0:
                carry = advance(jax.random.fold_in(key, i), *carry)
            *carry, _ = step(*carry)
        return carry

    free, frozen = training.init(key, {"kernel": draw(6, 4)})
    start = free, frozen, adam.init(free)
    whole = run(start, 0, 11)
    saved = jax.tree.map(np.array, run(start, 0, 6))
    jax.tree.map(np.testing.assert_array_equal, run(saved, 6, 11), whole)


def test_stochastic_rotations_reach_every_rotation(key):
    v = draw(6, 6)
    target = sx.orthogonal.random_orthogonal(key, (6, 6), special=True) @ v
    training = sr.stochastic_orthogonal(fraction=0.5, neuron_init="given")
    rate = optax.exponential_decay(0.05, 2000, 0.3)
    adam, step, advance = trainer(training, target, rate)

    def inner(carry, _):
        *carry, value = step(*carry)
        return tuple(carry), value

    def cycle(carry, key):
        carry, values = jax.lax.scan(inner, carry, length=40)
        free, frozen, state = advance(key, *carry)
        return (free, frozen, state), values[-1]

    free, frozen = training.init(key, {"kernel": v})
    carry = free, frozen, adam.init(free)
    _, values = jax.jit(partial(jax.lax.scan, cycle))(carry, jax.random.split(key, 150))
    assert values[0] > 1.0  # one subset does not
    assert values[-1] < 1e-3 * values[0]


@pytest.mark.parametrize("method", ["cayley", "gram_schmidt", "householder"])
def test_a_step_turns_neurons_alike_whatever_the_block_size(method, key):
    @partial(jax.jit, static_argnums=0)
    def angle(size):
        training = sr.orthogonal(method=method, block_size=size)
        free, frozen = training.init(key, {"kernel": jnp.ones((64, 16))})
        signs = jnp.sign(jax.random.normal(key, free["kernel"].left.shape))
        free = {"kernel": sr.Rotations(free["kernel"].left + 1e-2 * signs)}
        kernel, old = training.apply(free, frozen)["kernel"], frozen["kernel"].kernel
        return jnp.mean(sx.sphere.angle(kernel.T, old.T))

    small, large = angle(8), angle(64)
    assert 0.7 < small / large < 1.4
    assert 0.5e-2 < large < 4e-2


def test_gradients_of_one_shard_each_add_up(key):
    training = sr.orthogonal(block_size=4)
    free, frozen = training.init(key, {"kernel": draw(8, 4)})
    free, inputs = perturbed(free, 1), draw(8, 8, seed=2)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def gradient(free, inputs):
        def loss(free):
            outputs = inputs @ training.apply(free, frozen)["kernel"]
            return jnp.mean(jnp.sin(outputs))

        return jax.grad(loss)(free)

    def of_shard(free, inputs):
        free = jax.lax.pcast(free, "data", to="varying")
        return jax.lax.pmean(gradient(free, inputs), "data")

    sharded = jax.shard_map(
        of_shard, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()
    )
    whole, parts = jax.jit(gradient)(free, inputs), jax.jit(sharded)(free, inputs)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), parts, whole)


def test_kernels_lie_as_they_did_outside_of_jit_too(key):
    """Even those that are drawn, of which the kernels given say the shape only."""
    sharding = NamedSharding(jax.make_mesh((4, 2), ("a", "b")), P("a", "b"))
    params = {"kernel": jax.device_put(draw(16, 8), sharding)}
    training = sr.poet(block_size=8)
    free, frozen = training.init(key, params)
    turned = training.apply(free, frozen)
    _, folded, _ = training.advance(key, free, frozen)
    for own in (frozen["kernel"].kernel, turned["kernel"], folded["kernel"].kernel):
        assert own.sharding == sharding


def test_vmap_is_a_loop(key):
    training, params = sr.orthogonal(), {"kernel": draw(6, 4)}

    @jax.jit
    def run(key):
        free, frozen = training.init(key, params)
        return training.apply(perturbed(free, 1), frozen)["kernel"]

    keys = jax.random.split(key, 3)
    each = np.stack([run(own) for own in keys])
    np.testing.assert_allclose(jax.vmap(run)(keys), each, atol=1e-5)


def test_leaves_are_chosen_by_path_shape_and_declaration(key):
    params = {
        **params_of(),
        "query": {"kernel": draw(6, 2, 4)},  # [features, heads, head_features]
        "head": {"prototypes": draw(5, 4), "kernel": draw(4, 5)},
        "single": {"kernel": draw(4, 1)},
    }
    heads = sx.neurons.NeuronDimensions(index_axis=2, vector_axis=0)
    rows = sx.neurons.NeuronDimensions(index_axis=0)
    training = sr.orthogonal(
        neuron_init="given",
        where=lambda path, leaf: path != "head/kernel" and leaf.size > 4,
        neurons={"query/kernel": heads, "head/prototypes": rows},
    )
    free, frozen = training.init(key, params)
    assert sorted(frozen) == ["conv/kernel", "head/prototypes", "query/kernel"]
    assert free["query"]["kernel"].left.shape == (2, 1, 1, 6, 6)
    assert free["head"]["prototypes"].left.shape == (1, 1, 1, 4, 4)
    moved = training.apply(perturbed(free, 1), frozen)
    for new, old in (
        (moved["query"]["kernel"][:, 1], params["query"]["kernel"][:, 1]),
        (moved["head"]["prototypes"].T, params["head"]["prototypes"].T),
    ):
        assert np.max(np.abs(new - old)) > 0.1
        np.testing.assert_allclose(new.T @ new, old.T @ old, atol=1e-5)
    mask = by_path(sr.rotation_mask(free), sr.Rotations)
    assert {name for name, leaf in mask.items() if is_rotations(leaf)} == set(frozen)


def test_the_state_of_a_model_stays_one(key):
    model = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model, nnx.Param)
    training = sr.oft(block_size=3)
    free, frozen = training.init(key, params)
    assert list(frozen) == ["kernel"]
    adam = optax.adam(0.1)

    @jax.jit
    def step(free, state, x):
        def loss(free):
            model = nnx.merge(graphdef, training.apply(free, frozen))
            return jnp.sum(jnp.sin(model(x)))

        updates, state = adam.update(jax.grad(loss)(free), state, free)
        return optax.apply_updates(free, updates), state

    free, _ = step(free, adam.init(free), draw(5, 6))
    merged = nnx.merge(graphdef, training.merge(free, frozen))
    assert np.max(np.abs(merged.kernel[...] - model.kernel[...])) > 1e-2
    np.testing.assert_allclose(
        np.linalg.norm(merged.kernel[...], axis=0),
        np.linalg.norm(model.kernel[...], axis=0),
        rtol=1e-5,
    )


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
    own, _ = rows(lambda key, n, d: jnp.full((n, d), 3.0), 3, 2)
    np.testing.assert_array_equal(own, np.full((3, 2), 3.0))


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


def test_the_relaxed_form_has_a_penalty(key):
    training = sr.relaxed_orthogonal(0.3, block_size=2)
    free, frozen = training.init(key, {"kernel": draw(6, 4), "bias": draw(4)})
    value, gradient = jax.value_and_grad(training.penalty)(free)
    assert value == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    free = perturbed(free, 1)
    blocks = np.asarray(free["kernel"].left, np.float64)[0, 0]
    errors = [np.linalg.norm(r.T @ r - np.eye(2)) for r in blocks]
    np.testing.assert_allclose(training.penalty(free), 0.3 * sum(errors), rtol=1e-5)
    full = np.zeros((6, 6))
    for i, block in enumerate(blocks):
        full[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
    kernel = training.apply(free, frozen)["kernel"]
    np.testing.assert_allclose(kernel, full @ frozen["kernel"].kernel, atol=1e-5)
    assert sr.orthogonal().penalty(free) == 0.0


def test_a_bound_holds_neurons_near_those_given(key):
    tuning = sr.oft(block_size=None, bound=0.1)
    free, frozen = tuning.init(key, {"kernel": draw(6, 50)})
    apply = jax.jit(tuning.apply)
    far, old = (
        apply(perturbed(free, 1, 100.0), frozen)["kernel"],
        frozen["kernel"].kernel,
    )
    cosines = np.sum(far * old, 0) / np.sum(np.square(old), 0)
    angles = np.arccos(np.minimum(cosines, 1.0))
    limit = 2 * np.arctan(0.1 / 2**0.5)
    assert 0.7 * limit < np.max(angles) < limit + 1e-4
    assert np.all(np.abs(apply(perturbed(free, 1, 1e-3), frozen)["kernel"] - old) < 0.1)
    gradient = jax.jit(
        jax.grad(lambda free: jnp.sum(tuning.apply(free, frozen)["kernel"] ** 3))
    )(free)
    assert np.all(np.isfinite(gradient["kernel"].left))
    assert np.any(gradient["kernel"].left)


@pytest.mark.parametrize(("factors", "is_dense"), [(2, False), (3, True)])
def test_butterflies_connect_all_coordinates(factors, is_dense, key):
    free, frozen = sr.boft(block_size=2, factors=factors).init(
        key, {"kernel": jnp.eye(8)}
    )
    raw = np.ones(free["kernel"].left.shape)
    assert raw.shape == (1, factors, 4, 2, 2)
    matrix = rotation(raw, frozen["kernel"].left, 8)
    assert np.all(np.abs(matrix) > 1e-6) == is_dense


@pytest.mark.parametrize("name", ["one block", "oft", "poet", "lowdin"])
def test_half_precision_stays(name, key):
    training = ALL[name]

    def run(key, params):
        free, frozen = training.init(key, params)
        free, frozen, _ = training.advance(key, free, frozen)
        return free, training.apply(free, frozen)

    free, kernels = jax.eval_shape(run, key, params_of(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(kernels)} == {jnp.dtype("bfloat16")}
    rotations = by_path(free, sr.Rotations)["conv/kernel"]
    assert {raw.dtype for raw in jax.tree.leaves(rotations)} == {jnp.dtype("float32")}


def test_rotations_of_bfloat16_kernels_train_as_those_of_float32(key):
    """Steps that are small beside a raw array count, as rounding would not let them."""
    given, inputs = draw(16, 8), draw(64, 16, seed=2)
    turn = sx.orthogonal.cayley(0.1 * draw(16, 16, seed=3))
    tuning, adam = sr.oft(block_size=None), optax.adam(5e-3)

    @partial(jax.jit, static_argnums=0)
    def train(dtype):
        params = {"kernel": given.astype(dtype)}
        free, frozen = tuning.init(key, params)
        outputs = inputs @ turn @ params["kernel"].astype(jnp.float32)

        def loss(free):
            # The rotation itself, without the rounding of the kernel that it makes.
            exact = {"kernel": frozen["kernel"]._replace(kernel=params["kernel"] * 1.0)}
            exact = jax.tree.map(lambda x: x.astype(jnp.float32), exact)
            kernel = tuning.apply(free, exact)["kernel"]
            return jnp.mean((inputs @ kernel - outputs) ** 2)

        def step(carry, _):
            free, state = carry
            value, gradient = jax.value_and_grad(loss)(free)
            updates, state = adam.update(gradient, state, free)
            return (optax.apply_updates(free, updates), state), value

        return jax.lax.scan(step, (free, adam.init(free)), length=400)[1]

    losses = train(jnp.bfloat16)
    assert losses[0] > 1.0
    assert losses[-1] < 1e-3 * losses[0]


def butterfly(raw, d):
    """R_m ... R_1 of the paper, in float64: an FFT butterfly on chunks of b / 2."""
    total, size = np.eye(d), raw.shape[-1]
    half = size // 2
    for i, blocks in enumerate(np.asarray(raw, np.float64)[0]):
        factor, seen, number = np.zeros((d, d)), set(), 0
        for chunk in range(d // half):
            partner = chunk ^ 2**i
            if chunk in seen:
                continue
            seen |= {chunk, partner}
            at = [c * half + k for c in (chunk, partner) for k in range(half)]
            s = np.triu(blocks[number], 1) / size**0.5
            s, eye, number = s - s.T, np.eye(size), number + 1
            factor[np.ix_(at, at)] = np.linalg.inv(eye - s) @ (eye + s)
        total = factor @ total
    return total


@pytest.mark.parametrize(("size", "factors", "d"), [(4, 3, 16), (2, 2, 12), (6, 2, 12)])
def test_butterflies_are_those_of_the_paper(size, factors, d, key):
    tuning = sr.boft(block_size=size, factors=factors)
    free, frozen = tuning.init(key, {"kernel": draw(d, 5)})
    free = perturbed(free, 1)
    own, v = free["kernel"], np.asarray(draw(d, 5), np.float64)
    assert own.left.shape == (1, factors, d // size, size, size)
    expected = butterfly(own.left, d) @ v * np.asarray(own.scale)
    np.testing.assert_allclose(
        tuning.apply(free, frozen)["kernel"], expected, atol=1e-5
    )


def released_permutation(d, blocks, half):
    """Where the release puts each coordinate: in runs, even chunks, then the odd."""
    run = d // blocks
    order = np.arange(run).reshape(-1, half)
    order = np.concatenate([order[0::2], order[1::2]]).ravel()
    return np.concatenate([order + start for start in range(0, d, run)])


def test_butterflies_have_the_blocks_of_the_release(key):
    """So that its checkpoints fit: row x of a factor is row perm[x] of its blocks."""
    d, size, factors = 32, 4, 3
    tuning = sr.boft(block_size=size, factors=factors)
    _, frozen = tuning.init(key, {"kernel": draw(d, 5)})
    order = np.asarray(frozen["kernel"].left)
    for i in range(factors):
        perm = released_permutation(d, d // size // 2**i, size // 2)
        places = np.argsort(perm).reshape(-1, size)
        np.testing.assert_array_equal(order[i], places)
    assert order[1, 0].tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("tuning", "blocks"),
    [
        (sr.boft(), {"a": 4, "c": 2}),
        (sr.boft(pattern="digits"), {"a": 4, "c": 2, "b": 3}),
        (sr.oft(block_size=6), {"a": 4, "b": 3, "c": 6}),
        (sr.orthogonal(block_size=6), {"a": 4, "b": 3, "c": 6}),
        (sr.relaxed_orthogonal(block_size=6), {"a": 4, "b": 3, "c": 6}),
    ],
)
def test_sizes_that_do_not_divide_shrink_blocks_or_leave_a_kernel_as_it_is(
    tuning, blocks, key
):
    sizes = {"a": 16, "b": 27, "c": 12, "d": 197}
    params = {name: {"kernel": jnp.ones((d, 2))} for name, d in sizes.items()}
    free, frozen = jax.eval_shape(tuning.init, key, params)
    found = {name: free[name]["kernel"].left.shape[-1] for name in blocks}
    assert found == blocks
    assert sorted(frozen) == sorted(f"{name}/kernel" for name in blocks)
    assert free["d"]["kernel"].shape == (197, 2)
    described = sr.describe(free, frozen).leaves
    assert described["d/kernel"].note == "none: not chosen"
    assert jax.eval_shape(tuning.apply, free, frozen)["d"]["kernel"].shape == (197, 2)


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (sr.orthogonal, dict(method="qr"), "method must be one of"),
        (sr.orthogonal, dict(rotation_init="zero"), "rotation_init must be one of"),
        (sr.orthogonal, dict(side="top"), "side must be one of"),
        (sr.orthogonal, dict(neuron_init="uniform"), "neuron_init must be one of"),
        (sr.orthogonal, dict(block_size=1), "block_size must be 2 or more, got 1"),
        (sr.orthogonal, dict(scale=0.0), "scale must be positive, got 0"),
        (sr.orthogonal, dict(method="identity", scale=2.0), "scale has no meaning"),
        (sr.oft, dict(bound=-1.0), "bound must be positive, got -1"),
        (sr.oft, dict(bound=1.0, method="lowdin"), "bound is on the skew-symmetric"),
        (sr.boft, dict(factors=0), "factors must be 1 or more, got 0"),
        (sr.stochastic_orthogonal, dict(fraction=1.5), r"fraction must lie in \(0, 1]"),
        (sr.poet, dict(sampling="random"), "sampling must be one of"),
    ],
)
def test_errors_of_options(make, options, match):
    with pytest.raises(ValueError, match=match):
        make(**options)


def test_errors_of_params(key):
    params = {"kernel": draw(7, 4)}
    for training, match in (
        (
            sr.orthogonal(block_size=4),
            r"must divide the dimension .* got kernel \(7, 4",
        ),
        (sr.boft(), r"must divide the dimension .* got kernel \(7, 4\)"),
        (
            sr.orthogonal(where=lambda path, leaf: False),
            "where must choose one leaf or",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            training.init(key, params)
    training = sr.orthogonal()
    free, _ = training.init(key, params)
    with pytest.raises(ValueError, match="frozen must be that of free, got neurons"):
        training.apply(free, {})


KEY, PARAMS = jax.random.key(0), {"kernel": jnp.ones((8, 4))}
# Wrong kinds of arguments, and what their errors teach.
WRONG: list[tuple[Any, str]] = [
    (lambda: sr.orthogonal(where="conv"), "where must be a function .* got 'conv'"),
    (
        lambda: sr.orthogonal(block_size="8"),
        "block_size must be an integer, got '8'",
    ),
    (lambda: sr.oft(block_size=8.0), "block_size must be an integer, got 8.0"),
    (lambda: sr.boft(factors="2"), "factors must be an integer, got '2'"),
    (lambda: sr.poet(block_size=None), "block_size must be an integer, got None"),
    (lambda: sr.orthogonal(scale="1"), "scale must be a number, got '1'"),
    (lambda: sr.oft(bound="1"), "bound must be a number, got '1'"),
    (lambda: sr.stochastic_orthogonal(fraction="1"), "fraction must be a number"),
    (lambda: sr.relaxed_orthogonal("1.0"), "weight must be a number, .* got '1.0'"),
    (
        lambda: sr.oft().init(PARAMS, KEY),
        "key, the first .* random key, .* got dict",
    ),
    (lambda: sr.oft().init(0, PARAMS), r"as jax.random.key\(0\), got 0"),
    (lambda: sr.poet().advance(0, PARAMS, {}), "of advance, must be a random key"),
    (
        lambda: sr.multiplicative_dropout(PARAMS, KEY, 0.1),
        "key, the first .* random key, .* got dict",
    ),
    (lambda: sr.multiplicative_dropout(KEY, {}, "1"), "rate must be a number"),
]


@pytest.mark.parametrize(("call", "match"), WRONG)
def test_arguments_of_the_wrong_kind(call, match):
    with pytest.raises(TypeError, match=match):
        call()
