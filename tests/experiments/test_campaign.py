"""The campaign: the order of the missing runs, its lists, and how it ends in time."""

import dataclasses
import sys

import pytest

from experiments import campaign
from experiments.common import images, store
from tests.experiments.common import toy


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Tables of the toy study, as the campaign finds them; a list to be filled."""
    found = []
    monkeypatch.setattr(campaign, "planned", lambda config: iter(found))
    monkeypatch.setattr(store, "published", lambda study: tmp_path / "published")
    monkeypatch.setattr(campaign, "_COMPILATION", 0.0)
    monkeypatch.setitem(sys.modules, "experiments.toy.train", toy)
    return found


def table(tmp_path, group="quick-toy", **settings):
    config = toy.Config(runs=tmp_path, **settings)
    return "toy", [dataclasses.replace(run, group=group) for run in toy.planned(config)]


def order(config):
    return [
        (job.runs[0].group, job.runs[0].method, [run.seed for run in job.runs])
        for job in campaign.missing(config)
    ]


def test_runs_come_in_the_order_of_their_worth(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(campaign, "_ORDER", (("toy", "best"), ("toy", "best-cropped")))
    methods = ("arcface", "l-softmax-2", "softmax")
    tables += [
        table(tmp_path, "other", seeds=1),
        table(tmp_path, "best-cropped-rgb", seeds=1, methods=methods[:1]),
        table(tmp_path, "best", seeds=4, methods=methods),
    ]
    config = campaign.Config(runs=tmp_path)
    found = order(config)
    assert [(method, seeds[0]) for group, method, seeds in found[:12]] == [
        *(("l-softmax-2", seed) for seed in range(3)),
        *(("softmax", seed) for seed in range(3)),
        *(("arcface", seed) for seed in range(3)),
        *((method, 3) for method in ("l-softmax-2", "softmax", "arcface")),
    ]
    groups = [group for group, _, _ in found]
    assert groups == ["best"] * 12 + ["best-cropped-rgb"] + ["other"] * 2
    # On an accelerator, the first three seeds are made together.
    monkeypatch.setattr(campaign.jax, "default_backend", lambda: "gpu")
    assert order(config)[:2] == [
        ("best", "l-softmax-2", [0, 1, 2]),
        ("best", "softmax", [0, 1, 2]),
    ]


def test_what_is_stored_is_not_missing_and_says_how_long_others_take(
    tmp_path, tables, capsys
):
    name, runs = table(tmp_path)
    tables.append((name, runs))
    made = store.provenance(100.0, 1)
    store.save(runs[0], tmp_path / "toy", {}, made)
    store.save(runs[2], tmp_path / "published", {}, made | {"seconds": 300.0})
    config = campaign.Config(runs=tmp_path)
    known = campaign.seconds_of(config)
    assert known["toy", "quick-toy", "slow"] == 2.0
    assert known["toy", "quick-toy"] == 4.0
    assert [campaign.estimate(job, known) for job in campaign.missing(config)] == [
        100.0,
        300.0,
    ]
    campaign.show(config)
    assert capsys.readouterr().out.splitlines() == [
        "toy, quick-toy: 2 of 4; missing:",
        "    slow, seed 1",
        "    fast, seed 1",
    ]


def test_the_dry_run_lists_minutes_and_makes_nothing(
    tmp_path, tables, capsys, monkeypatch
):
    tables.append(table(tmp_path, seeds=1))
    store.save(tables[0][1][0], tmp_path / "toy", {}, store.provenance(600.0, 1))
    # Nothing is known of steps in another table: there is a guess.
    monkeypatch.setattr(campaign, "_STEP", {"cpu": 18.0})
    monkeypatch.setattr(campaign, "_ACCELERATED_STEP", 18.0)
    tables.append(table(tmp_path, "next", seeds=1))
    flags = ["campaign", "--dry-run", "--minutes", "25", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", flags)
    campaign.main()
    assert capsys.readouterr().out.splitlines() == [
        "   10.0 min  toy, quick-toy, fast, seed 0",
        "   15.0 min  toy, next, slow, seed 0",
        "   15.0 min  toy, next, fast, seed 0  *",
        "   40.0 min in all; * not within --minutes 25",
    ]
    assert len([*tmp_path.rglob("*.json")]) == 1


def test_it_ends_in_time_and_goes_on_where_it_was(tmp_path, tables, capsys):
    tables.append(table(tmp_path, seeds=1, pause=0.01))
    config = campaign.Config(runs=tmp_path, minutes=0.3 / 60)
    for _ in range(20):
        campaign.make(config)
        said = capsys.readouterr()
        if "The time is over" not in said.err:
            break
        # Each leg gets further, or a machine too slow for the first step is tried on.
        config = dataclasses.replace(config, minutes=1.5 * config.minutes)
    assert not campaign.missing(config)
    records = [store.load(run, tmp_path / "toy") for run in tables[0][1]]
    whole = toy.Config(runs=tmp_path / "whole", seeds=1)
    store.complete(toy.planned(whole), toy.train, whole.runs)
    for run, record in zip(toy.planned(whole), records, strict=True):
        expected = store.load(run, whole.runs / "toy")
        assert record
        assert expected
        assert record["metrics"] == expected["metrics"]


def test_what_cannot_be_made_is_left_out(tmp_path, tables, capsys, monkeypatch):
    def fail(together, work):
        if together[0].group == "no-data":
            raise images.DatasetNotFoundError("stars are not prepared. To do so, ...")
        if together[0].method == "slow":
            raise FloatingPointError("the loss is nan in step 3.")
        return trained(together, work)

    trained = toy.train
    monkeypatch.setattr(toy, "train", fail)
    tables += [table(tmp_path, "no-data", seeds=2), table(tmp_path, seeds=1)]
    campaign.make(campaign.Config(runs=tmp_path))
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if ":" in line] == [
        "left out: toy, no-data: stars are not prepared.",
        "failed: toy, quick-toy, slow, seed 0: the loss is nan in step 3.",
        "made: toy, quick-toy, fast, seed 0",
    ]
    assert said.out == f"1 of 6 missing runs made, in {tmp_path}.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 0.0}, "--minutes must be positive, got 0.0"),
        ({"minutes": float("nan")}, "--minutes must be positive, got nan"),
        ({"studies": ("stars",)}, "--studies must be among .*classify.*, got stars"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        campaign.Config(**options)


def test_every_study_declares_its_tables():
    found = [*campaign.planned(campaign.Config())]
    assert {study for study, _ in found} == set(campaign.names_of_studies())
    names = [(study, runs[0].group) for study, runs in found]
    for study, group in campaign._ORDER:
        if study in campaign.names_of_studies():
            assert any(s == study and g.startswith(group) for s, g in names), group
