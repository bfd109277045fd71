"""The adapted dense layer: its function, what is trained, and what is saved."""

from functools import partial
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from tests.layers.draws import MODES
from tests.reparam.draws import draw, perturbed
from tests.test_saved_states import WAYS

sl, sr = sx.layers, sx.reparam
IN, OUT = 8, 6


def linear(**options) -> Any:
    return nnx.Linear(IN, OUT, rngs=nnx.Rngs(0), **options)


KERNEL = linear().kernel[...]
ADAPTERS: dict[str, Any] = {
    "block": sr.BlockRotation.init(KERNEL, block_size=4, bound=0.5),
    "butterfly": sr.ButterflyRotation.init(KERNEL),
    "reflections": sr.Reflections.init(jax.random.key(0), KERNEL, count=2),
    "subspace": sr.SubspaceRotation.init(KERNEL, rank=3, method="cayley_neumann"),
}
TRAINED = {
    "block": {"raw"},
    "butterfly": {"raw", "scale"},
    "reflections": {"vectors"},
    "subspace": {"raw", "left_scale", "right_scale"},
}


def trained_state(layer: Any) -> Any:
    return nnx.to_pure_dict(nnx.state(layer, nnx.Param))


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_starts_as_its_base_and_is_the_function_adapt(name):
    base, adapter, x = linear(), ADAPTERS[name], draw(3, IN)
    layer = sl.AdaptedLinear(base, adapter)
    assert trained_state(layer)["adapter"].keys() == TRAINED[name]
    np.testing.assert_allclose(layer(x), base(x), rtol=1e-5, atol=1e-6)
    assert layer.kernel[...] is base.kernel[...]

    moved = perturbed(adapter, 1, 0.3)
    if name == "subspace":
        moved = sr.SubspaceRotation(
            moved.raw,
            adapter.basis,
            left_scale=moved.left_scale,
            right_scale=moved.right_scale,
            method=moved.method,
        )
    layer = sl.AdaptedLinear(base, moved)
    assert jax.tree.structure(layer.adapter()) == jax.tree.structure(adapter)
    expected = sr.adapt(x, base.kernel[...], moved, bias=base.bias[...])
    np.testing.assert_array_equal(layer(x), expected)
    merged = layer.merge()
    assert type(merged) is nnx.Linear
    np.testing.assert_allclose(merged(x), expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(expected, base(x), atol=1e-2)


@pytest.mark.parametrize("graph", MODES)
def test_only_the_adapter_is_trained(graph):
    layer = sl.AdaptedLinear(
        linear(),
        ADAPTERS["subspace"],
        output_adapter=sr.Reflections(draw(2, OUT)),
    )
    before = jax.tree.map(np.asarray, nnx.state(layer, sl.Frozen))
    graphdef, params, rest = nnx.split(layer, nnx.Param, ..., graph=graph)
    adam = optax.adamw(0.1, weight_decay=0.1)

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.sum(nnx.merge(graphdef, params, rest)(draw(4, IN)) ** 3)

        gradient = jax.grad(loss)(params)
        updates, state = adam.update(gradient, state, params)
        return optax.apply_updates(params, updates)

    trained = step(params, adam.init(params))
    layer = nnx.merge(graphdef, trained, rest)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(layer, sl.Frozen))
    for x, y in zip(*map(jax.tree.leaves, (params, trained)), strict=True):
        assert not np.array_equal(x, y)


def test_kernels_of_integers_and_other_dtypes():
    base = linear(dtype=jnp.bfloat16)
    scale = np.abs(KERNEL).max(axis=0) / 127
    base.kernel = nnx.Param(jnp.round(KERNEL / scale[None]).astype(jnp.int8))
    layer = sl.AdaptedLinear(base, ADAPTERS["block"], kernel_scale=scale)
    x = draw(3, IN)
    assert layer(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(layer(x), x @ KERNEL, atol=0.05)
    with pytest.raises(TypeError, match="kernel must be floating"):
        layer.merge()
    base.dtype = None
    layer = sl.AdaptedLinear(base, ADAPTERS["block"], kernel_scale=scale)
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    # As in Flax, where the kernel is floating.
    plain = sl.AdaptedLinear(linear(use_bias=False), ADAPTERS["block"])
    assert plain(x.astype(jnp.bfloat16)).dtype == jnp.float32
    assert plain.merge().bias is None


@pytest.mark.parametrize("way", WAYS)
def test_adapters_alone_are_saved(way, tmp_path):
    """Both those in a layer, and those by the path of their kernel."""
    layer = sl.AdaptedLinear(linear(), ADAPTERS["butterfly"])
    state: Any = {
        "of layer": trained_state(layer),
        "by path": {name: perturbed(a, 2) for name, a in ADAPTERS.items()},
    }
    restored = WAYS[way](state, tmp_path / "saved")
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_the_axes_of_a_sharded_kernel_are_kept():
    init = nnx.with_partitioning(nnx.initializers.ones_init(), ("a", "b"))
    axes = (jax.sharding.AxisType.Auto,) * 2
    with jax.set_mesh(jax.make_mesh((2, 2), ("a", "b"), axes)):
        base = nnx.Linear(IN, OUT, kernel_init=init, rngs=nnx.Rngs(0))
        layer = sl.AdaptedLinear(base, ADAPTERS["block"])
    assert layer.kernel.get_metadata() == base.kernel.get_metadata()
    assert layer.kernel[...].sharding == base.kernel[...].sharding
    assert layer.kernel[...].sharding.spec == jax.P("a", "b")


def test_states_of_other_adapters_are_refused():
    saved = flax.serialization.to_bytes(ADAPTERS["block"])
    with pytest.raises((KeyError, ValueError)):
        flax.serialization.from_bytes(ADAPTERS["reflections"], saved)


def test_what_is_no_dense_layer_is_refused():
    conv = nnx.Conv(IN, OUT, (3,), rngs=nnx.Rngs(0))
    wrong: Any = partial(sl.AdaptedLinear, adapter=ADAPTERS["block"])
    with pytest.raises(TypeError, match="base must be an nnx.Linear, got Conv; other"):
        wrong(conv)
    with pytest.raises(TypeError, match="got LoRALinear"):
        wrong(nnx.LoRALinear(IN, OUT, lora_rank=2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"inputs must be \[\.\.\., 8\]"):
        wrong(linear())(draw(3, 5))


def test_neurons_under_an_adapter_are_left_out():
    layer = sl.AdaptedLinear(linear(), ADAPTERS["subspace"])
    found = sx.neurons.of(layer)
    assert set(found.values()) == {"an adapter, under which neurons are frozen"}
