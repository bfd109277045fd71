"""Transforms: what they compute, which leaves they find, what they compose with."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import sphax as sx
from sphax.optim import NeuronDimensions

PROTOTYPES = {"head/prototypes": NeuronDimensions(index_axis=0)}


class Row(NamedTuple):
    """A transform with some of its hyperparameters, and what it does to rows."""

    make: Callable[..., optax.GradientTransformationExtraArgs]
    hyperparams: dict[str, Any]
    definition: Callable  # (updates, params) to updates, [n, d], in NumPy


def lengths(w):
    return np.linalg.norm(w, axis=1, keepdims=True)


TRANSFORMS = {
    "project_to_tangent": Row(
        sx.optim.project_to_tangent,
        {},
        lambda u, w: u - np.sum(u * w, 1, keepdims=True) * w / lengths(w) ** 2,
    ),
    "scale_by_neuron_norm": Row(
        sx.optim.scale_by_neuron_norm,
        {"power": 1.7},
        lambda u, w: lengths(w) ** 1.7 * u,
    ),
    "keep_params_on_sphere": Row(
        sx.optim.keep_params_on_sphere,
        {"radius": 1.5},
        lambda u, w: 1.5 * (w + u) / lengths(w + u) - w,
    ),
    "add_orthogonality_gradient": Row(
        sx.optim.add_orthogonality_gradient,
        {"weight": 0.1},
        lambda u, w: u + 0.4 * (w @ w.T - np.eye(len(w))) @ w,
    ),
}
each_transform = pytest.mark.parametrize("name", TRANSFORMS)


def make(name, **kwargs):
    row = TRANSFORMS[name]
    return row.make(**{"neurons": PROTOTYPES, **row.hyperparams, **kwargs})


def draw(seed, dtype: Any = np.float32):
    rng = np.random.default_rng(seed)
    shapes = {
        "conv": {"kernel": (2, 2, 2, 4), "bias": (4,)},
        "dense": {"kernel": (6, 3)},
        "head": {"prototypes": (5, 4)},
    }
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def start(transform, params) -> tuple[Any, Any]:
    """The update, compiled, and the state before the first."""
    return jax.jit(transform.update), transform.init(params)


def applied(params, updates) -> Any:
    return optax.apply_updates(params, updates)


def expected(name, updates, params):
    """The definition, for each leaf in its own layout."""
    of_rows = TRANSFORMS[name].definition

    def of_kernel(u, w):
        u, w = (np.asarray(x, np.float64).reshape(-1, x.shape[-1]).T for x in (u, w))
        return of_rows(u, w).T

    conv = of_kernel(updates["conv"]["kernel"], params["conv"]["kernel"])
    dense = of_kernel(updates["dense"]["kernel"], params["dense"]["kernel"])
    return {
        "conv": {"kernel": conv.reshape(2, 2, 2, 4), "bias": updates["conv"]["bias"]},
        "dense": {"kernel": dense},
        "head": {
            "prototypes": of_rows(
                np.asarray(updates["head"]["prototypes"], np.float64),
                np.asarray(params["head"]["prototypes"], np.float64),
            )
        },
    }


def close(actual, desired, **kwargs):
    kwargs = {"rtol": 1e-6, "atol": 1e-6, **kwargs}
    compare = partial(np.testing.assert_allclose, **kwargs)
    jax.tree.map(compare, actual, desired)


def run(transform, updates, params, **extra_args) -> Any:
    """One update from a new state, compiled as one piece."""

    @jax.jit
    def step(updates, params):
        state = transform.init(params)
        return transform.update(updates, state, params, **extra_args)

    return step(updates, params)


@each_transform
@pytest.mark.usefixtures("x64")
def test_update_is_that_of_the_definition(name):
    updates, params = draw(0, np.float64), draw(1, np.float64)
    new, state = run(make(name), updates, params)
    close(new, expected(name, updates, params), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(new["conv"]["bias"], updates["conv"]["bias"])
    assert sorted(state.neurons) == ["conv/kernel", "dense/kernel", "head/prototypes"]
    assert int(state.count) == 1


@each_transform
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtypes_are_kept_and_the_state_is_float32(name, dtype):
    updates, params = (
        jax.tree.map(lambda x: jnp.asarray(x, dtype), draw(seed)) for seed in (0, 1)
    )
    transform = make(name)
    state = transform.init(params)
    new, after = run(transform, updates, params)
    assert {x.dtype for x in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    for leaf in jax.tree.leaves(after):
        assert leaf.dtype in (jnp.int32, jnp.float32)
    spec = partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert jax.tree.leaves(spec(state)) == jax.tree.leaves(spec(after))
    exact = expected(name, updates, params)
    tolerance = 4 * float(jnp.finfo(dtype).eps)
    new, exact = (jax.tree.map(np.float64, tree) for tree in (new, exact))
    close(new, exact, rtol=tolerance, atol=tolerance)


@each_transform
def test_one_trace_takes_all_steps_and_unknown_arguments(name):
    transform, traces = make(name), []

    @jax.jit
    def step(updates, state, params):
        traces.append(1)
        return transform.update(updates, state, params, value=3.0)

    params = jax.tree.map(jnp.asarray, draw(1))
    state: Any = transform.init(params)
    for seed in range(3):
        new, state = step(draw(seed), state, params)
    assert len(traces) == 1
    assert int(state.count) == 3
    close(new, run(transform, draw(2), draw(1))[0])


@each_transform
def test_no_dtype_is_promoted_unasked(name):
    with jax.numpy_dtype_promotion("strict"):
        run(make(name), draw(0), draw(1))


@each_transform
def test_masks(name):
    updates, params = draw(0), draw(1)
    part = {**updates, "dense": expected(name, updates, params)["dense"]}
    mask = {"conv": False, "dense": True, "head": False}
    transforms = [
        make(name, mask=mask),
        optax.partition(
            {"on": make(name), "off": optax.identity()},
            {"conv": "off", "dense": "on", "head": "off"},
        ),
    ]
    for transform in transforms:
        new, state = run(transform, updates, params)
        assert list(optax.tree.get(state, "neurons")) == ["dense/kernel"]
        close(new, part, rtol=1e-5, atol=1e-5)


@each_transform
def test_injected_hyperparams_are_traced(name):
    row, updates, params = TRANSFORMS[name], draw(0), draw(1)
    injected = optax.inject_hyperparams(row.make)(**row.hyperparams, neurons=PROTOTYPES)
    step, state = start(injected, params)
    close(step(updates, state, params)[0], expected(name, updates, params), rtol=1e-5)
    for hyperparam in row.hyperparams:
        state.hyperparams[hyperparam] = jnp.float32(0.7)
        other, _ = run(make(name, **{hyperparam: 0.7}), updates, params)
        close(step(updates, state, params)[0], other)


@each_transform
def test_multi_steps(name):
    transform = optax.MultiSteps(make(name), every_k_schedule=2)
    params = jax.tree.map(jnp.asarray, draw(1))
    step, state = start(transform, params)
    first, state = step(draw(0), state, params)
    close(first, jax.tree.map(np.zeros_like, params))
    second, state = step(draw(2), state, params)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, draw(0), draw(2))
    close(second, run(make(name), mean, params)[0])
    assert int(state.inner_opt_state.count) == 1


@each_transform
def test_map_params_sees_what_is_shaped_like_params(name):
    transform = optax.chain(
        make(name), optax.scale_by_adam(), optax.masked(make(name), True)
    )
    params = draw(1)
    state = transform.init(params)
    names = jax.tree.map_with_path(lambda path, _: jax.tree_util.keystr(path), params)
    mapped: Any = optax.tree.map_params(
        transform,
        lambda _, name: name,
        state,
        names,
        transform_non_params=lambda _: "other",
    )
    assert mapped[1].mu == names
    assert mapped[0].neurons == mapped[0].count == "other"


@each_transform
def test_scan_and_vmap(name):
    transform = make(name)
    stack = jax.tree.map(lambda *x: jnp.stack(x), draw(1), draw(2))
    updates = jax.tree.map(lambda *x: jnp.stack(x), draw(3), draw(4))

    @jax.jit
    def train(updates, params):
        def step(carry, _):
            params, state = carry
            moves, state = transform.update(updates, state, params)
            moves = optax.tree.scale(0.1, moves)
            return (applied(params, moves), state), ()

        return jax.lax.scan(step, (params, transform.init(params)), length=2)[0][0]

    both = jax.jit(jax.vmap(train))(updates, stack)
    second = jax.tree.map(lambda x: x[1], both)
    close(second, train(draw(4), draw(2)), rtol=1e-5, atol=1e-5)


class Model(nnx.Module):
    """The leaves of `draw`."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (2, 2), rngs=rngs)
        self.dense = nnx.Linear(6, 3, use_bias=False, rngs=rngs)
        self.head = nnx.Dict(prototypes=nnx.Param(jnp.zeros((5, 4))))


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "tree"])
@each_transform
def test_nnx_optimizer(name, graph):
    with nnx.set_graph_mode(graph):
        model = Model()
        nnx.update(model, draw(1))
        labels = partial(
            jax.tree.map_with_path,
            lambda path, _: "off" if path[0].key == "conv" else "on",
        )
        groups: dict[Any, Any] = {"on": make(name), "off": optax.set_to_zero()}
        optimizer = nnx.Optimizer(model, optax.partition(groups, labels), wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer, updates):
            grads = nnx.state(model, nnx.Param)
            nnx.replace_by_pure_dict(grads, updates)
            optimizer.update(model, grads)

        for _ in range(2):
            before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
            step(model, optimizer, draw(0))
        after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moves = jax.tree.map(lambda new, old: new - old, after, before)
    close(moves["conv"], jax.tree.map(np.zeros_like, moves["conv"]))
    whole = expected(name, draw(0), before)
    close(moves["dense"], whole["dense"], rtol=1e-4, atol=1e-4)
    close(moves["head"], whole["head"], rtol=1e-4, atol=1e-4)


