"""A training step of CNN-6 with orthogonal reparameterization, against a plain one.

    python -m experiments.benchmarks.opt

The network is that of the paper for CIFAR-100, with PReLU: two 3 x 3 convolutions at
each of three sizes of the map, and one over all of the last map, 64 filters each; all
of these kernels are reparameterized, the classifier is not. A step is value, gradient
and update of gradient descent with momentum. Inference is timed on the merged params,
as any plain network. Runs unchanged on a GPU or TPU; to use two cores of a CPU, start
it with ``taskset -c 0,1``.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    """Size and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/opt.json")
    batch: int = 128
    """Images in a batch, 32 x 32."""
    repetitions: int = 5
    """Rounds, in each of which all candidates run; medians are reported."""


_MOMENTUM = optax.sgd(0.1, momentum=0.9)
METHODS: dict[str, sx.reparam.Reparameterization] = {
    "plain": sx.reparam.Reparameterization(
        init=lambda key, params: (params, {}),
        apply=lambda free, frozen: free,
        advance=lambda key, free, frozen: (free, frozen, None),
        penalty=lambda free: jnp.zeros([]),
    ),
    "cayley": sx.reparam.orthogonal(allow_large=True),
    "cayley_neumann": sx.reparam.orthogonal(method="cayley_neumann", allow_large=True),
    "gram_schmidt": sx.reparam.orthogonal(method="gram_schmidt", allow_large=True),
    "householder": sx.reparam.orthogonal(method="householder", allow_large=True),
    "lowdin": sx.reparam.orthogonal(method="lowdin", allow_large=True),
    "exponential": sx.reparam.orthogonal(method="exponential", allow_large=True),
    "relaxed": sx.reparam.relaxed_orthogonal(allow_large=True),
    "cayley, blocks of 64": sx.reparam.orthogonal(block_size=64),
    "S-OPT, a quarter of the coordinates": sx.reparam.stochastic_orthogonal(),
    "POET, blocks of 64": sx.reparam.poet(block_size=64),
}

_CLASSES = 100


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """The Markdown table of the figures."""
    yield f"| CNN-6, batch {figures['config']['batch']} | ms | / plain |"
    yield "|---|---|---|"
    for row in figures["rows"]:
        ratio = f"{row['ratio']:.2f}"
        yield f"| {row['name']} | {row['seconds'] * 1e3:.1f} | {ratio} |"
    yield from _figures.end_of_table(figures["quietness"])


def measure(config: Config) -> dict[str, Any]:
    """Measures all methods."""
    network = sx.networks.Backbone(
        (32, 32, 3), [sx.networks.Stage(64, 2)] * 3, 64, rngs=nnx.Rngs(0)
    )
    head = 0.1 * jax.random.normal(jax.random.key(1), (64, _CLASSES))
    graphdef, network_params, statistics = nnx.split(network, nnx.Param, ...)
    params = {"network": network_params, "head": head}
    images = jax.random.normal(jax.random.key(2), (config.batch, 32, 32, 3))
    labels = jnp.arange(config.batch) % _CLASSES

    def logits(params, images):
        model = nnx.merge(graphdef, params["network"], statistics, copy=True)
        return model(images) @ params["head"]

    candidates, merged = {}, params
    for name, training in progress.each([*METHODS.items()], "compiled"):
        free, frozen = training.init(jax.random.key(3), params)
        merged = training.merge(free, frozen)
        candidates[f"step, {name}"] = _timing.compile_candidate(
            _step(logits, training),
            free,
            _MOMENTUM.init(free),
            frozen,
            images,
            labels,
        )
    for name, kernels in {"plain": params, "merged": merged}.items():
        inference = _timing.compile_candidate(logits, kernels, images)
        candidates[f"inference, {name}"] = inference
    return _rounds(config, candidates)


def _step(logits, training) -> Callable[..., Any]:
    def loss(free, frozen, images, labels):
        z = logits(training.apply(free, frozen), images)
        losses = optax.softmax_cross_entropy_with_integer_labels(z, labels)
        return jnp.mean(losses) + training.penalty(free)

    def step(free, state, frozen, images, labels):
        value, gradient = jax.value_and_grad(loss)(free, frozen, images, labels)
        updates, state = _MOMENTUM.update(gradient, state, free)
        return optax.apply_updates(free, updates), state, value

    return step


def _rounds(config: Config, candidates: dict[str, _timing.Candidate]) -> dict[str, Any]:
    times, quietness = _timing.between_probes(candidates, config.repetitions, "rounds")
    rows = []
    for name, taken in times.items():
        plain = times[name.partition(",")[0] + ", plain"]
        ratio = float(np.median(taken / plain))
        seconds = float(np.median(taken))
        rows.append({"name": name, "seconds": seconds, "ratio": ratio})
    return {"quietness": quietness, "rows": rows}


def main() -> None:
    """Runs from the command line."""
    _figures.main("opt", Config, measure, tables)


if __name__ == "__main__":
    main()
