"""Ctrl-C and SIGTERM: both raise, and raise again if the exception was lost.

Python discards an exception raised in a destructor or in a callback of its garbage
collector, such as jaxlib's; a run that is stopped there would go on.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# The signals that have come.
received: list[int] = []


def stop(number: int, frame: Any) -> None:
    """Handles a signal."""
    del frame
    received.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raises if a signal has come, whatever became of its exception."""
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Makes both signals raise inside."""
    numbers, hook = (signal.SIGINT, signal.SIGTERM), sys.unraisablehook

    def unraisable(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)

    # Python lets no other thread set a handler.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, stop) for number in numbers]
    sys.unraisablehook = unraisable
    try:
        check()
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