@each_transform
def test_zero_neurons(name):
    """A zero neuron has no direction: what each transform leaves of its update."""
    params, updates = draw(1), draw(0)
    params["dense"]["kernel"][:, 1] = 0.0
    new, _ = run(make(name), updates, params)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(new))
    given, column = updates["dense"]["kernel"][:, 1], new["dense"]["kernel"][:, 1]
    if name == "scale_by_neuron_norm":
        np.testing.assert_array_equal(column, np.zeros(6))
    elif name in ("project_to_tangent", "add_orthogonality_gradient"):
        np.testing.assert_array_equal(column, given)


def test_scaling_of_zero_neurons_is_zero_for_every_power():
    params, ones = {"kernel": jnp.zeros((3, 1))}, {"kernel": jnp.ones((3, 1))}
    for power in (-1.0, 0.0, 2):
        new, _ = run(sx.optim.scale_by_neuron_norm(power), ones, params)
        np.testing.assert_array_equal(new["kernel"], np.zeros((3, 1)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_params_stay_on_the_sphere(dtype):
    transform = optax.chain(
        optax.adam(0.1), sx.optim.keep_params_on_sphere(2.0, neurons=PROTOTYPES)
    )
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), draw(1))

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(params, state, params)
            return (applied(params, updates), state), ()

        return jax.lax.scan(step, (params, transform.init(params)), length=20)[0][0]

    rows = np.asarray(train(params)["head"]["prototypes"], np.float64)
    np.testing.assert_allclose(lengths(rows), 2.0, rtol=2 * float(jnp.finfo(dtype).eps))


