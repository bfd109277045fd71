"""Every command of the studies: arguments, folders, errors, interruption, progress.

A study is tested by having a ``__main__``; settings that zero leaves out are those that
its ``Config`` says.
"""

import dataclasses
import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import typing

import numpy as np
import pytest

from experiments import __main__
from experiments.common import interrupts, progress, store
from tests.experiments.common import toy

ROOT = pathlib.Path(__file__).parents[3]
NAMES = sorted(
    path.parent.name
    for path in (ROOT / "experiments").glob("*/__main__.py")
    if (path.parent / "config.py").exists()
)
EVERY_STUDY = pytest.mark.parametrize("study", NAMES)


def config(study):
    return importlib.import_module(f"experiments.{study}.config")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command of a module: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(module, *arguments):
        if isinstance(module, str):
            module = importlib.import_module(f"experiments.{module}.__main__")
        monkeypatch.setattr(sys, "argv", ["-m", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            module.main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def begin(monkeypatch):
    """Sets what happens when a study begins to make its first run."""

    def begin(happens):
        monkeypatch.setattr(store, "make", lambda *_: happens())

    return begin


def nothing():
    raise AssertionError("it had to be refused before")


def interrupt():
    raise KeyboardInterrupt


@EVERY_STUDY
def test_help_names_the_command_and_all_settings(study, run):
    code, out, err = run(study, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: python -m experiments.{study} [-h]")
    fields = dataclasses.fields(config(study).Config)
    for field in fields:
        assert f"--{field.name.replace('_', '-')}" in out
    words = re.sub(r"[\s│|]+", " ", out)
    assert words.count("(default:") == len(fields)


@pytest.mark.parametrize(
    ("study", "flags", "code", "line"),
    [
        *(
            (study, flags, 2, line)
            for study in NAMES
            for flags, line in (
                (
                    "--stepz 3",
                    "Unrecognized options: --stepz, 3; see python -m"
                    f" experiments.{study} --help\n",
                ),
                ("--runs file", "--runs must be a folder that can be written to, got"),
                ("--runs file/in/it", "--runs must be a folder that can be written to"),
            )
        ),
        ("classify", "--steps abc", 2, "--steps: invalid literal for int() with base"),
        ("classify", "--steps", 2, "Missing value for argument '--steps'"),
        ("classify", "--preset", 2, "Missing value for argument '--preset'"),
        ("classify", "--preset x", 2, "invalid choice 'x' for argument '--preset'"),
        ("classify", "--dataset x", 2, "invalid choice 'x' for argument '--dataset'"),
        ("classify", "--preset table-2.2 --dataset cifar10", 2, "--preset table-2.2 "),
        ("classify", "--learning-rate nan", 2, "--learning-rate must be positive, got"),
        ("classify", "--network vgg", 2, "--network must be one of 'small', 'mnist'"),
        ("classify", "--operator", 2, "--operator must have at least one name"),
        ("classify", "--operator cosin", 2, "--operator must be plain, sphere-learned"),
        ("classify", "--data-dir x --dataset mnist", 2, "mnist is not prepared in "),
        ("classify", "--batch 100000", 2, "--batch must be at most 898, the number of"),
        ("classify", "--steps 3 --publish", 2, "--publish must have the settings of a"),
        ("confusion", "--methods", 2, "--methods must name at least one of softmax, l"),
        ("confusion", "--preset table-2.4 --dataset mnist", 2, "--preset table-2.4 is"),
        ("hardness", "--methods cosfac", 2, "invalid choice 'cosfac' for argument"),
        ("hardness", "--human-counts x", 2, "--human-counts are for the test images"),
        ("verify", "--methods softmax arcfce", 2, "--methods must be some of pixels, "),
        ("verify", "--preset long --dataset digits", 2, "--preset long is for omni"),
        ("verify", "--per-class 0", 2, "--per-class must be positive, got 0"),
        ("verify", "--batch 61", 2, "--batch must be --per-class = 12 times a number"),
        ("omniglot", "--methods x", 2, "--methods must be some of softmax, softmax-co"),
        ("omniglot", "--data-dir x --methods pixels", 2, "omniglot is not prepared in"),
        ("thomson", "--largest 101", 2, "--largest must be in [2, 100], got 101"),
        ("thomson", "--smallest 33", 2, "--smallest must be in [2, 32], got 33"),
        ("prototypes", "--methods poles", 2, "--methods must be some of softmax, c"),
        ("prototypes", "--features 1", 2, "--features must be numbers of dimens"),
        ("prototypes", "--preset poles --dataset cifar10", 2, "--preset poles is"),
        ("few_shot", "--methods x", 2, "--methods must be some of pixels, prototyp"),
        ("few_shot", "--shots 6", 2, "--per-class must be above --shots = 6, so tha"),
        ("few_shot", "--preset long --dataset digits", 2, "--preset long is for omn"),
        ("opt", "--preset cnn-6 --dataset digits", 2, "--preset cnn-6 is for cifar100"),
        ("opt", "--dataset shapes", 2, "--preset mlp is for digits or mnist or fash"),
        ("opt", "--dataset x", 2, "invalid choice 'x' for argument '--dataset'"),
        ("opt", "--methods", 2, "--methods must have at least one name, such as plain"),
        ("opt", "--rotation-rate -1", 2, "--rotation-rate must be positive, got -1.0"),
        ("opt", "--batch 100000", 2, "--batch must be at most 898, the number of"),
        ("opt", "--preset gcn --dataset cora --data-dir x", 2, "x/ind.cora.tx is not"),
        ("opt", "--preset pointnet --dataset modelnet40", 2, ". (--data-dir) has no"),
        ("optimizers", "--methods", 2, "--methods must have at least one name, such"),
        ("optimizers", "--validation 1", 2, "--validation must be a share below 1, g"),
        ("ngpt", "--methods", 2, "--methods must have at least one name, such as ngpt"),
        ("ngpt", "--preset large", 2, "--preset large needs --text, a file of 100 MB"),
        ("ngpt", "--rates -1", 2, "--rates must be positive, got -1.0"),
        ("ngpt", "--text x", 2, "--text must be a file, got x: No such file or di"),
        ("ngpt", "--text file", 2, "--text must have at least 1300 bytes for --cont"),
        ("ngpt", f"--sha256 {64 * '0'}", 2, "the help of this Python must have the S"),
        ("robustness", "--steps 0", 2, "--steps must be positive, got 0"),
        ("robustness", "--eps 8", 2, "--eps must be in (0, 1], as a pixel is, got"),
        ("robustness", "--operators", 2, "--operators must name at least one"),
        ("robustness", "--operators cube", 2, "--operators must be plain, sphere-lear"),
        ("robustness", "--dataset x", 2, "invalid choice 'x' for argument '--dataset'"),
        ("robustness", "--images 1000", 2, "--images must be at most 899, the number"),
        ("energy", "--regularizers", 2, "--regularizers must name at least one, such"),
        ("energy", "--regularizers mhe", 2, "--regularizers must be of none, decay"),
        ("energy", "--preset cnn-9 --dataset digits", 2, "--preset cnn-9 is for cifar"),
        ("energy", "--strength -1", 2, "--strength must be positive, got -1.0"),
        ("autoencoder", "--batch 1000", 2, "--batch must be at most 898, the number"),
        ("autoencoder", "--channels 4 4 4 4", 2, "--channels must leave height and"),
        ("vae", "--latents", 2, "--latents must be one or more, got none"),
        ("vae", "--samples 25", 2, "--samples must be a multiple of 10, got 25"),
        ("faces", "--preset x", 2, "invalid choice 'x' for argument '--preset'"),
        ("faces", "--margins", 2, "--margins must name at least one, such as arcface"),
        ("faces", "--margins arcfase", 2, "--margins must be some of none, sphereface"),
        ("faces", "--margin-options m=1", 2, "--margin-options must be NAME=VALUE wit"),
        ("faces", "--margins arcface --margin-options margin=4", 2, "--margin-option"),
        ("faces", "--network vgg", 2, "--network must be one of iresnet, vgg9"),
        ("faces", "--sample-rates 2", 2, "--sample-rates must be shares of the class"),
        ("faces", "--drop-angle 75", 2, "--drop-angle needs --subcenters 2 or more"),
        ("faces", "--accumulate 3", 2, "--batch must be a multiple of --accum"),
        ("faces", "--warmup 10", 2, "--warmup must be shorter than --epochs, got"),
        ("faces", "--drops 3", 2, "--drops are for --schedule step, got --schedule po"),
        ("faces", "--max-bad-share 2", 2, "--max-bad-share must be at most 1, got 2.0"),
        ("faces", "--batch 2048", 2, "--batch must be at most 1000, the number of"),
        ("faces", "--batch 100", 2, "--batch must be a multiple of the number of devi"),
        ("faces", "--image-size 20", 2, "--image-size must be the size of the images"),
        ("faces", "--preset magface", 2, "--preset magface needs --data, such as the"),
        ("faces", "--data x.rec", 2, "--data must be a .rec file, a folder, or tfd"),
        ("faces", "--data file", 2, "--data must be a .rec file, a folder, or tfds"),
        ("faces", "--verification x.bin", 2, "--verification must be files, got x.bi"),
        ("faces", "--ijb .", 2, ". must have a folder loose_crop and one file meta/"),
        ("faces", "--verification file", 2, "file is not a pickle, or truncated"),
        ("autoencoder", "--learning-rate 1e38", 1, "autoencoder, seed 0: the loss is "),
    ],
)  # fmt: skip
def test_errors_are_one_line_that_names_the_flag(study, flags, code, line, run):
    pathlib.Path("file").write_text("not a folder")
    found, out, err = run(study, *flags.split())
    assert (found, out) == (code, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


def test_a_failed_training_has_another_exit_code(run):
    flags = ["--learning-rate", "1e30", "--methods", "slow"]
    line = "error: slow, seed 0: the loss is "
    code, _, err = run(toy, *flags)
    assert (code, err[: len(line)], err.count("\n")) == (1, line, 1)


def numbers():
    for study in NAMES:
        default = next(iter(config(study).presets()))
        hints = typing.get_type_hints(type(default))
        for field in dataclasses.fields(default):
            parts = [hints[field.name], *typing.get_args(hints[field.name])]
            kinds = {p for part in parts for p in (part, *typing.get_args(part))}
            if kinds & {int, float}:
                yield default, field.name


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, -0.5, 0])
def test_numbers_out_of_range_name_their_flag(bad):
    refused = set()
    from_zero = {
        *("annealing", "drops", "label_smoothing"),
        *("momentum", "orthogonality", "seed", "weight_decay"),
    }
    for default, name in numbers():
        now = getattr(default, name)
        value = (bad,) * max(len(now), 1) if isinstance(now, tuple) else bad
        if bad == 0 and name in from_zero | set(getattr(default, "may_be_zero", ())):
            dataclasses.replace(default, **{name: value})
            continue
        flag = f"--{name.replace('_', '-')}"
        with pytest.raises(ValueError, match=f"^{flag} must be"):
            dataclasses.replace(default, **{name: value})
        refused.add(name)
    assert {"steps", "learning_rate", "seeds"} <= refused


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
    code, _, err = run(toy)
    assert (code, err.startswith("interrupted: the same command")) == (130, True)


def test_an_interruption_that_python_discards_stops_the_next_step(run, begin, capsys):
    class Lost:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    def happens():
        Lost()
        for done in progress.each(range(3), "steps"):
            assert done == 0

    begin(happens)
    assert run(toy)[0] == 130
    assert capsys.readouterr().err == ""
    interrupts.check()  # is over


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


@EVERY_STUDY
def test_by_default_nothing_committed_is_written(study):
    assert "runs/" in (ROOT / ".gitignore").read_text().splitlines()
    for preset in config(study).presets():
        assert preset.runs == pathlib.Path("runs")
        assert not preset.publish


@EVERY_STUDY
def test_published_runs_are_those_of_a_preset(study):
    """So that their table can be written, and the same command makes more seeds."""
    module = config(study)
    declared = [run for preset in module.presets() for run in module.planned(preset)]
    results = store.published(study)
    known = {run.path(results) for run in store.with_all_seeds(declared, results)}
    assert set(results.glob("*/*.json")) == known


def test_a_log_has_a_line_every_half_minute_and_no_bar(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Progress(7_200)
    for second in range(3_600):
        bar.begin(f"softmax, seed {second // 1_800}")
        now[0] += 1.0
        bar.advance(2, {"loss": np.array([0.25, 0.75])})
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert len(lines) == 120
    assert lines[0] == "softmax, seed 0, 60 of 7200 steps, 30 s, loss 0.500"
    assert lines[-1].startswith("softmax, seed 1, 7200 of 7200 steps, 3600 s")


def test_the_package_lists_its_commands(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-m"])
    __main__.main()
    lines = capsys.readouterr().out.splitlines()
    for study in NAMES:
        text = importlib.import_module(f"experiments.{study}").__doc__ or ""
        (line,) = (x for x in lines if x.split()[2:3] == [f"experiments.{study}"])
        assert line.endswith(text.splitlines()[0])
    assert run(__main__, "classify")[0] == 2
