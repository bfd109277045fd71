"""Several processes: how they start, and how they end. Slow tests have real ones."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.common import distributed
from tests.experiments.common import class_parallel_steps

MODULE = class_parallel_steps.__name__


@pytest.fixture
def port():
    """A port that is in use until the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def environment(address, count=None, number=None):
    values = {
        distributed.ADDRESS: address,
        distributed.COUNT: count,
        distributed.NUMBER: number,
    }
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (("h:1",), ValueError, "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be set as"),
        (("h:1", "2"), ValueError, "is set, so JAX_PROCESS_ID must be set as well"),
        (("h", "2", "0"), ValueError, "must be HOST:PORT of process 0, such as .* h."),
        ((":80", "2", "0"), ValueError, "must be HOST:PORT of process 0"),
        (("h:0", "2", "0"), ValueError, "must be HOST:PORT of process 0"),
        (("h:65536", "2", "0"), ValueError, "must be HOST:PORT of process 0"),
        (("h:1", "2", "2"), ValueError, "from 0 to JAX_NUM_PROCESSES - 1, got 2 with"),
        (("h:1", "two", "0"), ValueError, "got 0 with JAX_NUM_PROCESSES=two"),
        (("h:1", "2", "-1"), ValueError, "must be an integer from 0 to .*, got -1"),
        # 203.0.113.0/24 is reserved for documentation.
        (("203.0.113.1:80", "2", "0"), OSError, "203.0.113.1 is not an address of th"),
        (("127.0.0.1:1", "2", "1"), OSError, "process 1 found nobody there within 0 s"),
        (("h.invalid:1", "2", "1"), OSError, "process 1 found nobody there within 0 s"),
    ],
)
def test_what_cannot_work_is_refused_before_jax_aborts(
    monkeypatch, settings, error, message
):
    for name, value in environment(*settings).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=f"JAX_.*{message}"):
        distributed.start(initialization=0)


def test_a_port_in_use_is_named(monkeypatch, port):
    for name, value in environment(f"127.0.0.1:{port}", "2", "0").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=f"{port}: port {port} is in use: choose"):
        distributed.start()


def test_a_process_that_nobody_told_of_others_is_alone(monkeypatch):
    stdout = sys.stdout
    for name in (distributed.ADDRESS, distributed.COUNT, distributed.NUMBER):
        monkeypatch.delenv(name, raising=False)
    distributed.start()
    assert not jax.distributed.is_initialized()
    assert jax.process_count() == 1
    assert sys.stdout is stdout


def run(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ
        | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_give_the_value_of_one_device():
    flags = "-m", "experiments.launch", "--processes", "2", "--devices", "2", "--"
    process = run(*flags, "-m", MODULE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    # What the second process prints is dropped; what Gloo's threads say, in pieces of
    # lines, is not.
    (found,) = re.findall(r"^\[(\d)\] (\[\d.*\])$", out, re.MULTILINE)
    number, losses = found
    assert number == "0"
    expected = class_parallel_steps.steps(jax.devices()[:1])
    np.testing.assert_allclose(json.loads(losses), expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "ends"), [("kill", 0), ("kill", 1), ("raise", 1)])
def test_one_process_ends_the_other_one_with_an_error(how, ends):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    processes = [
        run("-m", MODULE, how, str(ends), **environment(address, "2", str(number)))
        for number in (0, 1)
    ]
    try:
        # Without a bound, this raises: the default of JAX is 100 seconds.
        _, err = processes[1 - ends].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    if how == "kill":
        assert processes[ends].returncode == -9
    assert processes[1 - ends].returncode not in (0, -9)
    assert "died" in err or "Gloo" in err


@pytest.mark.slow
def test_a_process_without_progress_ends_and_says_where_it_hangs():
    program = """
import time
from experiments.common import distributed
with distributed.watchdog(0.1):
    pass
time.sleep(0.5)
with distributed.watchdog(4.0) as feed:
    for _ in range(5):
        time.sleep(1.0)
        feed()
    print("fed", flush=True)
    def hangs(): time.sleep(60)
    hangs()
"""
    process = run("-c", program)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (1, "fed\n")
    assert "Timeout" in err
    assert "in hangs" in err
