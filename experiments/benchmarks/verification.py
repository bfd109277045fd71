"""ROC curves of millions of pairs, held and streamed, against their lower bounds.

    python -m experiments.benchmarks.verification

Streamed: all pairs of enough embeddings, counted block by block as the products come
from the device; the bound is the bare products of the same blocks. Held: scores in one
array; the bound is ``np.sort`` of that array. Memory is the peak of the host's arrays
while a form runs (tracemalloc), without its input and without the product of one block,
which is on the device.
"""

import math
import pathlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.benchmarks import _figures, _timing


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/verification.json")
    pairs: tuple[int, ...] = (10_000_000, 100_000_000)
    """Least numbers of pairs: each is streamed, and the first is held as well."""
    features: int = 512
    """Width of the embeddings."""
    identities: int = 500
    """Number of classes of the embeddings."""
    block_size: int = 1024
    """Embeddings on each side of a block of pairs."""
    repetitions: int = 5
    """Interleaved runs of each form and its bound; medians are reported."""


def measure(config: Config) -> dict[str, Any]:
    """Measures both forms."""
    return {"rows": _measure(config)}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the figures."""
    yield "| ROC | million pairs | s | / bound | memory | / scores | AUC |"
    yield "|---|---|---|---|---|---|---|"
    for row in figures["rows"]:
        ratio = row["seconds"] / row["bound_seconds"]
        size = 4 * row["pairs"]  # of the scores in float32
        yield (
            f"| {row['name']} | {row['pairs'] / 1e6:.1f} | {row['seconds']:.2f}"
            f" | {ratio:.2f} x {row['bound']} | {row['memory_bytes'] / 2**20:.0f} MiB"
            f" | {row['memory_bytes'] / size:.2f} | {row['auc']:.4f} |"
        )
    quietness = max(row["quietness"] for row in figures["rows"])
    yield from _figures.end_of_table(quietness)


def _measure(config: Config) -> list[dict[str, Any]]:
    rows = [_streamed(config, *_draw(config, pairs)) for pairs in config.pairs]
    embeddings, labels = _draw(config, config.pairs[0])
    blocks = list(sx.metrics.pair_scores(embeddings, labels))
    scores, same = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    del blocks
    held = _row(
        ("held", partial(sx.metrics.roc, scores, same)),
        ("np.sort", partial(np.sort, scores)),
        config.repetitions,
    )
    return [*rows, held]


def _streamed(
    config: Config, embeddings: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    def stream():
        blocks = sx.metrics.pair_scores(
            embeddings, labels, block_size=config.block_size
        )
        return sx.metrics.roc(sx.metrics.ScoreCounts(blocks))

    product = jax.jit(partial(jnp.inner, precision="highest"))
    size = config.block_size
    parts = [embeddings[i : i + size] for i in range(0, len(embeddings), size)]

    def multiply():
        for i, x in enumerate(parts):
            for w in parts[i:]:
                product(x, w).block_until_ready()

    return _row(("streamed", stream), ("products", multiply), config.repetitions)


def _draw(config: Config, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around a direction for each identity, neither easy nor hopeless."""
    count = math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)
    random = np.random.default_rng(0)
    labels = random.integers(config.identities, size=count)
    centers = random.normal(size=(config.identities, config.features))
    noise = random.normal(size=(count, config.features))
    return (centers[labels] + 3.0 * noise).astype(np.float32), labels


def _row(
    form: tuple[str, Callable[[], sx.metrics.Roc]],
    bound: tuple[str, Callable[[], Any]],
    repetitions: int,
) -> dict[str, Any]:
    (name, run), (bound_name, least) = form, bound
    tracemalloc.start()
    curve = run()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    least()  # compiles
    taken = np.array([(_seconds(run), _seconds(least)) for _ in range(repetitions)])
    seconds, bound_seconds = np.median(taken, axis=0).tolist()
    return {
        "name": name,
        "pairs": curve.genuine + curve.impostors,
        "seconds": seconds,
        "bound": bound_name,
        "bound_seconds": bound_seconds,
        "quietness": _timing.quietness(taken[:, 1], taken[:, 1]),
        "memory_bytes": memory,
        "auc": curve.auc,
    }


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Runs from the command line."""
    _figures.main("verification", Config, measure, tables)


if __name__ == "__main__":
    main()
