"""All reparameterizations: definition, leaves, dtypes, meshes, errors."""

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
from tests.reparam.draws import draw, params_of, perturbed, rotation

sr: Any = sx.reparam


# All methods that rotate by the Cayley map, of kernels with 12 dimensions, 8 neurons.
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
        ahead = jax.tree.map(lambda x, dx: x + step * dx, free, change)
        return kernel_of(ahead["conv"]["kernel"], frozen["conv/kernel"])

    np.testing.assert_allclose(value, at(0.0), atol=1e-12)
    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    np.testing.assert_allclose(tangent, slope, atol=1e-8)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, change)
    total = sum(jax.tree.leaves(products["conv"]["kernel"]))
    np.testing.assert_allclose(total, np.sum(cotangent * slope), rtol=1e-7)


# A map with the identity at zero and maps that keep the identity; one and both sides;
# neurons given and drawn; factors of neurons.
STARTS: dict[str, Any] = {
    **{name: CAYLEY[name] for name in ("both sides", "oft", "poet")},
    **{
        method: sr.orthogonal(method=method, block_size=6)
        for method in ("householder", "gram_schmidt")
    },
}


@pytest.mark.parametrize("name", STARTS)
def test_training_starts_at_the_frozen_neurons(name, key):
    params = params_of()

    @jax.jit
    def run(key):
        free, frozen = STARTS[name].init(key, params)
        return STARTS[name].apply(free, frozen), frozen["conv/kernel"].kernel

    applied, kernel = run(key)
    assert jax.tree.structure(applied) == jax.tree.structure(params)
    np.testing.assert_array_equal(applied["conv"]["bias"], params["conv"]["bias"])
    np.testing.assert_allclose(applied["conv"]["kernel"], kernel, atol=1e-5)
    assert np.array_equal(kernel, params["conv"]["kernel"]) == (name == "oft")


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

    def shard_gradient(free, inputs):
        free = jax.lax.pcast(free, "data", to="varying")
        return jax.lax.pmean(gradient(free, inputs), "data")

    sharded = jax.shard_map(
        shard_gradient, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()
    )
    whole, parts = jax.jit(gradient)(free, inputs), jax.jit(sharded)(free, inputs)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), parts, whole)


def test_kernels_keep_their_sharding_outside_of_jit_too(key):
    """Drawn kernels too, for which only the shape of those given is used."""
    sharding = NamedSharding(jax.make_mesh((4, 2), ("a", "b")), P("a", "b"))
    params = {"kernel": jax.device_put(draw(16, 8), sharding)}
    training = sr.poet(block_size=8)
    free, frozen = training.init(key, params)
    rotated = training.apply(free, frozen)
    _, merged, _ = training.advance(key, free, frozen)
    for kernel in (
        frozen["kernel"].kernel,
        rotated["kernel"],
        merged["kernel"].kernel,
    ):
        assert kernel.sharding == sharding


def test_vmap_is_a_loop(key):
    training, params = sr.orthogonal(), {"kernel": draw(6, 4)}

    @jax.jit
    def run(key):
        free, frozen = training.init(key, params)
        return training.apply(perturbed(free, 1), frozen)["kernel"]

    keys = jax.random.split(key, 3)
    each = np.stack([run(subkey) for subkey in keys])
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
    rotated = jax.jit(training.apply)(perturbed(free, 1), frozen)
    for new, old in (
        (rotated["query"]["kernel"][:, 1], params["query"]["kernel"][:, 1]),
        (rotated["head"]["prototypes"].T, params["head"]["prototypes"].T),
    ):
        assert np.max(np.abs(new - old)) > 0.1
        np.testing.assert_allclose(new.T @ new, old.T @ old, atol=1e-5)
    mask = sr.rotation_mask(free)
    assert mask["query"]["kernel"] == mask["head"]["prototypes"] == sr.Rotations(True)
    assert mask["conv"] == {"bias": False, "kernel": sr.Rotations(True)}
    assert mask["single"] == {"kernel": False}
    assert mask["head"]["kernel"] is False


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


@pytest.mark.parametrize("name", ["one block", "oft", "poet"])
def test_half_precision_stays(name, key):
    training = CAYLEY[name]

    def run(key, params):
        free, frozen = training.init(key, params)
        free, frozen, _ = training.advance(key, free, frozen)
        return free, training.apply(free, frozen)

    free, kernels = jax.eval_shape(run, key, params_of(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(kernels)} == {jnp.dtype("bfloat16")}
    rotations = free["conv"]["kernel"]
    assert {raw.dtype for raw in jax.tree.leaves(rotations)} == {jnp.dtype("float32")}


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
# Arguments of the wrong type, and what their errors say.
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
