"""The store of runs and the training loop: made once, killed, resumed, published."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.common import checkpoints, progress, runs, store
from tests.experiments.common import toy

ROOT = pathlib.Path(__file__).parents[3]


def complete(config, **options):
    planned = toy.planned(config)
    store.complete(planned, toy.train, config.runs, **options)
    found = [store.load(run, config.runs / "toy") for run in planned]
    assert None not in found
    return [record["metrics"] for record in found if record]


def test_a_run_is_one_file_made_once(tmp_path, monkeypatch):
    config = toy.Config(runs=tmp_path, seeds=1)
    first = complete(config)
    paths = sorted((tmp_path / "toy/quick-toy").iterdir())
    assert [path.name.rsplit("-", 1)[0] for path in paths] == ["fast-0", "slow-0"]
    content = json.loads(paths[0].read_text())
    assert content["settings"] == {
        "methods": ["fast"],
        "steps": 50,
        "learning_rate": 0.1,
    }
    assert set(content["provenance"]) == {
        *("device", "python", "versions", "commit", "seconds", "side_by_side")
    }
    assert str(tmp_path) not in paths[0].read_text()
    assert not list((tmp_path / "checkpoints").rglob("*.ckpt"))
    # More seeds, and other settings on which nothing depends: the rest alone is made.
    made = []

    def train(together, work):
        made.extend((run.method, run.seed) for run in together)
        return trained(together, work)

    trained = toy.train
    monkeypatch.setattr(toy, "train", train)
    more = dataclasses.replace(config, seeds=3, checkpoint_every=50)
    assert complete(more, side_by_side=True)[::3] == first
    assert made == [("slow", 1), ("slow", 2), ("fast", 1), ("fast", 2)]
    # A file that is damaged is made again.
    paths[0].write_text("{")
    with pytest.warns(UserWarning, match="is damaged; the run is made again"):
        store.complete(toy.planned(config), train, config.runs)
    assert made[4:] == [("fast", 0)]
    fewer = dataclasses.replace(config, steps=49)
    digests = {run.digest for run in toy.planned(config) + toy.planned(fewer)}
    assert len(digests) == 4


def test_records_are_of_the_first_and_last_step_and_some_between(tmp_path):
    (found, _) = complete(toy.Config(runs=tmp_path, seeds=1))
    assert found["done"] == [0, 20, 40, 50]
    assert found["path"][0] == [0.0] * 3
    assert found["path"][-1] == found["x"]
    assert len(found["losses"]) == 50


def test_seeds_side_by_side_are_seeds_one_by_one(tmp_path):
    one, together = (
        complete(toy.Config(runs=tmp_path / str(mode)), side_by_side=mode)
        for mode in (False, True)
    )
    for a, b in zip(one, together, strict=True):
        for key in ("x", "losses", "path", "done"):
            np.testing.assert_allclose(a[key], b[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("stop_after", [17, 40])
def test_stopped_it_goes_on_with_the_same_bits(tmp_path, side_by_side, stop_after):
    whole = complete(toy.Config(runs=tmp_path / "whole"), side_by_side=side_by_side)
    config = toy.Config(runs=tmp_path / "stopped", checkpoint_every=1000)

    def train(together, work):
        def report(steps, metrics):
            nonlocal done
            done += steps
            if done > stop_after:
                raise KeyboardInterrupt
            work.report(steps, metrics)

        done = 0
        return toy.train(together, work._replace(report=report))

    with pytest.raises(KeyboardInterrupt):
        store.complete(
            toy.planned(config), train, config.runs, side_by_side=side_by_side
        )
    # The steps before the stop are not lost.
    steps = [int(path.stem) for path in config.runs.rglob("*.ckpt")]
    assert max(steps) > stop_after
    assert complete(config, side_by_side=side_by_side) == whole


def start(folder, *flags):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.experiments.common.toy", *flags]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stop_when(process, is_time, number):
    """Exit code, stdout and stderr of a process that gets a signal in time."""
    deadline = time.monotonic() + 120
    while not is_time() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    said = process.communicate()
    return process.returncode, *said


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path):
    whole = complete(toy.Config(runs=tmp_path / "whole"))

    def found(pattern):
        return sorted((tmp_path / "runs").rglob(pattern))

    flags = "--pause", "0.05"
    stop_when(start(tmp_path, *flags), lambda: found("*.ckpt"), signal.SIGKILL)
    newest = found("*.ckpt")[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    # The second run is stopped too, the first being finished.
    code, out, err = stop_when(
        start(tmp_path, *flags),
        lambda: found("slow-0-*.json") and found("*.ckpt"),
        signal.SIGINT,
    )
    *warned, line = err.splitlines()
    # Python may end by the signal itself, which a shell shows as 130 too.
    assert code in (130, -signal.SIGINT)
    assert out == ""
    assert line == "interrupted: the same command goes on from its last checkpoint."
    # jaxlib 0.10.1 also writes of programs that it loads from the compilation cache.
    assert any("is damaged" in warning for warning in warned)
    assert "Traceback" not in err
    last = start(tmp_path)
    out, errors = last.communicate()
    assert last.returncode == 0, errors
    assert out.endswith("written to runs/toy/quick-toy*\n")
    assert complete(toy.Config(runs=tmp_path / "runs")) == whole


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    config = toy.Config(runs=tmp_path, learning_rate=1e30)
    with pytest.raises(
        FloatingPointError,
        match=r"^slow, seed 0: the loss is (inf|nan) in step 1\. Lower --learning-rate",
    ):
        complete(config)


def test_seconds_are_those_of_all_legs(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    run = toy.planned(toy.Config(seeds=1))[0]
    bar = progress.Progress(50)

    def work(seconds, is_stopped=False):
        def train(together, work):
            now[0] += seconds
            work.report(1, {})
            if is_stopped:
                raise KeyboardInterrupt
            return [0.0]

        return train

    with pytest.raises(KeyboardInterrupt):
        store.make([run], work(20.0, is_stopped=True), tmp_path, bar)
    store.make([run], work(3.0), tmp_path, bar)
    record = store.load(run, tmp_path / "toy")
    assert record is not None
    assert record["provenance"]["seconds"] == 23.0


def test_arrays_are_packed():
    array = np.arange(6.0).reshape(2, 3) / 4
    packed = json.loads(json.dumps(runs.pack(array, np.float16)))
    np.testing.assert_array_equal(runs.unpack(packed), array)


def test_published_are_runs_of_a_preset_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "_ROOT", tmp_path)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["-m", *flags])
        toy.main()
        return capsys.readouterr().out.splitlines()

    results = tmp_path / "toy/results"
    run("--seeds", "1", "--publish")
    assert len(list(results.glob("quick-toy/*.json"))) == 2
    assert (results / "quick-toy.png").exists()
    # The table has all seeds that are published.
    out = run("--seeds", "3", "--methods", "slow", "--publish")
    assert [line.split(" | ")[0] for line in out[1:4]] == [
        f"| slow, seed {seed}" for seed in range(3)
    ]
    with pytest.raises(SystemExit):
        run("--steps", "3", "--publish")
    err = capsys.readouterr().err
    assert err.startswith("error: --publish must have the settings of a preset")
    assert "of a preset: slow has --steps 3, not 50. Leave --publish out" in err
    assert len(list(results.glob("quick-toy/*.json"))) == 4
    # Without it, the settings that differ stand under the table.
    out = run("--steps", "3", "--seeds", "1")
    line = "Other settings than those of the preset: slow has --steps 3, not 50."
    assert out[-3] == line
    assert not any("Other settings" in line for line in run("--seeds", "1"))


def test_provenance_says_if_the_code_is_not_that_of_its_commit(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def commit():
        store._commit.cache_clear()
        return store.provenance(1.0, 1)["commit"]

    monkeypatch.setattr(store, "_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    try:
        assert commit() is None
        git("init")
        (tmp_path / "code.py").write_text("a")
        git("add", ".")
        git("commit", "-m", "x")
        (tmp_path / "untracked.py").write_text("a")
        clean = commit()
        assert len(clean) == 40
        (tmp_path / "code.py").write_text("b")
        assert commit() == f"{clean}-dirty"
    finally:
        store._commit.cache_clear()


def tree(value):
    return {"a": np.full(3, value, np.float32), "b": [np.arange(2), np.array(True)]}


def assert_restored(folder, step, value):
    found = checkpoints.restore(folder, tree(0.0))
    assert found is not None
    assert found[0] == step
    np.testing.assert_array_equal(found[1]["a"], tree(value)["a"])


def test_the_newest_whole_checkpoint_is_restored(tmp_path):
    assert checkpoints.restore(tmp_path, tree(0.0)) is None
    for step in (5, 10, 15):
        checkpoints.save(tmp_path, step, tree(float(step)))
    assert len(list(tmp_path.iterdir())) == 2
    assert_restored(tmp_path, 15, 15.0)
    (tmp_path / "000000020.ckpt.partial").write_bytes(b"half a check")
    newest = tmp_path / "000000015.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged; trying the one before"):
        assert_restored(tmp_path, 10, 10.0)


@pytest.mark.parametrize(
    "other",
    [{"a": np.zeros(3, np.float32)}, tree(0.0) | {"a": np.zeros(4, np.float32)}],
)
def test_a_checkpoint_of_another_program_is_refused(tmp_path, other):
    checkpoints.save(tmp_path, 5, tree(5.0))
    with pytest.raises(ValueError, match=r"another program: remove .*--runs"):
        checkpoints.restore(tmp_path, other)
