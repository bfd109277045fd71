"""One program on several processes: how they find each other, and how they end.

The same program runs alone, on local processes started by ``python -m
experiments.launch``, under Slurm or Open MPI, and on all hosts of a TPU pod. JAX finds
the other processes by itself on a pod and under Slurm or Open MPI; elsewhere three
variables of the environment, which ``experiments.launch`` sets, say where they are:

- ``JAX_COORDINATOR_ADDRESS``: ``HOST:PORT`` of process 0, with a port that is free;
- ``JAX_NUM_PROCESSES``: the number of processes;
- ``JAX_PROCESS_ID``: the number of this process, from 0.

A process that is killed ends all others with an error, once it has sent no heartbeat
for some seconds. JAX aborts them then: no ``except`` and no ``finally`` is executed, so
what has to survive must be on disk. A process that ends with an exception first waits
for the others, as one that is done does, and when its time is over they are ended too.
A process that lives but makes no progress still sends heartbeats; :func:`watchdog` ends
it.
"""

import contextlib
import errno
import faulthandler
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

ADDRESS = "JAX_COORDINATOR_ADDRESS"
COUNT = "JAX_NUM_PROCESSES"
NUMBER = "JAX_PROCESS_ID"


def start(*, initialization: int = 60, heartbeat: int = 20, shutdown: int = 60) -> None:
    """Connects this process with the others, if there are any.

    Must be called before anything is computed, and after ``jax.config`` is set. From
    here on, :func:`jax.devices` has the devices of all processes. What processes other
    than the first print to stdout is dropped.

    Args:
        initialization: Seconds to wait for the other processes.
        heartbeat: Seconds without a sign of life after which a process counts as dead,
            and all others end with an error.
        shutdown: Seconds that a process which has ended waits for the others.

    Raises:
        ValueError: If a variable of the environment is missing or cannot be right.
        OSError: If process 0 cannot be reached, or cannot listen at the address.
        RuntimeError: If something was computed before.
    """
    given = _given(os.environ)
    if given:
        _check_address(given, initialization)
    # Otherwise, JAX catches SIGTERM, which then ends nothing.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=initialization,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=shutdown,
        )
    except ValueError as error:
        # Where JAX finds no pod and no cluster, it misses the address first.
        if given or "coordinator_address" not in str(error):
            raise
        return
    except RuntimeError:
        # Outside of a pod, a process that has computed before may go on alone.
        if given or jax.default_backend() == "tpu":
            raise
        return
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _given(environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that the environment has; all of them, or an empty dictionary."""
    if ADDRESS not in environment:
        return {}
    missing = [name for name in (COUNT, NUMBER) if name not in environment]
    if missing:
        raise ValueError(
            f"{ADDRESS} is set, so {' and '.join(missing)} must be set as well: the"
            f" number of processes in {COUNT}, the number of this one in {NUMBER}."
        )
    address, count, number = (environment[name] for name in (ADDRESS, COUNT, NUMBER))
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"{ADDRESS} must be HOST:PORT of process 0, such as 10.0.0.1:8476, got"
            f" {address}."
        )
    if not count.isdecimal() or not number.isdecimal() or int(number) >= int(count):
        raise ValueError(
            f"{NUMBER} must be an integer from 0 to {COUNT} - 1, got {number} with"
            f" {COUNT}={count}."
        )
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(number),
    }


def _check_address(given: Mapping[str, Any], seconds: float) -> None:
    """Finds out what is wrong with the address, where JAX would abort."""
    address, number = given["coordinator_address"], given["process_id"]
    host, _, port = address.rpartition(":")
    place = host.strip("[]"), int(port)
    if number == 0:
        try:
            with socket.create_server(place):
                pass
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                wrong = f"port {port} is in use: choose another one for all processes"
            else:
                wrong = f"{host} is not an address of this machine, where process 0 is"
            raise OSError(f"{ADDRESS}={address}: {wrong}.") from error
        print(
            f"Waiting at {address} for {given['num_processes'] - 1} more processes,"
            f" {seconds} s at most.",
            file=sys.stderr,
            flush=True,
        )
        return
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(place, timeout=seconds):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise OSError(
                    f"{ADDRESS}={address}: process {number} found nobody there within"
                    f" {seconds} s ({error}). Is process 0 running, is this its"
                    " address, and may this machine connect to that port?"
                ) from error
        time.sleep(0.1)


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[Callable[[], None]]:
    """Ends the process if, in the block, it is not fed for some seconds.

    It then writes to stderr where each thread is, and the process ends with exit code
    1, however it hangs: in a collective operation, at a disk, in a deadlock.

    Args:
        seconds: More than the longest time between two calls of ``feed``, such as a
            verification, a checkpoint, or compiling the first step.

    Yields:
        ``feed``, for a training loop to call in each step.
    """

    def feed() -> None:
        # A program, or a test, may have replaced sys.stderr by what is no file.
        stderr = sys.__stderr__ or sys.stderr
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    feed()
    try:
        yield feed
    finally:
        faulthandler.cancel_dump_traceback_later()
