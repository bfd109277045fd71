"""Every command of the experiments: arguments, folders, errors, interruption, progress.

A new study or benchmark joins by a row of a table.
"""

import ast
import dataclasses
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import typing
from typing import Any

import numpy as np
import pytest

from experiments import (
    __main__,
    _data,
    _interrupts,
    _jobs,
    _open_set_recipes,
    _progress,
    _recipes,
    _results,
    _training,
    autoencoder,
    classify,
    confusion,
    energy,
    hardness,
    opt,
    report,
    robustness,
    thomson,
    verify,
)
from experiments.benchmarks import __main__ as benchmarks_main
from experiments.benchmarks import _figures

ROOT = pathlib.Path(__file__).parents[2]
# A study, and the settings that it has without arguments.
STUDIES: dict[Any, Any] = {
    autoencoder: autoencoder.Config(),
    classify: _recipes.preset("quick"),
    confusion: confusion.Config(),
    energy: energy.Config(),
    hardness: hardness.Config(),
    opt: opt.Config(),
    robustness: robustness.Config(),
    thomson: thomson.Config(),
    verify: _open_set_recipes.recipe(),
}
BENCHMARKS: list[Any] = [
    importlib.import_module(f"experiments.benchmarks.{path.stem}")
    for path in (ROOT / "experiments" / "benchmarks").glob("[!_]*.py")
]
PUBLISHED = sorted((ROOT / "experiments" / "results").glob("*.json"))
COMMANDS = [*STUDIES, *BENCHMARKS, report]
CONFIGS = [*STUDIES.values(), *(benchmark.Config() for benchmark in BENCHMARKS)]
EVERY_STUDY = pytest.mark.parametrize("study", STUDIES, ids=lambda x: x.__name__)
EVERY_BENCHMARK = pytest.mark.parametrize(
    "benchmark", BENCHMARKS, ids=lambda x: x.__name__
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command of a module: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["-m", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            module.main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def begin(monkeypatch):
    """Sets what happens when a study begins to read images, or a benchmark to time."""

    def begin(happens):
        monkeypatch.setattr(_data, "load", lambda *_: happens())
        monkeypatch.setattr(thomson, "minimize", lambda *_: happens())
        for benchmark in BENCHMARKS:
            monkeypatch.setattr(benchmark, "measure", lambda _: happens())

    return begin


def nothing():
    raise AssertionError("it had to be refused before")


def interrupt():
    raise KeyboardInterrupt


def test_every_study_has_a_row():
    folder = ROOT / "experiments"
    names = {f"experiments.{path.stem}" for path in folder.glob("[!_]*.py")}
    assert names == {study.__name__ for study in STUDIES} | {report.__name__}


@pytest.mark.parametrize("module", COMMANDS, ids=lambda x: x.__name__)
def test_help_names_the_command_and_all_settings(module, run):
    code, out, err = run(module, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: python -m {module.__name__} [-h]")
    config = STUDIES.get(module, module)
    kind = getattr(config, "Config", type(config))
    for field in dataclasses.fields(kind):
        assert f"--{field.name.replace('_', '-')}" in out
    words = re.sub(r"[\s│|]+", " ", out)
    assert words.count("(default:") == len(dataclasses.fields(kind))


@pytest.mark.parametrize("module", COMMANDS, ids=lambda x: x.__name__)
def test_unknown_arguments_are_refused_in_one_line(module, run, begin, monkeypatch):
    begin(nothing)
    monkeypatch.setattr(report, "rewrite", lambda *_: nothing())
    code, out, err = run(module, "--stepz", "3")
    assert (code, out) == (2, "")
    line = f"error: Unrecognized options: --stepz, 3; see python -m {module.__name__}"
    assert err == f"{line} --help\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--steps", "abc"], "error: --steps: invalid literal for int() with base 10"),
        (["--steps"], "error: Missing value for argument '--steps'"),
        (["--preset"], "error: Missing value for argument '--preset'"),
        (["--preset", "quik"], "error: invalid choice 'quik' for argument '--preset'"),
        (["--dataset", "x"], "error: invalid choice 'x' for argument '--dataset'"),
        (["--preset", "table-2.2", "--dataset", "cifar10"], "error: --preset table-2."),
        (["--learning-rate", "nan"], "error: --learning-rate must be positive, got na"),
        (["--data-dir", "nowhere", "--dataset", "mnist"], "error: mnist is not prepa"),
    ],
)
def test_errors_are_of_one_style(flags, line, run):
    code, out, err = run(classify, *flags)
    assert (code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def numbers():
    for config in CONFIGS:
        hints = typing.get_type_hints(type(config))
        for field in dataclasses.fields(config):
            parts = [hints[field.name], *typing.get_args(hints[field.name])]
            kinds = {p for part in parts for p in (part, *typing.get_args(part))}
            if kinds & {int, float}:
                yield config, field.name, float if float in kinds else int


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, -0.5, 0])
def test_numbers_out_of_range_name_their_flag(bad):
    refused = []
    for config, name, kind in numbers():
        now = getattr(config, name)
        value = (bad,) * len(now) if isinstance(now, tuple) else bad
        is_zero = bad == 0 and name in (
            "annealing drops label_smoothing momentum orthogonality seed weight_decay"
        )
        if is_zero or (bad == 0 and name in getattr(config, "may_be_zero", ())):
            dataclasses.replace(config, **{name: value})
            continue
        flag = f"--{name.replace('_', '-')}"
        with pytest.raises(ValueError, match=f"^{flag} must be"):
            dataclasses.replace(config, **{name: value})
        refused.append((name, kind))
    assert {("steps", int), ("learning_rate", float), ("repetitions", int)} <= {
        *refused
    }
    assert len(refused) > 70


