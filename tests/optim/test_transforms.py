"""What all transforms have in common: their definition, and what they compose with."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.optim.transforms import (
    PROTOTYPES,
    TRANSFORMS,
    applied,
    close,
    draw,
    each_transform,
    expected,
    make,
    run,
    start,
)


@each_transform
@pytest.mark.usefixtures("x64")
def test_update_is_that_of_the_definition(name):
    updates, params = draw(0, np.float64), draw(1, np.float64)
    new, state = run(make(name), updates, params)
    close(new, expected(name, updates, params), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(new["conv"]["bias"], updates["conv"]["bias"])
    assert int(optax.tree.get(state, "count")) == 1


# Each transform in one dtype, each engine (neuron by neuron, penalty) in both: the
# conversion is that of the engine.
DTYPES = [
    (name, (jnp.bfloat16, jnp.float16)[number % 2])
    for number, name in enumerate(TRANSFORMS)
]


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
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
    assert int(optax.tree.get(state, "count")) == 3
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
        new, _ = run(transform, updates, params)
        close(new, part, rtol=1e-5, atol=1e-5)


@each_transform
def test_injected_hyperparams_are_traced(name):
    row, updates, params = TRANSFORMS[name], draw(0), draw(1)
    injected = optax.inject_hyperparams(row.make)(**row.hyperparams, neurons=PROTOTYPES)
    step, state = start(injected, params)
    close(step(updates, state, params)[0], expected(name, updates, params), rtol=1e-5)
    for hyperparam in row.hyperparams:
        hyperparams = {**state.hyperparams, hyperparam: jnp.float32(0.7)}
        new, _ = step(updates, state._replace(hyperparams=hyperparams), params)
        other, _ = run(make(name, **{hyperparam: 0.7}), updates, params)
        close(new, other)


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
    assert int(optax.tree.get(state.inner_opt_state, "count")) == 1


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
    assert optax.tree.get(mapped[0], "count") == "other"


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


# The transform sees the same state in both modes: each engine is in each of them.
MODES = [
    ("project_gradients_to_tangent", True),
    ("keep_params_on_sphere", False),
    ("project_to_norm[matrix]", True),
    ("add_orthogonality_gradient", True),
    ("decoupled", False),
]


@pytest.mark.parametrize(("name", "graph"), MODES)
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
    elif name.partition("[")[0] not in ("keep_params_on_sphere", "project_to_norm"):
        np.testing.assert_array_equal(column, given)


@each_transform
def test_update_needs_the_params_of_init(name):
    transform, params = make(name), draw(1)
    state = transform.init(params)
    with pytest.raises(ValueError, match=r"update\(updates, state, params\)"):
        transform.update(params, state)
    other = {**params, "dense": {"weight": params["dense"]["kernel"]}}
    if optax.tree.get(state, "values") is not None:  # it has something for each leaf
        with pytest.raises(ValueError, match="or others at dense/kernel"):
            transform.update(other, state, other)
    with pytest.raises(ValueError, match="got none for dense/kernel"):
        transform.update(other, state, params)


@each_transform
def test_a_group_without_kernels(name):
    """Such as `optax.partition` makes of biases, in one optimizer for all groups."""
    params, updates = draw(1), draw(0)
    labels = {"conv": {"kernel": "a", "bias": "b"}, "dense": "a", "head": "a"}
    whole = optax.partition({"a": make(name), "b": make(name)}, labels)
    with pytest.raises(ValueError, match="params must have neurons"):
        whole.init(params)
    groups: dict[Any, Any] = {"a": make(name), "b": make(name, allow_empty=True)}
    new, _ = run(optax.partition(groups, labels), updates, params)
    close(new, expected(name, updates, params), rtol=1e-5, atol=1e-5)
