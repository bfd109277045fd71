"""Trains a language model on the bytes of a text, and measures its loss on the way."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import loop, texts
from experiments.common.runs import Run, Work
from experiments.ngpt.config import Config

# Records of a run, and sequences of the validation part that curves are made from.
_RECORDS, _SHOWN = 25, 64
# Sequences that are measured at once.
_TOGETHER = 16
# Of the sample: what it continues, its length, and the temperature.
_PROMPT, _LENGTH, _TEMPERATURE = b"The ", 200, 0.7


class Parts(NamedTuple):
    """A text as bytes: nine tenths to train on, and a twentieth for each of the others.

    Attributes:
        train: ``[bytes]``.
        validation: Sequences, ``[n, context + 1]``, by which learning rates are chosen.
        test: Sequences, ``[m, context + 1]``.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(config: Config) -> Parts:
    """The parts of the text.

    Raises:
        DatasetNotFoundError: If it is another text than that of the settings.
        ValueError: If it is too short.
    """
    texts.check_digest(config.text, config.sha256)
    text = np.frombuffer(texts.read(config.text), np.uint8)
    size = config.context + 1
    held = len(text) // 20
    if held < size:
        raise ValueError(
            f"--text must have at least {20 * size} bytes for --context"
            f" {config.context}, got {len(text)}."
        )
    train, *others = np.split(text, [len(text) - 2 * held, len(text) - held])
    validation, test = (x[: len(x) // size * size].reshape(-1, size) for x in others)
    return Parts(train, validation, test)


class State(NamedTuple):
    """What a step changes."""

    params: Any
    optimizer: Any


def losses(network: Any, sequences: jax.Array) -> jax.Array:
    """Nats of each byte after the first, ``[n, context]``."""
    sequences = sequences.astype(jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(
        network(sequences[:, :-1]), sequences[:, 1:]
    )


def step(setting: Any, rate: jax.Array, state: State, batch: jax.Array, count, seed):
    """One step of the optimizer, by :func:`.loop.fit`."""
    del count, seed
    graph, config = setting

    def objective(params):
        return jnp.mean(losses(nnx.merge(graph, params), batch))

    loss, gradients = jax.value_and_grad(objective)(state.params)
    optimizer = config.optimizer(rate, nnx.merge(graph, state.params))
    updates, moments = optimizer.update(gradients, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), moments), {"loss": loss}


@partial(jax.jit, static_argnums=0)
def _measure(graph: Any, params: Any, sequences: jax.Array) -> jax.Array:
    def one(sequence):
        return jnp.mean(losses(nnx.merge(graph, params), sequence[None]))

    return jnp.mean(jax.lax.map(one, sequences, batch_size=_TOGETHER))


@partial(jax.jit, static_argnums=(0, 1))
def _begin(graph: Any, config: Config, rate: jax.Array, params: Any) -> State:
    optimizer = config.optimizer(rate, nnx.merge(graph, params))
    return State(params, optimizer.init(params))


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one seed of one method, at one learning rate.

    Returns:
        ``validation`` and ``test``, nats of a byte at the end; ``curve`` of the loss of
        some validation sequences at the steps ``records``; number of ``parameters``;
        and, of nGPT, a ``sample``.

    Raises:
        DatasetNotFoundError: If the text is not that of the settings.
        FloatingPointError: If the loss is not a number.
    """
    config, seed = runs[0].config, runs[0].seed
    parts, rate = load(config), jnp.float32(config.rates[0])
    network = config.network(rngs=nnx.Rngs(seed))
    graph, params = nnx.split(network)
    # One compiled step for all learning rates.
    setting = graph, dataclasses.replace(config, rates=())

    def batches(seed: int, start: int) -> Iterator[np.ndarray]:
        last, count = len(parts.train) - config.context, start
        while True:
            rng = np.random.default_rng((seed, count))
            places = rng.integers(last, size=(config.batch, 1))
            yield parts.train[places + np.arange(config.context + 1)]
            count += 1

    every = max(1, config.steps // _RECORDS)
    (fitted,) = loop.fit(
        step,
        setting,
        [_begin(*setting, rate, params)],
        batches,
        work,
        title=config.method.title,
        advice="Lower --rates.",
        seeds=[seed],
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
        shared=rate,
        record=lambda state, _: _measure(
            graph, state.params, parts.validation[:_SHOWN]
        ),
        record_every=every,
    )
    params = fitted.state.params
    found = {
        "validation": float(_measure(graph, params, parts.validation)),
        "test": float(_measure(graph, params, parts.test)),
        "records": [*range(0, config.steps, every), config.steps],
        "curve": np.asarray(fitted.records, np.float64).round(4).tolist(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    if isinstance(network, sx.networks.NGPT):
        sample = sx.networks.generate(
            nnx.merge(graph, params),
            np.frombuffer(_PROMPT, np.uint8),
            _LENGTH,
            temperature=_TEMPERATURE,
            key=jax.random.key(seed),
        )
        found["sample"] = bytes(np.asarray(sample, np.uint8)).decode(errors="replace")
    return [found]
