"""The benchmark of scale: programs agree with the model of costs. Nothing is timed."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks import (
    _program,
    energy,
    margin_softmax,
    operators,
    orthogonal,
    scale,
)

SMALL = scale.Config(
    classes=(5_000,),
    repetitions=(1,),
    devices=(4,),
    batch=64,
    features=32,
    block_size=256,
)


@pytest.fixture(scope="module")
def figures():
    return scale.measure(SMALL)


def test_the_work_of_a_program():
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    split, all_split = PartitionSpec("a"), PartitionSpec(("a", "b"))

    def function(x, y):
        gathered = jax.lax.all_gather(x, "a", tiled=True)
        total = jax.lax.psum(y, ("a", "b"))

        def body(carry, _):
            return carry @ y, None

        gathered = jax.lax.pcast(gathered, "b", to="varying")
        carry, _ = jax.lax.scan(body, gathered, None, length=5)
        return jax.lax.psum_scatter(carry, "a", tiled=True) + total[:3]

    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=(split, all_split), out_specs=all_split
    )
    x, y = (
        jax.ShapeDtypeStruct((rows, 8), jnp.float32, sharding=NamedSharding(mesh, spec))
        for rows, spec in ((12, split), (64, all_split))
    )
    work = _program.work(jax.jit(mapped).lower(x, y).compile())
    # Of each device: [12, 8] @ [8, 8], five times.
    assert work.flops == 5 * 2 * 12 * 8 * 8
    gathered = scattered = 12 * 8 * 4 * 3 / 4
    reduced = 2 * 8 * 8 * 4 * 7 / 8
    assert work.sent == gathered + reduced + scattered


@pytest.mark.parametrize("row", range(3))
def test_programs_agree_with_the_model(figures, row):
    (size,) = figures["sizes"]
    found = size["rows"][row]
    forms = "all at once", "blocks of 256", "0.1 sampled"
    assert (found["devices"], found["form"]) == (4, forms[row])
    model = found["model"]
    # A tenth of the rows is rounded up or down.
    exact = 0.01 if row == 2 else 1e-6
    assert found["flops"] == pytest.approx(model["flops"], rel=exact)
    assert found["sent"] == pytest.approx(model["sent"], rel=0.002)
    assert found["bytes"] == pytest.approx(model["bytes"], rel=0.25)


def test_the_tables(figures):
    lines = list(scale.tables(figures))
    assert lines[0].startswith("| 5,000 classes | devices | ms |")
    rows = [line for line in lines if re.match(r"\| (all at|blocks of 256|0.1)", line)]
    assert len(rows) == 3
    assert {line.count("|") for line in [lines[0], *rows]} == {10}
    # At a hundred million classes, only TPU v5e cannot hold all logits at once.
    (line,) = (x for x in lines if x.startswith("| 100,000,000") and "| all at" in x)
    assert ["too much" in cell for cell in line.split("|")[3:6]] == [True, False, False]


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match="^--batch must be a multiple of all --dev"):
        dataclasses.replace(SMALL, batch=66)
    with pytest.raises(ValueError, match="^--rate must be below 1, got 1.0"):
        dataclasses.replace(SMALL, rate=1.0)
    with pytest.raises(ValueError, match="^--repetitions must be as many as --classes"):
        dataclasses.replace(SMALL, repetitions=(1, 2))


@pytest.mark.slow
def test_the_bounds_of_an_accelerator(monkeypatch):
    """At sizes at which they run here."""
    tiny = {
        "margin_softmax": margin_softmax.Config(
            classes=(64,), batch=8, features=8, block_size=16, dtype="bfloat16"
        ),
        "energy": energy.Config(
            points=(32,), repetitions=(1,), features=4, batch=0, large=(0, 0)
        ),
        "orthogonal": orthogonal.Config(sizes=(8,), repetitions=1),
        "operators": operators.Config(sides=(2,), channels=(2,), repetitions=1),
    }
    assert tiny.keys() == scale.BOUNDS.keys()
    for name, config in tiny.items():
        module, settings = scale.BOUNDS[name]
        assert type(config) is type(settings)
        monkeypatch.setitem(scale.BOUNDS, name, (module, config))
    found = scale.measure(dataclasses.replace(SMALL, bounds=True))
    text = "\n".join(scale.tables(found))
    for title in ("64 classes", "32 directions", "8 x 8", "2 x 2, 2 -> 2"):
        assert f"| {title} |" in text
