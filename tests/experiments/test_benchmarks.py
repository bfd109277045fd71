"""The benchmarks: command lines, where figures go, and which are published.

Nothing is timed here.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import re
import signal
import sys
import typing

import pytest

from experiments import report
from experiments.benchmarks import __main__, _figures

ROOT = pathlib.Path(_figures.__file__).parent
NAMES = sorted(path.stem for path in ROOT.glob("[!_]*.py"))
PUBLISHED = sorted((ROOT / "results").glob("*.json"))
EVERY_BENCHMARK = pytest.mark.parametrize("name", NAMES)
EVERY_FILE = pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)


def module(name) -> typing.Any:
    return importlib.import_module(f"experiments.benchmarks.{name}")


def benchmark_of(path):
    """The benchmark of a file; one may have several, such as a million classes."""
    return max((name for name in NAMES if path.stem.startswith(name)), key=len)


def nothing(*_):
    raise AssertionError("it had to be refused before")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a benchmark that measures by a function: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, measure=nothing):
        monkeypatch.setattr(sys, "argv", ["-m", *map(str, arguments)])
        monkeypatch.setattr(module(name), "measure", measure)
        try:
            module(name).main()
        except SystemExit as stop:
            return stop.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@EVERY_BENCHMARK
def test_help_names_the_command_and_all_settings(name, run):
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: python -m experiments.benchmarks.{name} [-h]")
    fields = dataclasses.fields(module(name).Config)
    for field in fields:
        assert f"--{field.name.replace('_', '-')}" in out
    assert re.sub(r"[\s│|]+", " ", out).count("(default:") == len(fields)


@EVERY_BENCHMARK
def test_what_cannot_work_is_refused_before_anything_is_timed(name, run):
    pathlib.Path("file").write_text("not a folder")
    pathlib.Path("folder").mkdir()
    command = f"python -m experiments.benchmarks.{name}"
    for flags, line in (
        ("--stepz 3", f"Unrecognized options: --stepz, 3; see {command} --help\n"),
        ("--output file/x.json", "--output must be a folder that can be written to"),
        ("--output folder", "--output must be a file, got the folder folder.\n"),
        ("--output None --publish", "--publish must have the name of a file in --out"),
    ):
        code, out, err = run(name, *flags.split())
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: {line}")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, -0.5, 0])
def test_numbers_out_of_range_name_their_flag(bad):
    refused = set()
    for name in NAMES:
        config = module(name).Config()
        hints = typing.get_type_hints(type(config))
        for field in dataclasses.fields(config):
            kinds = {hints[field.name], *typing.get_args(hints[field.name])}
            if not kinds & {int, float}:
                continue
            now = getattr(config, field.name)
            value = (bad,) * len(now) if isinstance(now, tuple) else bad
            if bad == 0 and field.name in config.may_be_zero:
                dataclasses.replace(config, **{field.name: value})
                continue
            flag = f"--{field.name.replace('_', '-')}"
            with pytest.raises(ValueError, match=f"^{flag} must be"):
                dataclasses.replace(config, **{field.name: value})
            refused.add((name, field.name))
    assert {("energy", "points"), ("operators", "repetitions")} <= refused


@EVERY_BENCHMARK
def test_interrupted_it_says_that_nothing_was_kept(name, run):
    line = "interrupted: nothing was kept; the same command starts anew.\n"

    def interrupt(config):
        raise KeyboardInterrupt

    assert run(name, measure=interrupt) == (130, "", line)
    found = run(name, measure=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert found == (143, "", line)
    assert not list(pathlib.Path("runs").rglob("*.json"))


def test_the_package_lists_its_benchmarks(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-m"])
    __main__.main()
    lines = capsys.readouterr().out.splitlines()
    for name in NAMES:
        command = f"experiments.benchmarks.{name}"
        (line,) = (x for x in lines if x.split()[2:3] == [command])
        assert line.endswith(module(name).__doc__.splitlines()[0])


@EVERY_BENCHMARK
def test_by_default_nothing_committed_is_written(name):
    config = module(name).Config()
    assert config.output == pathlib.Path(f"runs/benchmarks/{name}.json")
    assert not config.publish


def published(folder, monkeypatch):
    monkeypatch.setattr(_figures, "RESULTS", folder)
    monkeypatch.setattr(module("orthogonal"), "tables", lambda figures: ["a table"])


def measured(*quietness):
    return lambda config: {"sizes": [{"quietness": found} for found in quietness]}


def test_figures_of_a_busy_machine_are_not_published(run, tmp_path, monkeypatch):
    published(tmp_path / "results", monkeypatch)
    place = tmp_path / "results" / "orthogonal.json"
    code, out, err = run("orthogonal", "--publish", measure=measured(None, 1.3))
    assert (code, out) == (2, "a table\n")
    assert err.startswith("error: --publish must have figures of a quiet machine: here")
    assert "1.30 times its fastest time, 1.15 at most. Run again.\n" in err
    assert not place.exists()
    # They may be kept elsewhere, with a warning here and under the table.
    code, out, err = run("orthogonal", measure=measured(None, 1.3))
    assert (code, err) == (0, "")
    assert "Run again on a quiet machine before these are published (1.30)." in out
    assert pathlib.Path("runs/benchmarks/orthogonal.json").exists()
    assert "1.30 times its fastest time" in " ".join(_figures.end_of_table(1.3))
    assert [*_figures.end_of_table(1.1)] == [*_figures.end_of_table(None)] == [""]
    assert run("orthogonal", "--publish", measure=measured(None, 1.1))[0] == 0
    written = json.loads(place.read_text())
    assert written["config"] == {"sizes": [256, 512, 1024], "repetitions": 15}
    assert {"sizes", "device", "versions", "seconds"} <= set(written)


def test_figures_of_other_settings_do_not_replace_published_ones(
    run, tmp_path, monkeypatch
):
    published(tmp_path / "results", monkeypatch)
    assert run("orthogonal", "--publish", measure=measured(1.0))[0] == 0
    flags = "--publish", "--repetitions", 3
    code, _, err = run("orthogonal", *flags)
    assert code == 2
    assert err.startswith("error: --publish must not replace orthogonal.json by figure")
    assert "it has --repetitions 15, not 3. Remove that file first" in err
    # The same folder by another way.
    (tmp_path / "link").symlink_to(tmp_path / "results")
    flags = "--output", "link/orthogonal.json", "--repetitions", 3
    assert run("orthogonal", *flags)[0] == 2
    # The same settings may, and other settings under another name.
    assert run("orthogonal", "--publish", measure=measured(1.0))[0] == 0
    flags = "--publish", "--repetitions", 3, "--output", "orthogonal_short.json"
    assert run("orthogonal", *flags, measure=measured(1.0))[0] == 0
    assert (tmp_path / "results" / "orthogonal_short.json").exists()


@EVERY_FILE
def test_the_settings_of_a_published_file_may_replace_it(path):
    content = json.loads(path.read_text())["config"]
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in content.items()
    }
    name = pathlib.Path(path.name)
    config = module(benchmark_of(path)).Config(**values, output=name, publish=True)
    assert _figures._place(config) == path


def test_every_published_file_has_a_table():
    text = (ROOT / "README.md").read_text()
    marks = re.findall(r"<!-- ([\w./-]+) -->", text)
    names = {mark for mark in marks if mark != "end"}
    assert names == {path.stem for path in PUBLISHED}
    assert {benchmark_of(path) for path in PUBLISHED} == set(NAMES)
    # With its command, which report takes from the file.
    assert report.rewrite(ROOT / "README.md") == text
    for name in NAMES:
        assert f"`python -m experiments.benchmarks.{name}" in text
