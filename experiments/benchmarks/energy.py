"""Hyperspherical energy against the two products that value and gradient need.

    python -m experiments.benchmarks.energy

Times value and gradient of sets of directions, as ratios to a Gram product and a
product of that size with the directions (4 n^2 d operations), beside the plain forms
that the compiler differentiates: all pairs at once and, for half space, all pairs of
the set joined with its mirror image. Then, the energies of all kernels of the CIFAR
network as a share of its training step, and one large set. Temporaries are what XLA
plans to allocate beside arguments and results. Runs unchanged on a GPU or TPU.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/energy.json")
    points: tuple[int, ...] = (1024, 4096, 16384)
    """Numbers of directions, one table each."""
    features: int = 512
    """Their dimension."""
    plain_points: int = 4096
    """The largest number for which the plain forms are timed, in 4 n^2 memory."""
    repetitions: tuple[int, ...] = (15, 9, 3)
    """Rounds, for each number of directions; medians are reported."""
    batch: int = 128
    """Images of a training step; 0 leaves it out."""
    step_repetitions: int = 5
    """Repetitions of the training step; the median is reported."""
    large: tuple[int, int] = (100_000, 128)
    """Number and dimension of one large set, swept once; 0 directions leave it out."""
    may_be_zero: ClassVar[tuple[str, ...]] = ("batch", "large")

    def __post_init__(self):
        super().__post_init__()
        if len(self.points) != len(self.repetitions):
            raise ValueError(
                "--repetitions must be as many as --points ="
                f" {' '.join(map(str, self.points))}, got"
                f" {' '.join(map(str, self.repetitions))}."
            )


PRODUCTS = "two products"
SWEEPS: dict[str, dict[str, Any]] = {
    "s = 2": {"power": 2},
    "s = 1": {"power": 1},
    "s = 0": {"power": 0},
    "s = 3.5": {"power": 3.5},
    "s = 2, geodesic": {"power": 2, "distance": "geodesic"},
    "s = 2, half space": {"power": 2, "half_space": True},
    "s = 2, half space, geodesic": {
        "power": 2,
        "half_space": True,
        "distance": "geodesic",
    },
}


def measure(config: Config) -> dict[str, Any]:
    """Measures every size, the training step and the large set."""
    sizes = list(zip(config.points, config.repetitions, strict=True))
    return {
        "sizes": [_measure(config, *size) for size in progress.each(sizes, "sizes")],
        "step": _training_step(config) if config.batch else None,
        "large": _large(*config.large) if config.large[0] else None,
    }


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, then the step and the large set."""
    features = figures["config"]["features"]
    for size in figures["sizes"]:
        yield f"| {size['points']:,} directions | ms | / products | bytes |"
        yield "|---|---|---|---|"
        for row in size["candidates"]:
            arrays = row["temporary_bytes"] / (4 * size["points"] * features)
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.0f}"
                f" | {row['over_products']:.2f} | {arrays:.1f} x directions |"
            )
        yield from _figures.end_of_table(size["quietness"])
    if step := figures["step"]:
        share = step["energies"] / step["step"]
        yield (
            f"Training step of the CIFAR network, {figures['config']['batch']} images:"
            f" {step['step'] * 1e3:.0f} ms; energies of its {step['kernels']} kernels"
            f" (s = 2): {step['energies'] * 1e3:.0f} ms, {100 * share:.1f} %."
        )
        yield ""
    if large := figures["large"]:
        yield (
            f"{large['points']:,} directions in {large['features']} dimensions, s = 2:"
            f" {large['seconds']:.0f} s; the energy is {large['energy']:.6f}, of random"
            f" directions {large['expected']:.6f} in the mean."
        )
        yield ""


def _two_products(points, cotangent):
    gram = jnp.matmul(points, points.T, precision="highest")
    return gram, jnp.matmul(cotangent, points, precision="highest")