@pytest.mark.parametrize("study", [autoencoder, classify, verify])
def test_a_batch_of_too_many_is_refused_before_compiling(study, run, monkeypatch):
    monkeypatch.setattr(_training, "_start", lambda *_: nothing())
    monkeypatch.setattr(autoencoder, "measure", lambda *_: nothing())
    code, _, err = run(study, "--batch", 100_000)
    assert code == 2
    assert err.startswith("error: --batch must be ")
    assert err.endswith("got 100000.\n")
    assert err.count("\n") == 1


@EVERY_STUDY
@pytest.mark.parametrize("flag", ["--checkpoints", "--results"])
def test_folders_are_tried_before_anything_is_trained(study, flag, run, begin):
    begin(nothing)
    pathlib.Path("file").write_text("not a folder")
    code, _, err = run(study, flag, "file")
    assert code == 2
    expected = f"error: {flag} must be a folder that can be written to, got file: "
    assert err.startswith(expected)
    assert err.count("\n") == 1
    code, _, err = run(study, flag, "file/in/it")
    assert (code, err.count("\n")) == (2, 1)
    assert flag in err


@EVERY_BENCHMARK
def test_the_place_of_figures_is_tried_before_anything_is_timed(benchmark, run, begin):
    begin(nothing)
    pathlib.Path("file").write_text("not a folder")
    pathlib.Path("experiments").mkdir()
    assert run(benchmark, "--output", "file/x.json")[0] == 2
    code, _, err = run(benchmark, "--output", "experiments")
    assert (code, err) == (
        2,
        "error: --output must be a file, got the folder experiments.\n",
    )


@EVERY_STUDY
def test_interrupted_it_says_how_it_goes_on(study, run, begin):
    line = "interrupted: the same command goes on from its last checkpoint.\n"
    begin(interrupt)
    assert run(study) == (130, "", line)
    begin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(study) == (143, "", line)


def test_an_interruption_that_comes_out_as_another_error_is_one(run, begin):
    """As it does where jaxlib compares the metadata of pytrees."""

    def happens():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ValueError("exception raised while checking equality") from error

    begin(happens)
    code, _, err = run(classify)
    assert (code, err.startswith("interrupted: the same command")) == (130, True)


def test_an_interruption_that_python_discards_stops_the_next_step(run, begin, capsys):
    class Lost:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    def happens():
        Lost()
        for done in _progress.each(range(3), "steps"):
            assert done == 0

    begin(happens)
    assert run(classify)[0] == 130
    assert capsys.readouterr().err == ""
    _interrupts.check()  # is over