def test_a_neuron_moved_to_the_origin_stays():
    params = {"kernel": jnp.array([[3.0, 1.0], [0.0, 1.0]])}
    updates = {"kernel": jnp.array([[-3.0, 2.0], [0.0, 3.0]])}
    new, _ = run(sx.optim.keep_params_on_sphere(), updates, params)
    moved = applied(params, new)["kernel"]
    np.testing.assert_allclose(moved, [[3.0, 0.6], [0.0, 0.8]], rtol=1e-6)


def test_params_return_to_the_sphere_in_every_third_step():
    transform = sx.optim.keep_params_on_sphere(every=3)
    params, update = {"kernel": jnp.array([[3.0], [4.0]])}, jnp.array([[3.0], [4.0]])
    (step, state), found = start(transform, params), []
    for _ in range(6):
        updates, state = step({"kernel": update}, state, params)
        params = applied(params, updates)
        found.append(float(jnp.linalg.norm(params["kernel"])))
    np.testing.assert_allclose(found, [10, 15, 1, 6, 11, 1], rtol=1e-6)


def test_tangent_steps_lengthen_to_second_order_only():
    params, updates = draw(1), draw(0)
    new, _ = run(make("project_to_tangent"), updates, params)
    w, u = params["head"]["prototypes"], np.asarray(new["head"]["prototypes"])
    np.testing.assert_allclose(
        lengths(w + u) ** 2, lengths(w) ** 2 + lengths(u) ** 2, rtol=1e-5
    )


