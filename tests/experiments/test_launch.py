"""The launcher: its lines, its exit code, and that it leaves no process behind."""

import os
import sys

import pytest

from experiments import launch

# Programs that do not import JAX, so that they start at once.
NUMBER = "import os, sys; number = os.environ['JAX_PROCESS_ID']; "


def run(program, processes=2, **options):
    return launch.launch(
        launch.Config(processes=processes, **options), ["-c", NUMBER + program]
    )


def test_lines_begin_with_the_number_of_their_process(capfd):
    program = "print('one\\rtwo'); print(f'three {number}', file=sys.stderr)"
    assert run(program, processes=3) == 0
    out, err = capfd.readouterr()
    assert sorted(out.split("\n")[:-1]) == sorted(
        f"[{number}] {word}" for number in range(3) for word in ("one", "two")
    )
    assert sorted(err.split("\n")[:-1]) == [f"[{n}] three {n}" for n in range(3)]


def test_the_processes_know_each_other(capfd):
    names = "NUM_PROCESSES", "COORDINATOR_ADDRESS", "NUM_CPU_DEVICES", "PLATFORMS"
    program = f"print(*[os.environ['JAX_' + name] for name in {names}])"
    assert run(program, devices=5) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert [line.split()[0] for line in lines] == ["[0]", "[1]"]
    (said,) = {line.partition(" ")[2] for line in lines}
    count, address, *others = said.split()
    assert (count, others) == ("2", ["5", "cpu"])
    assert address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("ends", "code", "how"),
    [
        ("sys.exit(7)", 7, "exit code 7"),
        ("os.kill(os.getpid(), 9)", 137, "SIGKILL"),
    ],
)
def test_one_failure_ends_the_others(capfd, tmp_path, ends, code, how):
    place = tmp_path / "pid"
    program = f"""
import signal, time
if number == '1':
    while not os.path.exists({str(place)!r}): time.sleep(0.01)
    {ends}
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open({str(place)!r} + '.partial', 'w') as file: file.write(str(os.getpid()))
os.replace({str(place)!r} + '.partial', {str(place)!r})
time.sleep(60)
"""
    assert run(program, grace=0.3) == code
    assert capfd.readouterr().err == (
        f"error: process 1 of 2 ended with {how}, so the others were ended.\n"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--processes 2", "the command is missing: put the arguments of Python after"),
        ("--processes 2 --", "the command is missing: put the arguments of Python af"),
        ("--processes 0 -- -m x", "--processes must be positive, got 0"),
        ("-m experiments.faces", "Unrecognized options: -m"),
    ],
)
def test_errors_are_one_line(monkeypatch, capfd, words, line):
    monkeypatch.setattr(sys, "argv", ["-m", *words.split()])
    with pytest.raises(SystemExit) as stop:
        launch.main()
    out, err = capfd.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {line}")
