"""Margin softmax against the matrix products that it needs at least.

    python -m experiments.benchmarks.margin_softmax

Times loss and both gradients of ArcFace: plain, blocked, and, for comparison, a linear
layer with optax's cross-entropy, all as ratios to three bare products of the same size
(logits, gradient of the embeddings, gradient of the prototypes). In half precision, the
logits of the products are float32, and once more in half precision. PyTorch's
cross-entropy runs too, if PyTorch is installed. Temporaries are what XLA plans to
allocate beside arguments and results. Runs unchanged on a GPU or TPU; to use two cores
of a CPU, start it with ``taskset -c 0,1``.

A million classes, once, to show that they fit:

    python -m experiments.benchmarks.margin_softmax --classes 1000000 --features 256
    --block-size 10000 --blocked-only
    --output runs/benchmarks/margin_softmax_million.json
"""

import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/margin_softmax.json")
    classes: tuple[int, ...] = (10_000, 100_000)
    """Numbers of classes, one table each."""
    batch: int = 256
    """Number of embeddings."""
    features: int = 512
    """Width of embeddings and prototypes."""
    block_size: int = 2_500
    """Classes in a block of the blocked form."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of embeddings and prototypes."""
    repetitions: int = 15
    """Rounds, in each of which all candidates run; medians are reported."""
    blocked_only: bool = False
    """Run the blocked form once and nothing else: for sizes that only it can hold."""


def measure(config: Config) -> dict[str, Any]:
    """Measures every size."""
    one = _run_blocked if config.blocked_only else _measure
    sizes = progress.each(config.classes, "sizes")
    return {"sizes": [one(config, classes) for classes in sizes]}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each size."""
    config = figures["config"]
    for size in figures["sizes"]:
        area = 4 * config["batch"] * size["classes"]
        rows = config["block_size"] + config["batch"]
        block = 4 * rows * (config["batch"] + config["features"])
        units = {"batch x classes": area, "(block + batch) x (batch + features)": block}
        yield f"| {size['classes']:,} classes | ms | / products | / optax | bytes |"
        yield "|---|---|---|---|---|"
        for row in size["rows"]:
            unit = list(units)["blocked" in row["name"]]
            ratios = (row[key] for key in ("over_products", "over_cross_entropy"))
            shown = " | ".join(f"{r:.2f}" if r else "" for r in ratios)
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.0f} | {shown}"
                f" | {row['temporary_bytes'] / units[unit]:.3f} x {unit} |"
            )
        if config["dtype"] != "float32":
            yield from _shares_of_params(config, size)
        yield from _figures.end_of_table(size["quietness"])


def _shares_of_params(config: dict[str, Any], size: dict[str, Any]) -> Iterator[str]:
    """A sentence on memory, where the goal is 1.15 for the blocked form."""
    vectors = config["batch"] + size["classes"]
    held = 2 * vectors * config["features"] * jnp.dtype(config["dtype"]).itemsize
    shares = (
        f"{row['name']}, {1 + row['temporary_bytes'] / held:.2f}"
        for row in size["rows"]
        if row["over_cross_entropy"] and "products" not in row["name"]
    )
    yield ""
    yield f"Memory over that of params and gradients: {'; '.join(shares)}."


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


def _three_half_products(embeddings, prototypes, cotangent):
    """The same, with logits of half the size."""
    to_prototypes = jax.lax.dot_general(cotangent, embeddings, (((0,), (0,)), ((), ())))
    return embeddings @ prototypes.T, cotangent @ prototypes, to_prototypes


def _cross_entropy(embeddings, prototypes, labels):
    logits = (embeddings @ prototypes.T).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _loss(block_size: int | None) -> Callable[..., Any]:
    return partial(
        sx.losses.margin_softmax, margin=sx.margins.ArcFace(), block_size=block_size
    )


def products(config: Config, classes: int) -> _timing.Candidate:
    """Three bare products, of which the logits are float32."""
    return _timing.compile_candidate(_three_products, *_inputs(config, classes)[:3])


def _candidates(config: Config, classes: int) -> dict[str, _timing.Candidate]:
    embeddings, prototypes, cotangent, labels = _inputs(config, classes)
    losses = {
        "linear + optax cross-entropy": _cross_entropy,
        "margin_softmax, plain": _loss(None),
        "margin_softmax, blocked": _loss(config.block_size),
    }
    candidates = {"three bare products": products(config, classes)}
    for name, loss in losses.items():
        candidates[name] = _timing.compile_candidate(
            jax.value_and_grad(loss, argnums=(0, 1)), embeddings, prototypes, labels
        )
    if config.dtype != "float32":
        candidates[f"three bare products, {config.dtype} logits"] = (
            _timing.compile_candidate(
                _three_half_products, embeddings, prototypes, cotangent
            )
        )
    if importlib.util.find_spec("torch"):
        candidates["PyTorch, linear + cross-entropy"] = _torch_candidate(
            config, classes
        )
    return candidates


def _torch_candidate(config: Config, classes: int) -> _timing.Candidate:
    """Cross-entropy and its gradients in PyTorch, on a GPU if it finds one."""
    torch = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"dtype": getattr(torch, config.dtype), "requires_grad": True}
    embeddings, prototypes = (
        torch.randn(rows, config.features, device=device, **options)
        for rows in (config.batch, classes)
    )
    labels = torch.randint(classes, (config.batch,), device=device)

    def step():
        logits = (embeddings @ prototypes.T).float()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return torch.autograd.grad(loss, (embeddings, prototypes))

    def call():
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    call()
    temporary = -1
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        results = embeddings.nbytes + prototypes.nbytes
        temporary = torch.cuda.max_memory_allocated() - before - results
    return _timing.Candidate(call, (), temporary)


def _measure(config: Config, classes: int) -> dict[str, Any]:
    candidates = _candidates(config, classes)
    times, quietness = _timing.between_probes(candidates, config.repetitions)
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    bound, plain = (medians[name] for name in list(medians)[:2])
    return {
        "classes": classes,
        "quietness": quietness,
        "rows": [
            _row(candidates[name], name, seconds, seconds / bound, seconds / plain)
            for name, seconds in medians.items()
        ],
    }


def _row(candidate, name, seconds, over_products=None, over_cross_entropy=None):
    return {
        "name": name,
        "seconds": seconds,
        "over_products": over_products,
        "over_cross_entropy": over_cross_entropy,
        "temporary_bytes": candidate.temporary_bytes,
    }


def _run_blocked(config: Config, classes: int) -> dict[str, Any]:
    embeddings, prototypes, _, labels = _inputs(config, classes)
    candidate = _timing.compile_candidate(
        jax.value_and_grad(_loss(config.block_size), argnums=(0, 1)),
        embeddings,
        prototypes,
        labels,
    )
    row = _row(candidate, "margin_softmax, blocked", _timing.seconds(candidate))
    return {"classes": classes, "quietness": None, "rows": [row]}


def main() -> None:
    """Runs from the command line."""
    _figures.main("margin_softmax", Config, measure, tables)


if __name__ == "__main__":
    main()
