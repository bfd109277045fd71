"""The benchmark of optimizers, at a size at which it takes seconds."""

import pytest

from experiments.benchmarks import optimizers


@pytest.mark.slow
def test_the_tables_have_every_optimizer():
    found = optimizers.measure(optimizers.Config(sizes=(4,), repetitions=1))
    lines = list(optimizers.tables(found))
    for title in ("| 4 x 4 | ms | products |", "| 4 x 16 | ms | products |"):
        assert sum(line.startswith(title) for line in lines) == 1
    for name in optimizers.OPTIMIZERS:
        assert sum(line.startswith(f"| {name} |") for line in lines) == 2
    states = {row["name"]: row["state"] for row in found["shapes"][1]["rows"]}
    assert 2.0 < states["Adam"] < 2.1
    # Two moments of both generators, of sizes 4 and 16.
    assert 8.5 < states["pion"] < 8.6
