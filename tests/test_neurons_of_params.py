"""Which leaves of params have neurons, and along which axes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import sphax as sx
from sphax.optim import NeuronDimensions
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
