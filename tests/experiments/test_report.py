"""The tables of the READMEs: written from the results, between their marks alone."""

import dataclasses
import sys

import pytest

from experiments import campaign, report
from experiments.common import store
from tests.experiments.common import toy

TEXT = """# Toys

<!-- a comment of other words -->
<!-- {mark} -->
an old table
<!-- end -->
The end of <!-- end -->
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with the toy study, as ``experiments.toy``, and one benchmark."""
    folder = tmp_path / "experiments" / "toy"
    for name in ("results", "../benchmarks/results"):
        (folder / name).mkdir(parents=True)
    (folder / "config.py").write_text("")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(store, "_ROOT", tmp_path / "experiments")
    for name in ("config", "report"):
        monkeypatch.setitem(sys.modules, f"experiments.toy.{name}", toy)
    return tmp_path


def publish(seeds):
    runs = toy.planned(toy.Config(seeds=seeds))
    for run in runs:
        metrics, made = {"x": [run.seed + 0.5]}, store.provenance(1.0, 1)
        store.save(run, store.published("toy"), metrics, made)


def write(root, text, place="experiments/toy"):
    path = root / place / "README.md"
    path.write_text(text)
    return path


def test_a_readme_is_rewritten_only_between_its_marks(root):
    publish(seeds=3)
    rows = [
        f"| {method}, seed {seed} | {seed}.500 |"
        for method in ("slow", "fast")
        for seed in range(3)  # all that are published, if there are more than planned
    ]
    table = "\n".join(["| method | x |", *rows])
    for mark, place in (("quick-toy", "experiments/toy"), ("toy/quick-toy", "")):
        old = TEXT.format(mark=mark)
        path = write(root, old, place)
        new = report.rewrite(path)
        assert new == old.replace("an old table", table)
        path.write_text(new)
        assert report.rewrite(path) == new


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("quick-toy", "/experiments/toy/results/quick-toy has no runs."),
        ("quick-car", "toy has no table quick-car."),
        ("car/quick-car", "there is no study car."),
        ("benchmarks/car", "there is no .*/experiments/benchmarks/results/car.json."),
    ],
)
def test_a_mark_without_a_result_is_an_error_that_names_it(root, mark, reason):
    path = write(root, TEXT.format(mark=mark))
    place = f"^experiments/toy/README.md, <!-- {mark} -->: .*"
    with pytest.raises(ValueError, match=place + reason):
        report.rewrite(path)


def test_the_command_writes_what_differs_or_nothing(root, monkeypatch, capsys):
    publish(seeds=1)
    monkeypatch.setattr(sys, "argv", ["-m"])
    new = write(root, TEXT.format(mark="quick-toy"))
    write(root, "# No table\n", "")
    bad = write(root, TEXT.format(mark="car"), "experiments/benchmarks")
    with pytest.raises(SystemExit) as stop:
        report.main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: experiments/benchmarks/README.md, <!-- car -->: ")
    assert "an old table" in new.read_text()
    bad.unlink()
    report.main()
    assert capsys.readouterr().out.splitlines() == [
        "README.md: unchanged",
        "experiments/toy/README.md: written",
    ]
    assert "an old table" not in new.read_text()
    report.main()
    assert "written" not in capsys.readouterr().out


def test_figures_are_drawn_on_request(root, monkeypatch, capsys):
    publish(seeds=1)
    write(root, "", "")
    figure = store.published("toy") / "quick-toy.png"
    for flags in ([], ["--figures"]):
        monkeypatch.setattr(sys, "argv", ["-m", *flags])
        report.main()
        assert figure.exists() == bool(flags)
    assert capsys.readouterr().out.endswith("toy, quick-toy: drawn\n")


@pytest.mark.parametrize("module", [report, campaign])
def test_help_and_unknown_arguments(module, monkeypatch, capsys):
    """The commands that are not studies; those of studies are in test_cli."""
    for flags, code in (("--help", 0), ("--stepz", 2)):
        monkeypatch.setattr(sys, "argv", ["-m", flags])
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert (stop.value.code or 0) == code
    out, err = capsys.readouterr()
    for field in dataclasses.fields(module.Config):
        assert f"--{field.name.replace('_', '-')}" in out
    line = f"error: Unrecognized options: --stepz; see python -m {module.__name__}"
    assert err == f"{line} --help\n"
