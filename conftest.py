"""Configuration shared by the tests and by the examples in docstrings."""

import gc
import importlib.metadata
import os
import pathlib

# Most of the tests' time goes into compiling. So compile with few optimizations, and
# share a compilation cache between workers, notebook kernels and runs.
CACHE = pathlib.Path(__file__).parent / ".pytest_cache" / "jax"
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Later compilers do not know this flag, and abort on unknown ones.
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Each worker has one core: more BLAS threads would only compete for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tracing allocates many objects, few of which form cycles: collect less often.
gc.set_threshold(100_000)

import jax  # noqa: E402

# Must be set before the first array exists: several host devices for the tests of
# sharding, and no implicit broadcast between ranks.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from flax import nnx  # noqa: E402

import sphax as sx  # noqa: E402


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace.update(jax=jax, jnp=jnp, nnx=nnx, np=np, sx=sx)


# Bytes of memory from which compiled programs are dropped; after a time, some more.
_enough = [3 * 2**30]


@pytest.fixture(autouse=True)
def _bounded_memory():
    """Drops compiled programs after a test, once they take much memory."""
    yield
    if resident_bytes() > _enough[0]:
        jax.clear_caches()
        gc.collect()
        # What the allocator does not give back must not make every test do this.
        _enough[0] = max(_enough[0], resident_bytes() + 0.4 * 2**30)


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not say."""
    pages = pathlib.Path("/proc/self/statm")
    if not pages.exists():
        return 0
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def x64():
    """Runs the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    """A random key."""
    return jax.random.key(0)
