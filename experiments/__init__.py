"""The experiments: one command for each result, with public names of sphax alone."""

import os
import signal
import sys
from typing import Any

from experiments.common import interrupts

# OpenBLAS factorizes matrices for JAX on a CPU. After each call its threads spin, by
# default for 2^26 cycles, on cores that the threads of XLA need.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")


def _without_traceback(kind: type[BaseException], error: Any, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: nothing was begun yet.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# For Ctrl-C during the seconds of the imports. While ``python -m`` imports the package,
# the name of the command is still "-m".
if sys.argv[0] == "-m":
    signal.signal(signal.SIGINT, interrupts.stop)
    sys.excepthook = _without_traceback
