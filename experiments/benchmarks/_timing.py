"""Interleaved timing of compiled functions, and the memory that XLA plans for them."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import progress

# If the median of a bare product, before or after the rounds, is this multiple of its
# fastest time, something else was running.
QUIET = 1.15


# On an accelerator, calls are repeated until they take so many seconds together: the
# host needs about a ten-thousandth to start one, and to see that it has ended.
_ENOUGH = 0.02

# Runs of a product: of a probe, and beside candidates in each of their rounds.
_PRODUCTS = 5


class Candidate(NamedTuple):
    """A compiled function, its arguments, and what XLA plans to allocate.

    Calls that follow each other without waiting count as one measurement.
    """

    call: Callable[..., Any]
    arguments: tuple
    temporary_bytes: int
    calls: int = 1


def compile_candidate(function: Callable[..., Any], *arguments: Any) -> Candidate:
    """Compiles ``function`` for ``arguments`` and runs it once."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    return repeated(Candidate(compiled, arguments, temporary_bytes(compiled)))


def repeated(candidate: Candidate) -> Candidate:
    """The same with several calls, if it is short and runs on an accelerator."""
    if jax.default_backend() == "cpu":
        return candidate
    return candidate._replace(calls=1 + int(_ENOUGH / seconds(candidate)))


def temporary_bytes(compiled: Any) -> int:
    """Bytes that XLA plans for temporaries, beside arguments and results, or -1."""
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes if memory else -1


def seconds(candidate: Candidate) -> float:
    """Time of one call, on the host's clock, until its results are there."""
    start, results = time.perf_counter(), None
    for _ in range(candidate.calls):
        results = candidate.call(*candidate.arguments)
    jax.block_until_ready(results)
    elapsed = (time.perf_counter() - start) / candidate.calls
    # Freed outside the timed part, but before the next candidate allocates.
    jax.tree.map(lambda x: x.delete(), results)
    return elapsed


def interleave(
    candidates: Mapping[str, Candidate], repetitions: int, unit: str | None = None
) -> dict[str, np.ndarray]:
    """Times of every candidate, ``[repetitions]`` each, in interleaved rounds.

    In a round, every candidate runs once. Progress counts rounds, if it has a unit.
    """
    rounds = range(repetitions)
    taken = [
        {name: seconds(candidate) for name, candidate in candidates.items()}
        for _ in (rounds if unit is None else progress.each(rounds, unit))
    ]
    return {name: np.array([row[name] for row in taken]) for name in candidates}


def beside_product(
    a: jax.Array,
    b: jax.Array,
    candidates: Mapping[str, Candidate],
    repetitions: int,
    unit: str | None = None,
    **columns: Mapping[str, float],
) -> dict[str, Any]:
    """Figures of every candidate, in multiples of the product of two matrices.

    In a round, the product runs several times, and then every candidate once. Columns
    are other figures of each candidate.
    """
    product = {"product": compile_candidate(_product, a, b)}
    before = probe()
    rounds = range(repetitions)
    taken = [
        interleave(product, _PRODUCTS) | interleave(candidates, 1)
        for _ in (rounds if unit is None else progress.each(rounds, unit))
    ]
    after = probe()
    bare = np.array([np.median(each["product"]) for each in taken])
    times = {name: np.array([each[name][0] for each in taken]) for name in candidates}
    return {
        "quietness": quietness(before, after),
        "product_seconds": float(np.median(bare)),
        "rows": [
            {
                "name": name,
                "seconds": float(np.median(times[name])),
                "products": float(np.median(times[name] / bare)),
                **{column: figures[name] for column, figures in columns.items()},
                "temporary_bytes": candidate.temporary_bytes,
            }
            for name, candidate in candidates.items()
        ],
    }


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")


def between_probes(
    candidates: Mapping[str, Candidate], repetitions: int, unit: str | None = None
) -> tuple[dict[str, np.ndarray], float]:
    """Times of :func:`interleave`, and the :func:`quietness` before and after them."""
    before = probe()
    times = interleave(candidates, repetitions, unit)
    return times, quietness(before, probe())


def probe() -> np.ndarray:
    """Times of a product so long that they depend on other programs, not on chance."""
    a = jax.random.normal(jax.random.key(0), (2048, 2048))
    return interleave({"": compile_candidate(_product, a, a)}, _PRODUCTS)[""]


def quietness(before: np.ndarray, after: np.ndarray) -> float:
    """Slower median of a probe over its fastest time: 1 on a machine left alone."""
    fastest = min(before.min(), after.min())
    return float(max(np.median(before), np.median(after)) / fastest)
