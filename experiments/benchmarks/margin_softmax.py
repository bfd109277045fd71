"""Margin softmax against the matrix products that it cannot do without.

    python -m experiments.benchmarks.margin_softmax

Times loss and both gradients of ArcFace: plain, blocked, and, for comparison, a linear
layer with optax's cross-entropy, all as ratios to three bare products of the same size
(logits, gradient of the embeddings, gradient of the prototypes). Temporaries are what
XLA plans to allocate beside arguments and results. Runs unchanged on a GPU or TPU; to
use two cores of a CPU, start it with ``taskset -c 0,1``.
"""

import json
import pathlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import sphax as sx
from experiments.benchmarks import _timing


@dataclass(frozen=True)
class Config:
    """Sizes and repetitions of the benchmark."""

    classes: tuple[int, ...] = (10_000, 100_000)
    """Numbers of classes, one table each."""
    batch: int = 256
    """Number of embeddings."""
    features: int = 512
    """Width of embeddings and prototypes."""
    block_size: int = 2_500
    """Classes handled at a time by the blocked form."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of embeddings and prototypes."""
    repetitions: int = 15
    """Turns taken by each candidate; the median is reported."""
    blocked_only: bool = False
    """Run the blocked form once and nothing else: for sizes that only it can hold."""
    output: pathlib.Path | None = pathlib.Path(
        "experiments/results/benchmark_margin_softmax.json"
    )
    """File to write the figures to; "None" writes none."""


def main(config: Config) -> dict[str, Any]:
    """Measures every size, prints its table and returns the figures."""
    figures = {
        "config": asdict(config) | {"output": None},
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "sizes": [],
    }
    for classes in config.classes:
        measured = (_run_blocked if config.blocked_only else _measure)(config, classes)
        figures["sizes"].append(measured)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        config.output.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _inputs(config: Config, classes: int) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 4)
    draw = partial(jax.random.normal, dtype=config.dtype)
    embeddings = draw(keys[0], (config.batch, config.features))
    prototypes = draw(keys[1], (classes, config.features))
    cotangent = draw(keys[2], (config.batch, classes))
    labels = jax.random.randint(keys[3], (config.batch,), 0, classes)
    return embeddings, prototypes, cotangent, labels


def _three_products(embeddings, prototypes, cotangent):
    contract = partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    logits = contract(embeddings, prototypes, (((1,), (1,)), ((), ())))
    to_embeddings = cotangent @ prototypes
    to_prototypes = jax.lax.dot_general(cotangent, embeddings, (((0,), (0,)), ((), ())))
    return logits, to_embeddings, to_prototypes


def _cross_entropy(embeddings, prototypes, labels):
    logits = (embeddings @ prototypes.T).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _candidates(config: Config, classes: int) -> dict[str, _timing.Candidate]:
    embeddings, prototypes, cotangent, labels = _inputs(config, classes)
    loss = partial(sx.losses.margin_softmax, margin=sx.margins.ArcFace())
    with_gradients = partial(jax.value_and_grad, argnums=(0, 1))
    of_loss = {
        "linear + optax cross-entropy": _cross_entropy,
        "margin_softmax, plain": loss,
        "margin_softmax, blocked": partial(loss, block_size=config.block_size),
    }
    products = _timing.compile_candidate(
        _three_products, embeddings, prototypes, cotangent
    )
    return {"three bare products": products} | {
        name: _timing.compile_candidate(
            with_gradients(function), embeddings, prototypes, labels
        )
        for name, function in of_loss.items()
    }


def _measure(config: Config, classes: int) -> dict[str, Any]:
    candidates = _candidates(config, classes)
    probe = {"probe": candidates["three bare products"]}
    before = _timing.interleave(probe, 5)["probe"]
    times = _timing.interleave(candidates, config.repetitions)
    after = _timing.interleave(probe, 5)["probe"]
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    size = {
        "classes": classes,
        "quietness": _timing.quietness(before, after),
        "rows": [
            {
                "name": name,
                "seconds": seconds,
                "over_products": seconds / medians["three bare products"],
                "over_cross_entropy": seconds / medians["linear + optax cross-entropy"],
                "temporary_bytes": candidates[name].temporary_bytes,
            }
            for name, seconds in medians.items()
        ],
    }
    print("\n".join(_table(config, size)), flush=True)
    return size


def _table(config: Config, size: dict[str, Any]) -> Iterator[str]:
    classes, block, batch = size["classes"], config.block_size, config.batch
    yield (
        f"\n{classes:,} classes, batch {batch}, {config.features} features,"
        f" {config.dtype}, {jax.devices()[0].device_kind}"
    )
    yield (
        f"{'':30s} {'ms':>8s} {'/ products':>11s} {'/ optax':>8s}"
        f" {'temp MB':>8s} {'/ (batch x classes)':>20s} {'/ block':>8s}"
    )
    for row in size["rows"]:
        temporary = row["temporary_bytes"]
        yield (
            f"{row['name']:30s} {row['seconds'] * 1e3:8.1f}"
            f" {row['over_products']:11.2f} {row['over_cross_entropy']:8.2f}"
            f" {temporary / 1e6:8.1f} {temporary / (4 * batch * classes):20.3f}"
            f" {temporary / (4 * (block + batch) * (batch + config.features)):8.2f}"
        )
    verdict = "quiet" if size["quietness"] < _timing.QUIET else "NOT QUIET: run again"
    yield (
        "bare products, slowest median over fastest:"
        f" {size['quietness']:.2f} ({verdict})"
    )


def _run_blocked(config: Config, classes: int) -> dict[str, Any]:
    embeddings, prototypes, _, labels = _inputs(config, classes)
    loss = partial(
        sx.losses.margin_softmax,
        margin=sx.margins.ArcFace(),
        block_size=config.block_size,
    )
    candidate = _timing.compile_candidate(
        jax.value_and_grad(loss, argnums=(0, 1)), embeddings, prototypes, labels
    )
    value, _ = candidate.call(*candidate.arguments)
    size = {
        "classes": classes,
        "seconds": _timing.seconds(candidate),
        "temporary_bytes": candidate.temporary_bytes,
        "loss": float(value),
    }
    print(
        f"{classes:,} classes, batch {config.batch}, {config.features} features, blocks"
        f" of {config.block_size}: {size['seconds']:.2f} s, loss {size['loss']:.4f},"
        f" temporaries {size['temporary_bytes'] / 1e6:.1f} MB beside"
        f" {prototypes.nbytes / 1e6:.0f} MB of prototypes and as much of gradient"
    )
    return size


if __name__ == "__main__":
    main(tyro.cli(Config))
