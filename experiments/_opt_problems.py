"""What there is to learn, whatever the network and what it is given."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments import _batches

# The output layer of every network, which is trained as usual whatever the method.
_OUTPUT = "classifier"
# Test examples that a network has before it together, and of which curves are made.
_TOGETHER = 1_000


class Examples(NamedTuple):
    """Inputs of a network, and labels ``[n]``."""

    inputs: Any
    labels: Any


class Problem(NamedTuple):
    """A network, what it learns from, and what it is asked in the end.

    Attributes:
        title: Its name in tables.
        network: The network of a seed, an nnx module with its output layer as
            ``classifier``.
        loss: Of ``(network, batch)``, a scalar, the network being in training mode.
        error: Of ``(network, test)``, in percent, in the other mode.
        batches: Of ``(budget, seed, start)``: the batches of a run from a step on.
        test: A pytree of arrays.
        glance: Such a part of it that curves cost less than training.
    """

    title: str
    network: Callable[[int], nnx.Module]
    loss: Callable[[Any, Any], jax.Array]
    error: Callable[[Any, Any], jax.Array]
    batches: Callable[[_batches.Budget, int, int], Iterator[Any]]
    test: Any
    glance: Any


def is_hidden(path: str) -> bool:
    """Whether a parameter, by its path, is none of the output layer."""
    return not path.startswith(_OUTPUT)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the examples."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)


def wrong(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Examples of which another class is thought, in percent."""
    return 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) != labels)


def classification(
    title: str,
    network: Callable[[int], nnx.Module],
    prepare: Callable[[jax.Array], jax.Array],
    train: Examples,
    test: Examples,
) -> Problem:
    """Examples of classes, which come in batches.

    Args:
        title: Of the network.
        network: Of a seed.
        prepare: What becomes of inputs ``[n, ...]`` before the network has them.
        train: What batches are taken from.
        test: What is to be classified.
    """
    train, test = jax.tree.map(jnp.asarray, (train, test))

    def loss(network: Any, batch: Examples) -> jax.Array:
        return cross_entropy(network(prepare(batch.inputs)), batch.labels)

    def error(network: Any, test: Examples) -> jax.Array:
        def logits(one: jax.Array) -> jax.Array:
            return network(prepare(one[None]))[0]

        return wrong(
            jax.lax.map(logits, test.inputs, batch_size=_TOGETHER), test.labels
        )

    def batches(budget: _batches.Budget, seed: int, start: int) -> Iterator[Examples]:
        rows = _batches.by_epoch(budget, len(train.labels), seed, start)
        return map(partial(_take, train), rows)

    glance = jax.tree.map(lambda x: x[:_TOGETHER], test)
    return Problem(title, network, loss, error, batches, test, glance)


@jax.jit
def _take(split: Examples, rows: jax.Array) -> Examples:
    return Examples(split.inputs[rows], split.labels[rows])