def _plain(points, half_space):
    """The definition at s = 2, for the compiler to differentiate."""
    units = sx.sphere.normalize(points)
    units = jnp.concatenate([units, -units]) if half_space else units
    numbers = jnp.arange(len(units)) % len(points)
    is_pair = numbers[:, None] != numbers[None, :]
    cosines = jnp.matmul(units, units.T, precision="highest")
    energies = 1.0 / jnp.where(is_pair, 2.0 - 2.0 * cosines, 1.0)
    return jnp.mean(energies, where=is_pair)


def _candidates(config: Config, n: int) -> dict[str, _timing.Candidate]:
    keys = jax.random.split(jax.random.key(0))
    points = jax.random.normal(keys[0], (n, config.features))
    cotangent = jax.random.normal(keys[1], (n, n))
    functions: dict[str, Callable[..., Any]] = {
        name: partial(sx.energy.energy_and_grad, **options)
        for name, options in SWEEPS.items()
    }
    if n <= config.plain_points:
        for name, half_space in (("", False), (", half space", True)):
            plain = partial(_plain, half_space=half_space)
            functions[f"plain, s = 2{name}"] = jax.value_and_grad(plain)
    candidates = {PRODUCTS: _timing.compile_candidate(_two_products, points, cotangent)}
    for name, function in functions.items():
        candidates[name] = _timing.compile_candidate(function, points)
    return candidates


def _measure(config: Config, n: int, repetitions: int) -> dict[str, Any]:
    candidates = _candidates(config, n)
    times, quietness = _timing.between_probes(candidates, repetitions)
    return {
        "points": n,
        "quietness": quietness,
        "candidates": [
            {
                "name": name,
                "seconds": float(np.median(taken)),
                "over_products": float(np.median(taken / times[PRODUCTS])),
                "temporary_bytes": candidates[name].temporary_bytes,
            }
            for name, taken in times.items()
        ],
    }


def _training_step(config: Config) -> dict[str, Any]:
    """Gradients of the CIFAR network, and those of its kernels' energies apart."""
    stages = [sx.networks.Stage(width, 3) for width in (64, 128, 256)]
    rngs = nnx.Rngs(0)
    network = nnx.Sequential(
        sx.networks.Backbone((32, 32, 3), stages, 256, rngs=rngs),
        nnx.Linear(256, 100, rngs=rngs),
    )
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    images = jax.random.normal(rngs.params(), (config.batch, 32, 32, 3))
    labels = jnp.arange(config.batch) % 100

    def loss(params):
        logits = nnx.merge(graph, params, rest, copy=True)(images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses)

    def energies(kernels):
        rows = [sx.neurons.to_rows(kernel) for kernel in kernels]
        return sum(sx.energy.hyperspherical_energy(row, power=2) for row in rows)

    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    candidates = {
        "step": _timing.compile_candidate(jax.value_and_grad(loss), params),
        "energies": _timing.compile_candidate(jax.value_and_grad(energies), kernels),
    }
    times = _timing.interleave(candidates, config.step_repetitions)
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    return medians | {"kernels": len(kernels)}


def _large(n: int, d: int) -> dict[str, Any]:
    points = jax.random.normal(jax.random.key(0), (n, d))
    step = jax.jit(partial(sx.energy.energy_and_grad, power=2)).lower(points).compile()
    started = time.perf_counter()
    energy, gradient = jax.block_until_ready(step(points))
    seconds = time.perf_counter() - started
    if not bool(jnp.all(jnp.isfinite(gradient))):
        raise FloatingPointError("the gradient of the large set is not finite.")
    return {
        "points": n,
        "features": d,
        "seconds": seconds,
        "energy": float(energy),
        # E |u - v|^-2 = (d - 2) / (2 (d - 3)) for independent directions.
        "expected": (d - 2) / (2 * (d - 3)),
        "temporary_bytes": _timing.temporary_bytes(step),
    }


def main() -> None:
    """Runs from the command line."""
    _figures.main("energy", Config, measure, tables)


if __name__ == "__main__":
    main()
