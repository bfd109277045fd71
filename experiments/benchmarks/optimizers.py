"""Steps of optimizers that keep norms or singular values, against matrix products.

    python -m experiments.benchmarks.optimizers

Times the update of one kernel, square and four times as wide, as ratios to one product
of the kernel with a square matrix of its shorter side. Optimizers are at their
defaults, unless the name says more. A ratio is the median over rounds, in which all
candidates run once each and the product several times, the median of which counts. The
size of the state is beside it, in multiples of the kernel. Runs unchanged on a GPU or
TPU; to use two cores of a CPU, start it with ``taskset -c 0,1``.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import optax

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/optimizers.json")
    sizes: tuple[int, ...] = (256, 512)
    """Shorter sides of the kernels, two tables each."""
    repetitions: int = 5
    """Rounds, in each of which all candidates run; medians are reported."""


_ADAM, _MUON = optax.adam(1.0), optax.contrib.muon(1.0)
_to_norm, _pion = sx.optim.project_to_norm, sx.optim.pion
_spectral, _stiefel = sx.optim.spectral_sphere, sx.optim.stiefel_muon
OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "Adam": optax.adam(0.01),
    "Muon": optax.contrib.muon(0.01),
    "Adam, project_to_norm": optax.chain(_ADAM, _to_norm(0.01)),
    "Adam, project_to_norm by neurons": optax.chain(
        _ADAM, _to_norm(0.01, per="neuron")
    ),
    "Muon, project_to_norm": optax.chain(_MUON, _to_norm(0.01)),
    "pion": _pion(0.01),
    "pion, exponential": _pion(0.01, rotation="exponential"),
    "pion, series": _pion(0.01, rotation="series"),
    "pion, alternate, ambient": _pion(0.01, sides="alternate", moments="ambient"),
    "spectral_sphere": _spectral(0.01),
    "spectral_sphere, zero": _spectral(0.01, multiplier="zero"),
    "stiefel_muon": _stiefel(0.01),
    "stiefel_muon, tangent": _stiefel(0.01, direction="tangent"),
}


def measure(config: Config) -> dict[str, Any]:
    """Measures every shape."""
    shapes = [(n, width * n) for n in config.sizes for width in (1, 4)]
    return {"shapes": [_measure(config, *shape) for shape in shapes]}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each shape."""
    for shape in figures["shapes"]:
        yield f"| {shape['d']} x {shape['n']} | ms | products | state / kernel |"
        yield "|---|---|---|---|"
        yield f"| one product | {shape['product_seconds'] * 1e3:.2f} | 1.0 | |"
        for row in shape["rows"]:
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.1f}"
                f" | {row['products']:.1f} | {row['state']:.1f} |"
            )
        yield from _figures.end_of_table(shape["quietness"])


def _measure(config: Config, d: int, n: int) -> dict[str, Any]:
    kernel, gradient = jax.random.normal(jax.random.key(n), (2, d, n)) / d**0.5
    square = jax.random.normal(jax.random.key(d), (d, d))
    candidates, states = {}, {}
    for name, transform in progress.each([*OPTIMIZERS.items()], "compiled"):
        state = transform.init({"kernel": kernel})
        states[name] = sum(leaf.size for leaf in jax.tree.leaves(state)) / kernel.size
        candidates[name] = _timing.compile_candidate(
            transform.update, {"kernel": gradient}, state, {"kernel": kernel}
        )
    figures = _timing.beside_product(
        square, kernel, candidates, config.repetitions, "rounds", state=states
    )
    return {"d": d, "n": n, **figures}


def main() -> None:
    """Runs from the command line."""
    _figures.main("optimizers", Config, measure, tables)


if __name__ == "__main__":
    main()