@pytest.mark.usefixtures("x64")
def test_power_two_turns_neurons_by_an_angle_that_their_length_does_not_change():
    kernel, target = np.random.default_rng(0).normal(size=(2, 4, 1))

    @jax.jit
    def turned(scale, power):
        params = {"kernel": scale * kernel}
        grads = jax.grad(lambda p: sx.sphere.angle(p["kernel"].T, target.T).sum())(
            params
        )
        transform = sx.optim.scale_by_neuron_norm(power)
        updates, _ = transform.update(grads, transform.init(params), params)
        new = applied(params, optax.tree.scale(-0.1, updates))
        return sx.sphere.angle(new["kernel"].T, kernel.T)[0]

    np.testing.assert_allclose(turned(1.0, 2.0), turned(5.0, 2.0), rtol=1e-9)
    assert turned(1.0, 1.0) > 4.0 * turned(5.0, 1.0)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.adam(0.05)])
def test_the_documented_place_in_a_chain_lowers_the_penalty(optimizer):
    transform = optax.chain(sx.optim.add_orthogonality_gradient(0.1), optimizer)
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)))}

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            grads = optax.tree.zeros_like(params)
            updates, state = transform.update(grads, state, params)
            values = optax.tree.get(state, "values")
            return (applied(params, updates), state), values["kernel"]

        return jax.lax.scan(step, (params, transform.init(params)), length=100)[1]

    values = train(params)
    assert values[0] > 10.0
    assert values[-1] < 0.1


@pytest.mark.usefixtures("x64")
def test_values_are_the_penalties_before_the_step():
    params = draw(1, np.float64)
    _, state = run(make("add_orthogonality_gradient"), draw(0, np.float64), params)
    w = params["head"]["prototypes"]
    value = np.sum((w @ w.T - np.eye(5)) ** 2)
    np.testing.assert_allclose(state.values["head/prototypes"], value, rtol=1e-6)


def test_weight_may_be_a_schedule():
    make = sx.optim.add_orthogonality_gradient
    params, zeros = {"kernel": 2 * jnp.eye(2)}, {"kernel": jnp.zeros((2, 2))}
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    injected = optax.inject_hyperparams(make)(weight=schedule)
    for transform in (make(schedule), injected):
        step, state = start(transform, params)
        for weight in (0.0, 0.25, 0.5):
            new, state = step(zeros, state, params)
            np.testing.assert_allclose(new["kernel"], weight * 24 * np.eye(2))


