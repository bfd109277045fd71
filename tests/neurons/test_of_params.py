"""Neurons of params: which leaves hold them, along which axes, and all that uses it."""

import dataclasses
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests.optim.transforms import run


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6), (3, 2, 4, 6)])
def test_rows_and_back(shape):
    kernel: Any = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rows = sx.neurons.to_rows(kernel)
    np.testing.assert_array_equal(rows[2], kernel[..., 2].ravel())
    np.testing.assert_array_equal(sx.neurons.from_rows(rows, shape), kernel)


@pytest.mark.parametrize(
    "dimensions",
    [
        NeuronDimensions(index_axis=3, vector_axis=0),
        NeuronDimensions(batch_axis=(1, 2)),
        NeuronDimensions(index_axis=-1, vector_axis=-4, batch_axis=(-3, 2)),
    ],
)
def test_rows_of_several_batch_axes(dimensions):
    kernel: Any = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype("f4")
    rows = sx.neurons.to_rows(kernel, dimensions)
    assert rows.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(rows[1, 2, 3], kernel[:, 1, 2, 3])
    back = sx.neurons.from_rows(rows, kernel.shape, dimensions)
    np.testing.assert_array_equal(back, kernel)


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match=r"does not fit kernel of shape \(3,\)"):
        sx.neurons.to_rows(jnp.ones(3))
    with pytest.raises(ValueError, match=r"rows must be \(4, 3\).*got \(2, 3\)"):
        sx.neurons.from_rows(jnp.ones((2, 3)), (3, 4))


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
STACK = NeuronDimensions(batch_axis=0)


@pytest.mark.parametrize(
    ("neurons", "found"),
    [
        (None, {"a/kernel": (1,)}),
        ({"a": {"table": ROWS}}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a": {"table": ROWS, "kernel": None}}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a/table": ROWS}, {"a/kernel": (1,), "a/table": (0,)}),
        ({"a": ROWS}, {"a/kernel": (0,), "a/table": (0,)}),
        ({"a": ROWS, "a/table": COLUMNS}, {"a/kernel": (0,), "a/table": (1,)}),
        (COLUMNS, {"a/kernel": (1,), "a/table": (1,), "batch/kernels": (1,)}),
        ({"a": COLUMNS, "a/table": "by hand"}, {"a/kernel": (1,)}),
    ],
)
def test_what_is_found(neurons, found):
    params = {
        "a": {"kernel": jnp.ones((2, 3)), "table": jnp.ones((4, 2))},
        "batch": {"kernel": jnp.ones(3), "kernels": jnp.ones((2, 2))},
    }
    axes = sx.neurons.find(params, neurons)
    assert {name: leaf.index for name, leaf in axes.items()} == found


def test_a_single_array_may_be_the_params():
    transform = sx.optim.keep_params_on_sphere(neurons=ROWS)
    new, _ = run(transform, jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]))
    np.testing.assert_allclose(new, [[-2.4, -3.2]], rtol=1e-6)


PARAMS = {"head": {"table": jnp.ones((4, 3)), "bias": jnp.ones(3)}}


