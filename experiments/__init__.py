"""One small script for each result; they use sphax as a stranger would."""

import os
import signal
import sys
from typing import Any

from experiments.common import interrupts

# OpenBLAS factorises matrices for JAX on a CPU. After each call its threads wait busily
# for the next, 2^26 cycles unless told otherwise, on cores that XLA's threads need.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")


def _without_traceback(kind: type[BaseException], error: Any, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: nothing was begun yet.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# For Ctrl-C in the seconds that a command takes to import. While ``python -m`` imports
# the package, this is what the command is called.
if sys.argv[0] == "-m":
    signal.signal(signal.SIGINT, interrupts.stop)
    sys.excepthook = _without_traceback