@pytest.mark.usefixtures("x64")
def test_the_spectral_norm_draws_anew_in_each_step_and_leaf():
    hyperparams = {"weight": 0.1, "kind": "spectral", "key": jax.random.key(7)}
    inject = optax.inject_hyperparams(
        sx.optim.add_orthogonality_gradient, static_args={"iterations", "key"}
    )
    transform = inject(**hyperparams)
    w = np.random.default_rng(0).normal(size=(4, 6))
    params = {"a": {"kernel": w.T}, "b": {"kernel": w.T}}
    zeros = jax.tree.map(np.zeros_like, params)
    (step, state), seen = start(transform, params), []
    for _ in range(2):
        new, state = step(zeros, state, params)
        values = optax.tree.get(state, "values")
        seen += [float(value) for value in values.values()]
        excess = np.linalg.norm(w @ w.T - np.eye(4), 2)
        moved = w - 0.01 * np.asarray(new["a"]["kernel"]).T
        assert np.linalg.norm(moved @ moved.T - np.eye(4), 2) < excess
    assert len(set(seen)) == 4
    assert max(seen) <= excess


def test_heads_are_sets_of_their_own():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 2, 3))  # [features, heads, head_features]
    query = NeuronDimensions(index_axis=2, vector_axis=0)
    transform = sx.optim.add_orthogonality_gradient(0.1, neurons=query)
    params, zeros = {"query": kernel}, {"query": np.zeros_like(kernel)}
    new, state = run(transform, zeros, params)
    total = 0.0
    for head in range(2):
        w = kernel[:, head].T
        excess = w @ w.T - np.eye(3)
        total += np.sum(excess**2)
        np.testing.assert_allclose(
            new["query"][:, head], 0.4 * (excess @ w).T, rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(state.values["query"], total, rtol=1e-5)


def test_axes_in_any_order():
    """Heads and their features together are the index, out of order too."""
    kernel = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    for index in ((0, 2), (-1, 0)):
        output = NeuronDimensions(index_axis=index)
        transform = sx.optim.keep_params_on_sphere(neurons={"output": output})
        params, zeros = {"output": kernel}, {"output": np.zeros_like(kernel)}
        new, _ = run(transform, zeros, params)
        unit = kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
        np.testing.assert_allclose(new["output"], unit - kernel, atol=1e-6)


ROWS, COLUMNS = NeuronDimensions(index_axis=0), NeuronDimensions()


@pytest.mark.parametrize(
    ("neurons", "found"),
    [
        (None, {"a/kernel": (1,)}),
        ({"a": {"table": ROWS}}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a": {"table": ROWS, "kernel": None}}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a/table": ROWS}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a": ROWS}, {"a/kernel": (0,), "a/table": (0,)}),
        ({"a": ROWS, "a/table": COLUMNS}, {"a/kernel": (0,), "a/table": (1,)}),
        (
            lambda params: jax.tree.map(
                lambda x: COLUMNS if x.ndim > 1 else None, params
            ),
            {"a/kernel": (1,), "a/table": (1,), "batch/kernels": (1,)},
        ),
    ],
)
def test_what_is_found(neurons, found):
    params = {
        "a": {"kernel": jnp.ones((2, 3)), "table": jnp.ones((4, 2))},
        "batch": {"kernel": jnp.ones(3), "kernels": jnp.ones((2, 2))},
    }
    state: Any = sx.optim.project_to_tangent(neurons=neurons).init(params)
    assert {name: axes.index for name, axes in state.neurons.items()} == found


def test_a_single_array_may_be_the_params():
    transform = sx.optim.keep_params_on_sphere(neurons=ROWS)
    new, _ = run(transform, jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]))
    np.testing.assert_allclose(new, [[-2.4, -3.2]], rtol=1e-6)


PARAMS = {"head": {"table": jnp.ones((4, 3)), "bias": jnp.ones(3)}}