@pytest.mark.parametrize(
    ("error", "match", "neurons"),
    [
        (ValueError, "got head/bias, head/table", None),
        (ValueError, "got head/tables, which is not among", {"head/tables": ROWS}),
        (TypeError, "got int at head/table", {"head": {"table": 0}}),
        (ValueError, r"does not fit head/bias of shape \(3,\)", {"head/bias": ROWS}),
        (ValueError, "at head must fit one leaf or more", {"head": STACK}),
        (ValueError, "at all leaves must fit one leaf or more", STACK),
        (TypeError, "got function at a single leaf; call it", lambda params: ROWS),
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
        sx.optim.project_gradients_to_tangent(neurons=neurons).init(PARAMS)


def test_a_mask_that_leaves_nothing_is_an_error():
    transform = sx.optim.project_gradients_to_tangent(mask={"kernel": False})
    with pytest.raises(ValueError, match="params must have neurons"):
        transform.init({"kernel": jnp.ones((2, 2))})


@pytest.mark.parametrize("params", [{}, None, (), {"a": {}}])
def test_no_params_are_an_error(params):
    with pytest.raises(ValueError, match="got no leaf"):
        sx.optim.project_gradients_to_tangent().init(params)


def test_paths_that_are_the_same_are_an_error():
    params = {"a/kernel": jnp.ones((2, 2)), "a": {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match="two leaves of one path among a/kernel"):
        sx.optim.project_gradients_to_tangent().init(params)


def test_a_box_with_sharding_goes_by_the_name_of_its_array():
    params = {"dense": {"kernel": linen.Partitioned(jnp.ones((2, 3)), ("in", "out"))}}
    new, _ = run(sx.optim.keep_params_on_sphere(), params, params)
    moved = np.full((2, 3), np.sqrt(0.5) - 1.0)
    np.testing.assert_allclose(new["dense"]["kernel"].value, moved, rtol=1e-6)


def test_leaves_have_one_order_before_and_after_jit():
    params = [{"kernel": jnp.ones((2, 2))} for _ in range(11)]
    transform = sx.optim.add_orthogonality_gradient(0.1)
    state: Any = transform.init(params)
    assert list(run(transform, params, params)[1].values) == list(state.values)


def test_a_declared_leaf_may_be_masked():
    params = {"table": jnp.ones((2, 2)), "kernel": jnp.ones((2, 2))}
    mask = {"table": False, "kernel": True}
    for argument in (mask, lambda params: mask):
        transform = sx.optim.project_gradients_to_tangent(
            neurons={"table": ROWS}, mask=argument
        )
        new, _ = run(transform, params, params)
        np.testing.assert_array_equal(new["table"], params["table"])
        np.testing.assert_allclose(new["kernel"], np.zeros((2, 2)), atol=1e-6)


# Without a declaration: sets, neurons and dimensions, or a word of the error.
@pytest.mark.parametrize(
    ("path", "shape", "reading"),
    [
        ("dense/kernel", (3, 4), (1, 4, 3)),
        ("attention/out/kernel", (3, 4), (1, 4, 3)),
        ("conv/kernel", (3, 3, 2, 4), (1, 4, 18)),
        ("depthwise/kernel", (3, 3, 1, 4), (1, 4, 9)),
        ("conv/kernel", (3, 3, 3, 2, 4), (1, 4, 54)),
        ("value_head/kernel", (3, 3, 2, 4), (1, 4, 18)),
        ("head/prototypes", (5, 4), (1, 5, 4)),
        ("prototypes", (5, 2, 4), (1, 10, 4)),
        ("conv/kernel", (3, 2, 4), "convolution over one axis"),
        ("kernel", (3, 2, 4), "stack of dense layers"),
        ("blocks/query/kernel", (3, 6, 2, 4), "stack of queries"),
        ("blocks/k_proj/kernel", (3, 6, 2, 4), "stack of queries"),
        ("SelfAttention_0/kernel", (3, 6, 2, 4), "stack of outputs"),
        ("attn/conv/kernel", (3, 3, 2, 4), "convolution, "),
        ("kernel", (2, 3, 3, 3, 2, 4), "stack of convolutions"),
        ("query/bias", (2, 4), None),
        ("dense/weight", (3, 4), None),
        ("attn/q_einsum/w", (3, 2, 4), "query, key or value"),
        ("query", (3, 2, 4), "query, key or value"),
        ("attention/bias", (3, 2, 4), None),
        ("attention/relative_position_bias", (3, 2, 4), None),
        ("moe/w", (3, 2, 4), None),
        ("kernel", (3,), None),
    ],
)
def test_leaves_that_nothing_declares(path, shape, reading):
    params = {path: np.ones(shape), "other": {"kernel": np.ones((2, 2))}}
    if isinstance(reading, str):
        with pytest.raises(ValueError, match="neurons must declare") as caught:
            sx.neurons.find(params)
        text = str(caught.value)
        assert f"neurons must declare {path} of shape {shape}" in text
        assert reading in text
        # What the error offers can be copied, and fits.
        offers = re.findall(r"neurons=(\{.*\})$", text, re.MULTILINE)
        assert len(offers) >= 4
        for offer in offers:
            assert path in sx.neurons.find(params, eval(offer))
        return
    found = sx.neurons.find(params)
    assert "other/kernel" in found
    assert len(found) == 1 + (reading is not None)
    if reading is not None:
        assert found[path].sizes(shape) == reading


def test_all_that_is_refused_is_named():
    params = {name: {"kernel": np.ones((3, 2, 4))} for name in "abc"}
    with pytest.raises(ValueError, match="The same holds for b/kernel, c/kernel"):
        sx.neurons.find(params)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """A pytree that is a function too, as the modules of Equinox are."""

    weight: Any
    bias: Any
    layers: Any = ()

    def __call__(self, *args):
        raise AssertionError("a declaration is not to be called")


def test_a_pytree_of_declarations_is_never_called():
    params = Callable(np.ones((4, 3)), np.ones(4), [Callable(np.ones((2, 4)), None)])
    neurons = jax.tree.map(lambda x: ROWS if x.ndim == 2 else None, params)
    found = sx.neurons.find(params, neurons)
    assert {name: axes.index for name, axes in found.items()} == {
        "weight": (0,),
        "layers/0/weight": (0,),
    }


def test_a_mask_that_is_a_pytree_is_never_called():
    params = Callable(np.ones((4, 3)), np.ones(4), np.ones((2, 4)))
    mask = Callable(True, False, False)
    transform = sx.optim.add_orthogonality_gradient(1.0, neurons=ROWS, mask=mask)
    new, state = run(transform, params, params)
    assert list(state.inner_state.values) == ["weight"]
    np.testing.assert_array_equal(new.layers, params.layers)


def test_biases_and_scales_are_declared_by_their_own_path_only():
    """In a stack they have two axes, as dense kernels have."""
    leaves = {
        "kernel": np.ones((2, 3, 4)),
        "bias": np.ones((2, 4)),
        "scale": np.ones((2, 4)),
    }
    matrices = NeuronDimensions(index_axis=-1, vector_axis=-2)
    assert list(sx.neurons.find(leaves, matrices)) == ["kernel"]
    assert list(sx.neurons.find({"a": leaves}, {"a": matrices})) == ["a/kernel"]
    both = {"": matrices, "bias": matrices}
    assert list(sx.neurons.find(leaves, both)) == ["bias", "kernel"]


# Every function with an argument `neurons`, called with params.
def reported(params, neurons):
    return sx.energy.energy_report(params, neurons=neurons).kernels


def by_init(make, *args, **options):
    return lambda params, neurons: make(*args, neurons=neurons, **options).init(params)


def by_init_of(make, **options):
    """A reparameterization, whose rotations may be larger than its kernels here."""

    def init(params, neurons):
        training = make(neurons=neurons, allow_large=True, **options)
        return jax.eval_shape(training.init, jax.random.key(0), params)

    return init


TAKERS = {
    "energy.energy_of_params": lambda params, neurons: sx.energy.energy_of_params(
        params, neurons=neurons
    ),
    "energy.energy_report": reported,
    "optim.project_gradients_to_tangent": by_init(
        sx.optim.project_gradients_to_tangent
    ),
    "optim.scale_by_neuron_norm": by_init(sx.optim.scale_by_neuron_norm),
    "optim.keep_params_on_sphere": by_init(sx.optim.keep_params_on_sphere),
    "optim.add_energy_gradient": by_init(sx.optim.add_energy_gradient, 1.0),
    "optim.add_orthogonality_gradient": by_init(
        sx.optim.add_orthogonality_gradient, 1.0
    ),
    "optim.add_penalty_gradient": by_init(
        sx.optim.add_penalty_gradient, lambda rows, key: jnp.sum(rows), 1.0
    ),
    "optim.decoupled_energy": by_init(
        sx.optim.decoupled_energy, optax.sgd(0.1), 0.1, 1.0
    ),
    "optim.orthogonal_descent": by_init(sx.optim.orthogonal_descent, 0.1),
    "optim.pion": by_init(sx.optim.pion, 0.1),
    "optim.project_to_norm": by_init(sx.optim.project_to_norm, 0.1),
    "optim.spectral_sphere": by_init(sx.optim.spectral_sphere, 0.1),
    "optim.stiefel_muon": by_init(sx.optim.stiefel_muon, 0.1),
    "optim.riemannian_sgd": by_init(sx.optim.riemannian_sgd, 0.1),
    "optim.riemannian_adam": by_init(sx.optim.riemannian_adam, 0.1),
    "reparam.orthogonal": by_init_of(sx.reparam.orthogonal),
    "reparam.stochastic_orthogonal": by_init_of(sx.reparam.stochastic_orthogonal),
    "reparam.relaxed_orthogonal": by_init_of(sx.reparam.relaxed_orthogonal),
    "reparam.oft": by_init_of(sx.reparam.oft, block_size=2),
    "reparam.boft": by_init_of(sx.reparam.boft, block_size=2),
    "reparam.poet": by_init_of(sx.reparam.poet, block_size=2),
    "neurons.find": sx.neurons.find,
}


def test_injected_hyperparams_leave_declarations_alone():
    make = optax.inject_hyperparams(sx.optim.add_energy_gradient)
    for neurons in (QUERY, {"query": QUERY}, sx.neurons.of(nnx.eval_shape(Attention))):
        state = make(weight=1.0, neurons=neurons).init(HEADS)
        assert list(optax.tree.get(state, "values")) == ["query/kernel"]


def test_all_that_takes_neurons_has_a_row():
    def takes(member):
        return (
            inspect.isfunction(member)
            and "neurons" in inspect.signature(member).parameters
        )

    found = {
        f"{package}.{name}"
        for package in ("energy", "neurons", "optim", "reparam", "layers", "metrics")
        for name, member in vars(getattr(sx, package)).items()
        if takes(member)
    }
    # Adapters are for kernels [in, out], and refuse the heads of the rows.
    assert TAKERS.keys() == found - {"reparam.adapters"}


HEADS = {
    "query": {
        "kernel": np.tile(np.eye(4, 2)[:, None], (1, 3, 1)),
        "bias": np.ones((3, 2)),
    }
}
QUERY = NeuronDimensions(batch_axis=1)


@pytest.mark.parametrize("name", TAKERS)
def test_all_take_neurons_alike(name):
    take, params = TAKERS[name], jax.tree.map(jnp.asarray, HEADS)
    # In every form; the bias must not be in the way of those for several leaves.
    neurons: Any
    for neurons in (
        QUERY,
        {"query": QUERY},
        {"query/kernel": QUERY},
        {"query": {"kernel": QUERY, "bias": None}},
        sx.neurons.of(nnx.eval_shape(Attention)),
    ):
        take(params, neurons)
    if name != "optim.orthogonal_descent":  # whose matrices have any name and rank
        with pytest.raises(ValueError, match=r"query/kernel of shape \(4, 3, 2\)"):
            take(params, None)
    with pytest.raises(TypeError, match="got function at a single leaf; call it"):
        take(params, lambda params: QUERY)
    with pytest.raises(ValueError, match="got query/kernels, which is not among"):
        take(params, {"query/kernels": QUERY})


class Attention(nnx.Module):
    def __init__(self):
        self.query = _Heads()


class _Heads(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.ones((4, 3, 2)))
        self.bias = nnx.Param(jnp.ones((3, 2)))

    def neuron_dimensions(self):
        return {"kernel": NeuronDimensions(index_axis=-1, vector_axis=-3)}


def test_what_is_masked_or_not_chosen_is_not_refused():
    params = {"attention": {"kernel": jnp.ones((4, 3, 2))}, "kernel": jnp.ones((4, 2))}
    for mask in (
        {"attention": False, "kernel": True},
        lambda params: {**dict.fromkeys(params, False), "kernel": True},
    ):
        sx.optim.keep_params_on_sphere(mask=mask).init(params)
    training = sx.reparam.orthogonal(where=lambda path, leaf: "attention" not in path)
    _, frozen = training.init(jax.random.key(0), params)
    assert list(frozen) == ["kernel"]
    left_out = {"attention/kernel": "an experiment of its own"}
    assert list(sx.neurons.find(params, left_out)) == ["kernel"]


@pytest.mark.parametrize(
    ("query", "equal", "expected"),
    [
        (QUERY, ((0, 0), (1, 0)), None),  # in two heads, which make no pair
        (QUERY, ((0, 0), (0, 1)), 1.96e10),
        (NeuronDimensions(index_axis=(1, 2)), ((0, 0), (1, 0)), 2.2e9),
    ],
)
def test_the_energy_of_equal_neurons(query, equal, expected):
    kernel = jax.random.normal(jax.random.key(0), (64, 8, 8))
    (a, i), (b, j) = equal
    kernel = kernel.at[:, b, j].set(kernel[:, a, i])
    params, neurons = {"query": {"kernel": kernel}}, {"query/kernel": query}
    energy = sx.energy.energy_of_params(params, power=2.0, neurons=neurons)
    np.testing.assert_allclose(energy, expected or 0.503, rtol=0.02)