def test_interrupted_while_it_imports_it_has_a_line_to_say_too(tmp_path):
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    found = subprocess.run(
        [sys.executable, "-m", "experiments"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # A shell shows a process that a signal has ended as 130.
    assert found.returncode == -signal.SIGINT
    assert found.stdout == ""
    assert found.stderr == "interrupted: nothing was begun yet.\n"


@EVERY_BENCHMARK
def test_interrupted_benchmarks_say_that_they_start_anew(benchmark, run, begin):
    begin(interrupt)
    code, _, err = run(benchmark)
    assert code == 130
    assert err == "interrupted: nothing was kept; the same command starts anew.\n"


def test_by_default_nothing_committed_is_written():
    assert "runs/" in (ROOT / ".gitignore").read_text().splitlines()
    for config in STUDIES.values():
        for path in (config.result(".json"), config.checkpoints):
            assert not path.is_absolute()
            assert path.parts[0] == "runs"
    for benchmark in BENCHMARKS:
        output = benchmark.Config().output
        assert output.parts[0] == "runs"
        assert output.stem.startswith("benchmark_")


def test_published_results_are_not_replaced_by_those_of_other_settings(tmp_path):
    config = dataclasses.replace(_recipes.preset("quick"), publish=True)
    assert config.result(".json").parent == ROOT / "experiments" / "results"
    fewer = dataclasses.replace(config, seeds=1, steps=3)
    (tmp_path / "link").symlink_to(config.folder)
    hidden = dataclasses.replace(fewer, publish=False, results=tmp_path / "link")
    for other in (fewer, hidden):
        with pytest.raises(ValueError, match=r"--seeds 5, not 1; --steps 400, not 3\."):
            _results.refuse_other_settings(other.result(".json"), other)
    elsewhere = dataclasses.replace(fewer, publish=False, results=tmp_path)
    for free in (config, elsewhere, dataclasses.replace(config, dataset="cifar100")):
        _results.refuse_other_settings(free.result(".json"), free)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_results_of_the_settings_that_are_published_replace_them(path):
    """With the settings that a file says of itself, its study may publish it anew."""
    content, name = json.loads(path.read_text())["config"], path.stem.split("_")[0]
    if name == "benchmark":
        name = path.stem.removeprefix("benchmark_").removesuffix("_million")
        kind = importlib.import_module(f"experiments.benchmarks.{name}").Config
    else:
        kind = type(STUDIES[importlib.import_module(f"experiments.{name}")])
    content.pop("output", None)
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in content.items()
    }
    _results.refuse_other_settings(path, kind(**values))


def test_figures_of_a_machine_with_other_work_are_not_published(
    tmp_path, run, monkeypatch
):
    (benchmark,) = (x for x in BENCHMARKS if x.__name__.endswith("orthogonal"))
    monkeypatch.setattr(_results, "PUBLISHED", tmp_path)
    monkeypatch.setattr(benchmark, "tables", lambda figures: [])
    sizes = [{"quietness": None}, {"quietness": 1.3}]
    monkeypatch.setattr(benchmark, "measure", lambda config: {"sizes": sizes})
    code, _, err = run(benchmark, "--publish")
    assert code == 2
    assert err.startswith("error: --publish must have figures of a quiet machine")
    assert "1.30 times" in err
    assert not list(tmp_path.iterdir())
    sizes.pop()
    monkeypatch.setattr(sys, "argv", ["-m", "--publish"])
    benchmark.main()
    written = json.loads((tmp_path / "benchmark_orthogonal.json").read_text())
    assert written["config"] == {"sizes": [256, 512, 1024], "repetitions": 15}
    text = " ".join(_figures.end_of_table(1.3))
    assert "1.30 times its fastest time" in text


def test_seconds_are_those_of_all_legs(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_jobs.time, "monotonic", lambda: now[0])
    config = thomson.Config(checkpoints=tmp_path / "c", results=tmp_path / "r")

    def work(jobs, seconds, is_stopped=False):
        def measured(folder):
            now[0] += seconds
            jobs.steps()(1, {})
            if is_stopped:
                raise KeyboardInterrupt
            return seconds

        return measured

    with _jobs.Jobs(config, "x") as jobs:
        assert jobs.outcome("a, seed 0", 1, work(jobs, 100.0)) == 100.0
        stopped = work(jobs, 20.0, is_stopped=True)
        with pytest.raises(KeyboardInterrupt):
            jobs.outcome("a, seed 1", 1, stopped)
    with _jobs.Jobs(config, "x") as jobs:
        assert jobs.outcome("a, seed 0", 1, work(jobs, 7.0)) == 100.0
        assert jobs.outcome("a, seed 1", 1, work(jobs, 3.0)) == 3.0
        assert jobs.seconds == 123.0
    # Other runs have seconds of their own.
    with _jobs.Jobs(config, "x") as jobs:
        jobs.outcome("b, seed 0", 1, work(jobs, 5.0))
        assert jobs.seconds == 5.0
    jobs.clear()
    assert not list((tmp_path / "c").iterdir())


def test_a_log_has_a_line_every_half_minute_and_no_bar(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    progress = _progress.Progress()
    progress.expect(7_200)
    report = _progress.steps_on(progress, 2)
    for second in range(3_600):
        progress.begin(f"softmax, seed {second // 1_800}")
        now[0] += 1.0
        report(1, {"loss": np.array([0.25, 0.75])})
    progress.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert len(lines) == 120
    assert lines[0] == "softmax, seed 0, 60 of 7200 steps, 30 s, loss 0.500"
    assert lines[-1].startswith("softmax, seed 1, 7200 of 7200 steps, 3600 s")


@pytest.mark.parametrize(
    ("main", "modules"),
    [(__main__, [*STUDIES, report]), (benchmarks_main, BENCHMARKS)],
)
def test_the_package_lists_its_commands(main, modules, run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-m"])
    main.main()
    lines = capsys.readouterr().out.splitlines()
    for module in modules:
        tree = ast.parse(pathlib.Path(module.__file__).read_text())
        text = ast.get_docstring(tree) or ""
        (line,) = (x for x in lines if x.split()[2:3] == [module.__name__])
        assert line.endswith(text.splitlines()[0])
    assert run(main, "classify")[0] == 2


def test_the_report_writes_what_differs_and_nothing_else(tmp_path, monkeypatch, capsys):
    (tmp_path / "experiments").mkdir()
    for name in ("README.md", "experiments/README.md"):
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(text.replace("| Softmax | 3.54", "| Softmax | 0"))
    monkeypatch.setattr(report, "_ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["-m"])
    report.main()
    report.main()
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in said] == ["written"] * 2 + [
        "left as it is"
    ] * 2
    for name in ("README.md", "experiments/README.md"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()