@pytest.mark.parametrize(
    ("error", "match", "neurons"),
    [
        (ValueError, "got head/bias, head/table", None),
        (ValueError, "got head/tables, which is none of", {"head/tables": ROWS}),
        (TypeError, "got int at head/table", {"head": {"table": 0}}),
        (ValueError, r"does not fit head/bias of shape \(3,\)", {"head": ROWS}),
        (ValueError, "must exist", {"head/table": NeuronDimensions(index_axis=2)}),
        (ValueError, "must exist", {"head/table": NeuronDimensions(index_axis=-3)}),
        (
            ValueError,
            "be different",
            {"head/table": NeuronDimensions(index_axis=0, vector_axis=(-2, 1))},
        ),
        (
            ValueError,
            "one or more",
            {"head/table": NeuronDimensions(index_axis=(0, 1))},
        ),
    ],
)
def test_declarations_that_do_not_fit(error, match, neurons):
    with pytest.raises(error, match=match):
        sx.optim.project_to_tangent(neurons=neurons).init(PARAMS)


def test_a_mask_that_leaves_nothing_is_an_error():
    transform = sx.optim.project_to_tangent(mask={"kernel": False})
    with pytest.raises(ValueError, match="params must have neurons"):
        transform.init({"kernel": jnp.ones((2, 2))})


@pytest.mark.parametrize("params", [{}, None, (), {"a": {}}])
def test_no_params_are_an_error(params):
    with pytest.raises(ValueError, match="got no leaf"):
        sx.optim.project_to_tangent().init(params)


def test_paths_that_are_the_same_are_an_error():
    params = {"a/kernel": jnp.ones((2, 2)), "a": {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match="two leaves of one path among a/kernel"):
        sx.optim.project_to_tangent().init(params)


def test_a_box_with_sharding_goes_by_the_name_of_its_array():
    params = {"dense": {"kernel": linen.Partitioned(jnp.ones((2, 3)), ("in", "out"))}}
    new, state = run(sx.optim.keep_params_on_sphere(), params, params)
    assert list(state.neurons) == ["dense/kernel"]
    moved = np.full((2, 3), np.sqrt(0.5) - 1.0)
    np.testing.assert_allclose(new["dense"]["kernel"].value, moved, rtol=1e-6)


def test_leaves_have_one_order_before_and_after_jit():
    params = [{"kernel": jnp.ones((2, 2))} for _ in range(11)]
    transform = sx.optim.add_orthogonality_gradient(0.1)
    state: Any = transform.init(params)
    assert list(run(transform, params, params)[1].neurons) == list(state.neurons)


def test_a_declared_leaf_may_be_masked():
    params = {"table": jnp.ones((2, 2)), "kernel": jnp.ones((2, 2))}
    mask = {"table": False, "kernel": True}
    for argument in (mask, lambda params: mask):
        transform = sx.optim.project_to_tangent(neurons={"table": ROWS}, mask=argument)
        state = transform.init(params)
        assert list(optax.tree.get(state, "neurons")) == ["kernel"]


@each_transform
def test_update_needs_the_params_of_init(name):
    transform, params = make(name), draw(1)
    state = transform.init(params)
    with pytest.raises(ValueError, match=r"update\(updates, state, params\)"):
        transform.update(params, state)
    other = {**params, "dense": {"weight": params["dense"]["kernel"]}}
    with pytest.raises(ValueError, match="got none for dense/kernel"):
        transform.update(other, state, other)


@pytest.mark.parametrize(
    ("match", "hyperparams"),
    [
        ("radius must be positive, got 0.0", {"radius": 0.0}),
        ("every must be a whole number, 1 or more, got 0", {"every": 0}),
        ("every must be a whole number, 1 or more, got 2.5", {"every": 2.5}),
    ],
)
def test_hyperparams_out_of_range(match, hyperparams):
    with pytest.raises(ValueError, match=match):
        sx.optim.keep_params_on_sphere(**hyperparams)


def test_errors_of_the_penalty_reach_the_user():
    unknown: Any = "hard"
    transform = sx.optim.add_orthogonality_gradient(0.1, kind=unknown)
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="kind must be one of"):
        transform.update(params, transform.init(params), params)
