"""Maps onto the orthogonal group against one matrix product of the same size.

    python -m experiments.benchmarks.orthogonal

Times value and gradient, given a cotangent, of every map at a Gaussian matrix, as
ratios to one ``n x n`` product. A ratio is the median over rounds, in which all
candidates run once each and the product several times, the median of which counts. The
error of orthogonality of the value is beside it. Runs unchanged on a GPU or TPU; to use
two cores of a CPU, start it with ``taskset -c 0,1``.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/orthogonal.json")
    sizes: tuple[int, ...] = (256, 512, 1024)
    """Rows and columns of the matrices, one table each."""
    repetitions: int = 15
    """Rounds, in each of which all candidates run; medians are reported."""


def _neumann(a: jax.Array) -> jax.Array:
    """Cayley-Neumann of a small matrix, where four terms are near the limit."""
    return sx.orthogonal.cayley_neumann(a / (8.0 * len(a) ** 0.5), terms=4)


MAPS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "cayley": sx.orthogonal.cayley,
    "cayley_neumann, 4 terms": _neumann,
    "gram_schmidt": sx.orthogonal.gram_schmidt,
    "householder": sx.orthogonal.householder,
    "lowdin": sx.orthogonal.lowdin,
    "exponential": sx.orthogonal.exponential,
}


def measure(config: Config) -> dict[str, Any]:
    """Measures every size."""
    sizes = progress.each(config.sizes, "sizes")
    return {"sizes": [_measure(config, n) for n in sizes]}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each size."""
    for size in figures["sizes"]:
        n = size["n"]
        yield f"| {n} x {n} | ms | products | error / sqrt(n) |"
        yield "|---|---|---|---|"
        yield f"| one product | {size['product_seconds'] * 1e3:.2f} | 1.0 | |"
        for row in size["rows"]:
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.1f}"
                f" | {row['products']:.1f} | {row['error'] / n**0.5:.1e} |"
            )
        yield from _figures.end_of_table(size["quietness"])


def _step(function: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    def step(a, cotangent):
        q, pull_back = jax.vjp(function, a)
        return q, *pull_back(cotangent)

    return step


def _measure(config: Config, n: int) -> dict[str, Any]:
    a, cotangent = jax.random.normal(jax.random.key(n), (2, n, n))
    candidates = {
        name: _timing.compile_candidate(_step(function), a, cotangent)
        for name, function in MAPS.items()
    }
    errors = {
        name: float(sx.orthogonal.orthogonality_error(candidate.call(a, cotangent)[0]))
        for name, candidate in candidates.items()
    }
    figures = _timing.beside_product(
        a, cotangent, candidates, config.repetitions, error=errors
    )
    return {"n": n, **figures}


def main() -> None:
    """Runs from the command line."""
    _figures.main("orthogonal", Config, measure, tables)


if __name__ == "__main__":
    main()
