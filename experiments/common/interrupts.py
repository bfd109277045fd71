"""Ctrl-C and SIGTERM raise an exception, and again if Python discarded it.

Python discards exceptions in a destructor or in a callback of the garbage collector,
such as that of jaxlib. A run that is interrupted there would otherwise continue.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Numbers of the signals that were received.
received: list[int] = []


def stop(number: int, frame: Any) -> None:
    """Signal handler that raises ``KeyboardInterrupt``."""
    del frame
    received.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raises if a signal was received, even if its exception was discarded."""
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Both signals raise ``KeyboardInterrupt`` in the block."""
    numbers, hook = (signal.SIGINT, signal.SIGTERM), sys.unraisablehook

    def unraisable(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)

    # Only the main thread may set a handler.
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
