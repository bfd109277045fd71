"""The comparison with other libraries, without those that tests do not install."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import (
    _peer_adapters,
    _peer_case,
    _peer_differences,
    _peer_maps,
    _peer_metrics,
    _peer_objectives,
    peers,
)

CASES = [
    *_peer_objectives.cases(rows=8, features=5, per_class=2, classes=6),
    *_peer_maps.cases(32),
]
VERSIONS: dict[str, str | None] = {name: "1.2.3" for name in peers.PEERS}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_side_is_a_scalar_of_all_arrays_of_its_case(case):
    arrays = [jnp.asarray(each) for each in (*case.variables, *case.constants)]
    value = jax.eval_shape(case.ours, *arrays)
    assert value.shape == ()
    assert case.package in peers.PEERS


def test_every_objective_has_a_row_of_its_own():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(_peer_objectives.OBJECTIVES) >= 15


@pytest.mark.parametrize(
    "metric",
    [
        each
        for each in _peer_metrics.metrics(pairs=2000, rows=60, features=8)
        if each.package == "scikit-learn"
    ],
    ids=lambda metric: metric.name,
)
def test_metrics_equal_those_of_scikit_learn(metric):
    np.testing.assert_allclose(metric.ours(), metric.theirs(), rtol=1e-6)


@pytest.mark.parametrize(
    "difference", _peer_differences.DIFFERENCES, ids=lambda each: each.name
)
def test_where_others_differ_ours_is_the_definition(difference):
    np.testing.assert_allclose(
        difference.ours(), difference.definition(), rtol=3e-3, atol=1e-6
    )


def test_every_kind_of_adapter_is_exchanged():
    names = [each.name for each in _peer_adapters.EXCHANGES]
    assert len(names) == len(set(names))
    kinds = {each.config for each in _peer_adapters.EXCHANGES}
    assert kinds == {"OFTConfig", "BOFTConfig", "HRAConfig", "PsoftConfig"}


def test_rounds_end_in_time_but_not_before_the_third():
    now = [0.0]

    def call():
        now[0] += 1.0

    calls = {"first": call, "second": call}
    for seconds, expected in ((0.1, 3), (9.0, 5), (100.0, 7)):
        now[0] = 0.0
        found = _peer_case.medians(calls, lambda: now[0], 7, seconds)
        assert found == {"first": 1.0, "second": 1.0}
        # Two calls before the rounds.
        assert now[0] == 2 + 2 * expected


def test_without_any_other_library_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ValueError, match=r"at least one .* pip install 'sphax\[peers"):
        peers.measure(peers.Config())


def test_rows_need_their_package_and_torch():
    only = VERSIONS | {"torch": None}
    assert not peers._has(only, "pytorch-metric-learning")
    assert peers._has(only, "scikit-learn")
    assert not peers._has(VERSIONS | {"peft": None}, "peft")
    assert peers._has(VERSIONS, "torch")


def row(name, ours, theirs):
    return {
        "name": name,
        "peer": "Theirs",
        "value_difference": 1e-16,
        "gradient_difference": 2e-15,
        "value": 1.0,
        "peer_value": 1.0,
        "first_seconds": 0.5,
        "compile_seconds": 0.25,
        "value_seconds": ours,
        "peer_value_seconds": 3.0 * theirs,
        "seconds": ours,
        "peer_seconds": theirs,
        "bytes": 2**20,
        "peer_bytes": 2**22,
    }


def test_tables_of_figures():
    large = {"name": "large", "peer": "Theirs", "peer_array_bytes": 2**33}
    large |= {"value_seconds": 0.002, "seconds": 0.002, "bytes": 2**20}
    metric = {"name": "auc", "peer": "roc_auc_score", "value": 0.5, "peer_value": 0.5}
    metric |= {"seconds": 0.1, "peer_seconds": 0.2, "bytes": 2**20, "peer_bytes": None}
    fast, slow = row("fast", 0.001, 0.002), row("slow", 0.001, 0.0005)
    figures = {
        "config": {"features": 16, "pairs": 1000, "searched": 1000, "cores": 1},
        "versions": {"jaxlib": "0.10.2"},
        "peers": VERSIONS | {"peft": None},
        "objectives": [
            {"rows": 256, "quietness": 1.0, "cases": [fast, slow]},
            {"rows": 1024, "quietness": 1.3, "cases": [large, slow]},
        ],
        "maps": [{"n": 64, "quietness": 1.0, "cases": []}],
        "metrics": {"quietness": 1.0, "rows": [metric]},
        "adapters": [{"name": "OFT", "moved": 0.5, "reading": 1e-7, "writing": 2e-7}],
        "differences": [],
    }
    lines = [*peers.tables(figures)]
    assert lines[2] == "| fast | Theirs | 1e-16 | 2e-15 | 0.5 | 0.2 |"
    assert "| fast | 1.00 | 6.00 | 6.0 | 1.00 | 2.00 | 2.0 | 1.0 | 4.0 |" in lines
    assert "| large | 2.00 | | | 2.00 | | | 1.0 | 8,192 in one array |" in lines
    assert sum(line.startswith("| slow | Theirs") for line in lines) == 1
    summary = next(line for line in lines if line.startswith("Ratios"))
    assert "with gradients: 1.2 in the median, 0.50 for slow" in summary
    assert any("1.30 times its fastest time" in line for line in lines)
    assert not any("64 x 64" in line for line in lines)
    expected = (
        "| auc | roc_auc_score | 0.500000 | 0.500000 | 0.100 | 0.200 | 2.0 | 1 | |"
    )
    assert expected in [line.replace("|  |", "| |") for line in lines]
    assert "| OFT | 0.50 | 1e-07 | 2e-07 |" in lines
    assert lines[-2] == ("Rows that need peft are missing: pip install 'sphax[peers]'.")
    assert "torch 1.2.3, pytorch-metric-learning 1.2.3, geotorch" in lines[-3]
