"""The benchmark of finetuning: both forms are the same function, and it has a table."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import finetuning
from tests.reparam.draws import perturbed

TINY = finetuning.Config(
    tokens=8,
    blocks=2,
    width=16,
    hidden=24,
    heads=2,
    adapters=("HRA",),
    bases=("int8",),
    repetitions=1,
)


@pytest.mark.parametrize("method", finetuning.ADAPTERS)
def test_both_forms_are_the_same_layer(method):
    kernels = {"up": jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 24)))}
    trained, bases = finetuning.make_adapters(method, kernels)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 16)), jnp.float32)

    @jax.jit
    def run(trained, kernel, basis):
        fixed = finetuning.BASES["int8"](kernel), basis
        return [
            layer(x, trained, fixed)
            for layer in (finetuning.weight_centric, finetuning.input_centric)
        ]

    first = [jax.tree.map(lambda x: x[0], each["up"]) for each in (kernels, bases)]
    moved = perturbed(jax.tree.map(lambda x: x[0], trained["up"]), seed=2)
    weights, inputs = run(moved, *first)
    np.testing.assert_allclose(inputs, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_less(0.5, np.abs(inputs - x @ first[0]).max())


def test_it_measures_and_has_a_table():
    figures: dict[str, Any] = {"config": {"blocks": 2, "width": 16, "tokens": 8}}
    figures |= finetuning.measure(TINY)
    lines = [*finetuning.tables(figures)]
    assert lines[2].startswith("| full | float32 | 3,584 |")
    assert [line.split(" | ")[0] for line in lines[3:5]] == [
        "| HRA, weight-centric",
        "| HRA, input-centric",
    ]
    full, weights, inputs = figures["rows"]
    # Eight vectors for the inputs of each kernel.
    assert weights["trained"] == inputs["trained"] == 2 * 8 * (5 * 16 + 24)
    assert inputs["kept_bytes"] < full["kept_bytes"]


def test_what_it_does_not_have_is_refused():
    with pytest.raises(ValueError, match="--adapters must be among OFT, BOFT.*LORA"):
        finetuning.Config(adapters=("LORA",))
    with pytest.raises(ValueError, match="--heads must divide --width, got 5 and 768"):
        finetuning.Config(heads=5)
