"""Clusters of a million points on the sphere, against the bare products of each pass.

    python -m experiments.benchmarks.mixtures

An iteration of spherical k-means, and one of EM for a mixture of von Mises-Fisher
distributions, compare all points with all centers and sum the points of each center:
two products of matrices for every block of points, which are the bound. Its time is the
difference between many iterations and one; what is left is the start, k-means++, which
reads the points once for every center. Memory is what XLA plans beside the points.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.benchmarks import _figures, _timing


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/mixtures.json")
    points: int = 1_000_000
    """Number of points."""
    features: int = 128
    """Dimensions of the points."""
    clusters: int = 100
    """Number of centers or components."""
    block_size: int = 16_384
    """Points in a block."""
    iterations: int = 6
    """Iterations in the longer run; one in the shorter."""
    repetitions: int = 3
    """Interleaved runs of each; medians are reported."""

    def __post_init__(self):
        super().__post_init__()
        if self.iterations < 2:
            raise ValueError(f"--iterations must be 2 or more, got {self.iterations}.")


def measure(config: Config) -> dict[str, Any]:
    """Measures all at one size."""
    x = _points(config)
    bound = _timing.compile_candidate(_products(config), x, x[: config.clusters])
    programs = {"products": bound}
    for name, function in _functions(config).items():
        one = _timing.compile_candidate(function, x, jnp.int32(1))
        programs[f"{name}, 1"] = one
        more = one._replace(arguments=(x, jnp.int32(config.iterations)))
        programs[f"{name}, {config.iterations}"] = more
    times, quietness = _timing.between_probes(programs, config.repetitions, "rounds")
    medians = {name: float(np.median(each)) for name, each in times.items()}
    rows = [_row("products", medians["products"], None, bound, medians["products"])]
    for name in _functions(config):
        first, last = (medians[f"{name}, {n}"] for n in (1, config.iterations))
        each = (last - first) / (config.iterations - 1)
        program = programs[f"{name}, 1"]
        rows.append(_row(name, each, first - each, program, medians["products"]))
    return {"quietness": quietness, "rows": rows}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the figures."""
    config = figures["config"]
    yield (
        f"| {config['points']:,} points, {config['features']} dimensions,"
        f" {config['clusters']} clusters | s / iteration | / products | start, s"
        " | memory |"
    )
    yield "|---|---|---|---|---|"
    for row in figures["rows"]:
        start = "" if row["start"] is None else f"{row['start']:.1f}"
        yield (
            f"| {row['name']} | {row['seconds']:.2f} | {row['over_products']:.2f}"
            f" | {start} | {row['memory_bytes'] / 2**20:.0f} MiB |"
        )
    yield from _figures.end_of_table(figures["quietness"])


def _row(name, seconds, start, program, products):
    return {
        "name": name,
        "seconds": seconds,
        "over_products": seconds / products,
        "start": start,
        "memory_bytes": program.temporary_bytes,
    }


def _points(config: Config) -> jax.Array:
    """Points around a random direction for each cluster, block by block."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((config.clusters, config.features), np.float32)
    points = np.empty((config.points, config.features), np.float32)
    for start in range(0, config.points, config.block_size):
        block = points[start : start + config.block_size]
        labels = random.integers(config.clusters, size=len(block))
        block[:] = random.standard_normal(block.shape, np.float32) + centers[labels]
    return jnp.asarray(points)


def _products(config: Config):
    """The two products of an iteration, block by block."""

    def products(x, centers):
        def add(total, start):
            size = min(config.block_size, config.points)
            block = jax.lax.dynamic_slice_in_dim(x, start, size)
            cosines = jnp.matmul(block, centers.T, precision="highest")
            return total + jnp.matmul(cosines.T, block, precision="highest"), None

        starts = jnp.arange(0, config.points, config.block_size)
        return jax.lax.scan(add, jnp.zeros_like(centers), starts)[0]

    return products


def _functions(config: Config):
    """What is measured, functions of the points and the number of iterations."""
    key = jax.random.key(0)
    options = {"key": key, "tolerance": 0.0, "block_size": config.block_size}

    def kmeans(x, iterations):
        found = sx.distributions.spherical_kmeans(
            x, config.clusters, iterations=iterations, **options
        )
        return found.objective

    def mixture(assignments):
        def run(x, iterations):
            found = sx.distributions.fit_mixture(
                x,
                config.clusters,
                assignments=assignments,
                iterations=iterations,
                **options,
            )
            return found.log_likelihood

        return run

    return {
        "spherical_kmeans": kmeans,
        "fit_mixture, soft": mixture("soft"),
        "fit_mixture, hard": mixture("hard"),
    }


def main() -> None:
    """Runs from the command line."""
    _figures.main("mixtures", Config, measure, tables)


if __name__ == "__main__":
    main()
