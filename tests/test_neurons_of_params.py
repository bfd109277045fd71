"""Which leaves of params have neurons, and along which axes."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests.transforms import run


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
    assert {name: own.index for name, own in axes.items()} == found


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
