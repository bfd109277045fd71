"""One small script for each result; they use sphax as a stranger would."""

import os

# OpenBLAS factorises matrices for JAX on a CPU. After each call its threads wait busily
# for the next, 2^26 cycles unless told otherwise, on cores that XLA's threads need.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
