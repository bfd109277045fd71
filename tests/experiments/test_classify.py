"""The classification study: a short run, its numbers, presets and table."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classify import config, report, train
from experiments.classify.__main__ import parse
from experiments.common import runs, store


def short(tmp_path, **options):
    usual = dict(methods=("l-softmax-2",), seeds=1, steps=3, drops=(2,), batch=16)
    preset = config.preset("quick")
    return dataclasses.replace(preset, **usual | {"runs": tmp_path} | options)


def test_three_steps_are_stored_and_repeat_themselves(tmp_path):
    chosen = short(tmp_path, plane_steps=2)
    planned = config.planned(chosen)
    assert [run.method for run in planned] == ["l-softmax-2", "plane-l-softmax-2"]
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "classify") or {}) for run in planned]
    metrics, plane = (record["metrics"] for _, record in found)
    assert set(metrics) == {"error", "margin", "within", "parameters"}
    assert runs.unpack(plane["features"]).shape == (898, 2)
    assert len(runs.unpack(plane["labels"])) == 898
    report.draw(chosen, found, tmp_path)
    for figure in ("psi.png", "quick-digits-plane.png"):
        assert (tmp_path / figure).stat().st_size > 10_000
    lines = list(report.table(chosen, found))
    assert lines[2].startswith(f"| L-Softmax, m = 2 | {metrics['error']:.2f} | ")
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/classify")
    assert again is not None
    assert again["metrics"] == metrics


def test_presets_are_the_papers_recipes():
    papers: dict[config.PresetName, str] = {
        "table-2.2": "mnist",
        "table-2.3": "cifar10",
        "table-2.4": "cifar100",
    }
    for name, dataset in papers.items():
        chosen = config.preset(name)
        assert (chosen.group, chosen.dataset) == (f"{name}-{dataset}", dataset)
        steps = chosen.steps, chosen.batch, chosen.drops
        assert steps == (18_000, 256, (12_000, 15_000))
        recipe = chosen.learning_rate, chosen.momentum, chosen.weight_decay
        assert recipe == (0.1, 0.9, 5e-4)
        assert chosen.precision == "tf32"
    plus = parse(["--preset", "table-2.3", "--augment"])
    assert plus.group == "table-2.3-cifar10-augmented"
    assert plus.annealing == (1000.0, 1e-5, 45.0, 0.0)
    quick = parse(["--dataset", "mnist", "--seeds", "3"])
    assert (quick.dataset, quick.seeds, quick.steps) == ("mnist", 3, 2_000)
    assert quick.precision == "float32"
    # lambda falls as in the paper, in fewer steps.
    assert quick.annealing[1] * quick.steps == pytest.approx(2.5e-5 * 18_000)
    with pytest.raises(ValueError, match=r"table-2\.2 is for mnist or fashion_mnist"):
        config.preset("table-2.2", "cifar10")


def rates(config, steps):
    return [np.asarray(config.rate(step)) for step in steps]


def test_presets_of_operators_are_the_authors_recipes():
    nine = config.preset("spherenet-9")
    assert (nine.network, nine.dataset, nine.steps) == ("vgg9", "cifar10", 64_000)
    assert (nine.batch, nine.flip, nine.augment) == (128, True, False)
    assert (nine.label_smoothing, nine.orthogonality) == (0.01, 1e-4)
    assert nine.gray
    found = rates(nine, (0, 33_999, 34_001, 54_001))
    np.testing.assert_allclose(found, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)
    residual = config.preset("sphereresnet-32")
    assert (residual.network, residual.augment) == ("sphereresnet32", True)
    dcnet = config.preset("dcnet-32")
    assert (dcnet.network, dcnet.dataset) == ("dcnet_resnet32", "cifar100")
    assert (dcnet.orthogonality, dcnet.of_directions) == (5e-6, True)
    found = rates(dcnet, (0, 20_001, 30_001, 37_501, 42_501))
    np.testing.assert_allclose(found, [1e-3, 1e-4, 1e-5, 1e-6, 1e-7], rtol=1e-6)
    for chosen in (nine, residual, dcnet):
        assert chosen.operator[0] == "plain"
        assert chosen.decay_norms
        optimizer, params = chosen.optimizer, jnp.zeros((2, 2))
        state = optimizer.init(params)
        updates, _ = optimizer.update(jnp.full((2, 2), 7.0), state, params)
        # The first step of Adam is the rate, whatever the gradient.
        np.testing.assert_allclose(np.asarray(updates), -1e-3, rtol=1e-4)
    for chosen in (nine, residual):
        assert set(report._ACCURACIES[chosen.group]) == set(chosen.operator)
    with pytest.raises(ValueError, match="spherenet-9 is for cifar10, not digits"):
        config.preset("spherenet-9", "digits")


def test_tables_have_the_published_numbers_beside_ours():
    chosen = config.preset("table-2.2")
    row = {"error": 1.0, "margin": 60.0, "within": 20.0, "parameters": "x"}
    provenance = {"device": "cpu (cpu)", "versions": {"jax": "0.10"}, "seconds": 6.0}
    found = [
        (run, {"metrics": row | {"error": 1.0 + run.seed}, "provenance": provenance})
        for run in config.planned(dataclasses.replace(chosen, seeds=2))
        if run.config.methods == ("softmax",) and not run.config.plane
    ]
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("|  | error, % (2 seeds) | ")
    assert lines[2] == "| Softmax | 1.50 ± 0.71 | 60.0 ± 0.0 | 20.0 ± 0.0 | 0.40 |"
    command = "`python -m experiments.classify --preset table-2.2 --dataset mnist`"
    assert lines[-1] == f"{command}; cpu, jax 0.10, 12 s."
    sphere = config.preset("sphereresnet-32")
    found = [
        (run, {"metrics": row, "provenance": provenance})
        for run in config.planned(dataclasses.replace(sphere, seeds=1))
    ]
    lines = list(report.table(sphere, found))
    assert "official, best" in lines[0]
    assert lines[2] == "| Plain | 99.00 | 92.99 | 93.09 |"
    # Two operators by two losses, the first of which alone has a published number.
    both = dataclasses.replace(
        config.preset("operators", "cifar10"),
        operator=("sphere-linear", "tanh-cosine"),
        methods=("softmax", "cosface"),
    )
    found = [
        (run, {"metrics": row, "provenance": provenance})
        for run in config.planned(both)
    ]
    lines = list(report.table(both, found))
    assert lines[2] == "| SphereConv, linear; Softmax | 99.00 | 91.16 | 91.65 |"
    assert lines[5] == "| TanhConv, cosine; CosFace, m = 0.35 | 99.00 |  |  |"


def test_settings_of_a_run_have_no_paths(tmp_path):
    chosen = short(tmp_path, data_dir=tmp_path)
    for run in config.planned(chosen):
        assert str(tmp_path) not in json.dumps(run.settings)
    elsewhere = config.planned(short("elsewhere", side_by_side=True, seeds=2))
    assert {run.digest for run in elsewhere} == {
        run.digest for run in config.planned(chosen)
    }
