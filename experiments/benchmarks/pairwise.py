"""Pairwise objectives against the Gram product that they need at least.

    python -m experiments.benchmarks.pairwise

Times loss and gradient, as ratios to a bare Gram product of the embeddings with its two
backward products. Temporaries are what XLA plans to allocate beside arguments and
results. Runs unchanged on a GPU or TPU; to use two cores of a CPU, start it with
``taskset -c 0,1``.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/pairwise.json")
    rows: tuple[int, ...] = (1024, 4096)
    """Numbers of embeddings, one table each."""
    features: int = 512
    """Width of the embeddings."""
    per_class: int = 4
    """Embeddings of every class."""
    repetitions: int = 15
    """Rounds, in each of which all candidates run; medians are reported."""
    in_blocks: tuple[int, ...] = (65_536,)
    """Numbers of embeddings of which no matrix of all pairs is held, one table each."""
    block_size: int = 4096
    """Embeddings of a block."""
    block_features: int = 128
    """Width of the embeddings in blocks."""
    optax: bool = False
    """Time optax's NT-Xent as well, for up to 1024 embeddings: 16 s a call, 6 GiB."""


LOSSES: dict[str, Callable[..., Any]] = {
    "nt_xent": sx.losses.nt_xent,
    "supervised_contrastive": sx.losses.supervised_contrastive,
    "circle": sx.losses.circle,
    "triplet, semi-hard": partial(sx.losses.triplet, mining="semi_hard"),
}


def measure(config: Config) -> dict[str, Any]:
    """Measures every size."""
    sizes = progress.each(config.rows, "sizes")
    whole = [_measure(config, n) for n in sizes]
    sizes = progress.each(config.in_blocks, "sizes in blocks")
    return {"sizes": whole, "in_blocks": [_measure_in_blocks(config, n) for n in sizes]}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each size."""
    for size in figures["sizes"]:
        yield f"| {size['rows']:,} embeddings | ms | / products | bytes |"
        yield "|---|---|---|---|"
        for row in size["candidates"]:
            arrays = row["temporary_bytes"] / (4 * size["rows"] ** 2)
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.0f}"
                f" | {row['over_products']:.2f} | {arrays:.2f} x rows x rows |"
            )
        yield from _figures.end_of_table(size["quietness"])
    for size in figures["in_blocks"]:
        rows, block = size["rows"], size["block_size"]
        yield f"| {rows:,} embeddings, blocks of {block:,} | s | / products | MiB |"
        yield "|---|---|---|---|"
        for row in size["candidates"]:
            yield (
                f"| {row['name']} | {row['seconds']:.1f} | {row['over_products']:.2f}"
                f" | {row['temporary_bytes'] / 2**20:.0f} |"
            )
        matrix = rows * rows * 4 / 2**30
        yield f"| one matrix of all pairs | | | {matrix * 1024:,.0f} |"
        yield from _figures.end_of_table(size["quietness"])


def _three_products(embeddings, cotangent):
    gram = embeddings @ embeddings.T
    to_anchors = cotangent @ embeddings
    to_references = jax.lax.dot_general(cotangent, embeddings, (((0,), (0,)), ((), ())))
    return gram, to_anchors, to_references


def _candidates(config: Config, n: int) -> dict[str, _timing.Candidate]:
    keys = jax.random.split(jax.random.key(0))
    embeddings = jax.random.normal(keys[0], (n, config.features))
    cotangent = jax.random.normal(keys[1], (n, n))
    labels = jnp.arange(n) // config.per_class
    losses = dict(LOSSES)
    if config.optax and n <= 1024:
        losses["optax.losses.ntxent"] = optax.losses.ntxent
    return {
        "Gram product, two backward": _timing.compile_candidate(
            _three_products, embeddings, cotangent
        )
    } | {
        name: _timing.compile_candidate(jax.value_and_grad(loss), embeddings, labels)
        for name, loss in losses.items()
    }


def _measure(config: Config, n: int) -> dict[str, Any]:
    candidates = _candidates(config, n)
    times, quietness = _timing.between_probes(candidates, config.repetitions)
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    products = next(iter(medians.values()))
    return {
        "rows": n,
        "quietness": quietness,
        "candidates": [
            {
                "name": name,
                "seconds": seconds,
                "over_products": seconds / products,
                "temporary_bytes": candidates[name].temporary_bytes,
            }
            for name, seconds in medians.items()
        ],
    }


def _measure_in_blocks(config: Config, n: int) -> dict[str, Any]:
    """Losses that hold a block of pairs at a time, against the products of the blocks.

    A sweep over the blocks has four products: one forward, the same again and two
    backward. NT-Xent has two sweeps.
    """
    keys, size = jax.random.split(jax.random.key(0)), config.block_size
    embeddings = jax.random.normal(keys[0], (n, config.block_features))
    labels = jnp.arange(n) // config.per_class
    cotangent = jax.random.normal(keys[1], (size, size))
    tile = _timing.compile_candidate(_three_products, embeddings[:size], cotangent)
    tiles = (n / size) ** 2
    taken, found = [_timing.interleave({"": tile}, 5)[""]], []
    for name in ("supervised_contrastive", "circle", "contrastive", "nt_xent"):
        loss = partial(getattr(sx.losses, name), block_size=size)
        # Not run in advance, as `compile_candidate` does: once is enough here.
        step = jax.jit(jax.value_and_grad(loss)).lower(embeddings, labels).compile()
        memory = _timing.temporary_bytes(step)
        candidate = _timing.Candidate(step, (embeddings, labels), memory)
        found.append((name, _timing.seconds(candidate), memory))
        taken.append(_timing.interleave({"": tile}, 5)[""])
    products = tiles * float(np.median(np.concatenate(taken)))
    found.insert(0, ("Gram product, two backward", products, tile.temporary_bytes))
    return {
        "rows": n,
        "block_size": size,
        "quietness": max(_timing.quietness(*pair) for pair in pairwise(taken)),
        "candidates": [
            {
                "name": name,
                "seconds": seconds,
                "over_products": seconds / products,
                "temporary_bytes": memory,
            }
            for name, seconds, memory in found
        ],
    }


def main() -> None:
    """Runs from the command line."""
    _figures.main("pairwise", Config, measure, tables)


if __name__ == "__main__":
    main()
