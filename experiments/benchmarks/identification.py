"""Identification and search in a large gallery, against the products of all pairs.

    python -m experiments.benchmarks.identification

Probes are compared with every template of the gallery, tile by tile: for the mate of
each (``find_mates``), for the nearest ten templates (``nearest``), and for the ranks of
mates (``recall_at_k``, ``mean_average_precision``). The bound is the bare products of
the same tiles. Memory is the peak of the process during a call, beyond what it had
before; Linux tells it. With ``--probes 10000 --repetitions 1``, each takes a minute or
more. Runs unchanged on a GPU or TPU, where the memory is that of the host.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/identification.json")
    probes: int = 1000
    """Number of probes; half of them have a mate."""
    gallery: int = 1_000_000
    """Number of templates."""
    features: int = 512
    """Width of the embeddings."""
    per_identity: int = 4
    """Templates of every identity."""
    block_size: int = 1024
    """Probes in a tile, of four times as many templates."""
    repetitions: int = 3
    """Interleaved runs of each; medians are reported."""


def measure(config: Config) -> dict[str, Any]:
    """Measures all at one size."""
    probes, labels, gallery, known = _draw(config)
    runs = _runs(config, probes, labels, gallery, known)
    for run in _runs(config, probes, labels, gallery[:30_000], known[:30_000]).values():
        run()  # compiles
    rounds = progress.each(range(config.repetitions), "rounds")
    taken = [{name: _cost(run) for name, run in runs.items()} for _ in rounds]
    costs = {name: np.array([row[name] for row in taken]) for name in runs}
    products = costs["products"][:, 0]
    return {
        "quietness": _timing.quietness(products, products),
        "rows": [
            {
                "name": name,
                "seconds": float(np.median(cost[:, 0])),
                "over_products": float(np.median(cost[:, 0]) / np.median(products)),
                "memory_bytes": int(cost[:, 1].max()),
            }
            for name, cost in costs.items()
        ],
    }


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the figures."""
    config = figures["config"]
    yield (
        f"| {config['probes']:,} probes, {config['gallery']:,} templates | s"
        " | / products | memory |"
    )
    yield "|---|---|---|---|"
    for row in figures["rows"]:
        yield (
            f"| {row['name']} | {row['seconds']:.1f} | {row['over_products']:.2f}"
            f" | {row['memory_bytes'] / 2**20:.0f} MiB |"
        )
    yield from _figures.end_of_table(figures["quietness"])


def _draw(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probes and gallery around a direction for each identity, and their labels."""
    random = np.random.default_rng(0)
    shape = (config.gallery, config.features)
    gallery = random.standard_normal(shape, np.float32)
    known = random.permutation(config.gallery) // config.per_identity
    labels = random.integers(2 * known.max(), size=config.probes)
    # The direction of an identity is that of its first template, before it moves.
    first = np.argsort(known, kind="stable")[:: config.per_identity]
    noise = random.standard_normal((config.probes, config.features), np.float32)
    probes = gallery[first[labels % len(first)]] + 3 * noise
    for start in range(0, config.gallery, 10_000):
        part = slice(start, start + 10_000)
        gallery[part] += gallery[first[known[part]]] / 3
    return probes, labels, gallery, known


def _runs(
    config: Config,
    probes: np.ndarray,
    labels: np.ndarray,
    gallery: np.ndarray,
    known: np.ndarray,
) -> dict[str, Callable[[], Any]]:
    """The bound and what is compared with it, by name."""
    product = jax.jit(partial(jnp.inner, precision="highest"))
    size = config.block_size

    def multiply():
        x = [jnp.asarray(probes[i : i + size]) for i in range(0, len(probes), size)]
        results = []
        for start in range(0, len(gallery), 4 * size):
            tile = jnp.asarray(gallery[start : start + 4 * size])
            jax.block_until_ready(results)  # while the next tile is on its way
            results = [product(each, tile) for each in x]
        jax.block_until_ready(results)

    def identify():
        mates = sx.metrics.find_mates(
            probes, labels, gallery, known, block_size=config.block_size
        )
        return sx.metrics.dir_at_far(mates, far=[1e-1, 1e-2])

    sets = {"references": gallery, "reference_labels": known}
    blocks = {"block_size": config.block_size // 2}  # tiles of the same size
    return {
        "products": multiply,
        "find_mates": identify,
        "nearest, k = 10": partial(sx.metrics.nearest, probes, gallery, 10, **blocks),
        "recall_at_k": partial(
            sx.metrics.recall_at_k, probes, labels, **sets, **blocks
        ),
        "mean_average_precision": partial(
            sx.metrics.mean_average_precision, probes, labels, **sets, **blocks
        ),
    }


def _cost(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call, and its peak of memory in bytes."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets earlier peaks
    before = _memory("VmRSS")
    start = time.perf_counter()
    run()
    return time.perf_counter() - start, _memory("VmHWM") - before


def _memory(name: str) -> int:
    """A number of bytes that Linux keeps of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Runs from the command line."""
    _figures.main("identification", Config, measure, tables)


if __name__ == "__main__":
    main()
