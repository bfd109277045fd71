"""Starts a command on several processes of this machine, as a rehearsal for many.

    python -m experiments.launch --processes 2 --devices 4 -- -m experiments.faces

What follows ``--`` are the arguments of Python. Lines of output begin with the number
of their process. If a process fails, the others are ended.
"""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from experiments.common import cli, distributed
from experiments.common.runs import check_numbers


@dataclasses.dataclass(frozen=True)
class Config:
    """Starts a command on several processes of this machine.

    The arguments of Python follow after "--".
    """

    processes: int = 2
    """Number of processes."""
    devices: int = 1
    """Simulated CPU devices of each process."""
    grace: float = 10.0
    """Seconds that the other processes have to end, after one has failed."""

    def __post_init__(self):
        check_numbers(self)


def launch(config: Config, command: Sequence[str]) -> int:
    """Runs ``python *command`` on all processes.

    Returns:
        0, or the exit code of the process that failed first.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    environment = {
        **os.environ,
        distributed.ADDRESS: address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        distributed.COUNT: str(config.processes),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(config.devices),
        "PYTHONUNBUFFERED": "1",
    }
    processes: list[subprocess.Popen[str]] = []
    threads: list[threading.Thread] = []
    try:
        for number in range(config.processes):
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment | {distributed.NUMBER: str(number)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            processes.append(process)
            for lines, to in (
                (process.stdout, sys.stdout),
                (process.stderr, sys.stderr),
            ):
                assert lines is not None
                thread = threading.Thread(
                    target=_forward, args=(number, lines, to), daemon=True
                )
                thread.start()
                threads.append(thread)
        while None in (codes := [process.poll() for process in processes]):
            if any(codes):
                break
            time.sleep(0.05)
    finally:
        _end(processes, config.grace)
        for thread in threads:
            # Workers of a process that was killed may hold its pipe for a while.
            thread.join(1.0)
    for number, code in enumerate(codes):
        if code:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            print(
                f"error: process {number} of {config.processes} ended with {how}, so"
                " the others were ended.",
                file=sys.stderr,
            )
            return code if code > 0 else 128 - code
    return 0


def _forward(number: int, lines: IO[str], to: IO[str]) -> None:
    with lines:
        for line in lines:
            print(f"[{number}] {line}", end="", file=to, flush=True)


def _end(processes: Sequence[subprocess.Popen[str]], grace: float) -> None:
    """Ends those that still run: politely, and after some seconds by force."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + grace
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Runs from the command line."""
    name = "experiments.launch"
    with cli.ending(name, "all processes were ended."):
        words = sys.argv[1:]
        split = words.index("--") if "--" in words else len(words)
        config, command = cli.parse(name, Config, words[:split]), words[split + 1 :]
        if not command:
            raise cli.UsageError(
                "the command is missing: put the arguments of Python after --, such as"
                " -- -m experiments.faces"
            )
        sys.exit(launch(config, command))


if __name__ == "__main__":
    main()
