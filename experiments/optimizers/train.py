"""Trains a perceptron at several learning rates side by side."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import batches, images, loop, networks
from experiments.common.runs import Run, Work
from experiments.optimizers.config import is_hidden


class Classifier(nnx.Module):
    """Two hidden layers, and the layer of the logits."""

    def __init__(self, inputs: int, width: int, classes: int, *, rngs: nnx.Rngs):
        self.network = networks.Perceptron(inputs, width, width, rngs=rngs)
        self.classifier = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Maps images ``[n, height, width, channels]`` to logits ``[n, classes]``."""
        return self.classifier(self.network(pixels))


class Examples(NamedTuple):
    """Images ``[n, height, width, channels]`` and their labels ``[n]``."""

    inputs: Any
    labels: Any


class State(NamedTuple):
    """What a step changes, at each learning rate: leaves ``[rates, ...]``."""

    params: Any
    optimizer: Any


def _losses(graph, mean, params, examples):
    """The logits of examples, and the loss of each."""
    logits = nnx.merge(graph, params)(images.prepare(examples.inputs, mean))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels)
    return logits, losses


def step(setting: Any, shared: Any, state: State, batch: Examples, count, seed):
    """One step at all learning rates, by :func:`.loop.fit`."""
    del count, seed
    (graph, config), (mean, rates) = setting, shared

    def at_rate(rate, params, moments):
        def objective(params):
            return jnp.mean(_losses(graph, mean, params, batch)[1])

        loss, slopes = jax.value_and_grad(objective)(params)
        updates, moments = config.optimizer(rate).update(slopes, moments, params)
        return State(optax.apply_updates(params, updates), moments), loss

    state, losses = jax.vmap(at_rate)(rates, *state)
    # At rates that are too high, the loss may be infinite.
    return state, {"loss": jnp.nanmin(losses)}


@partial(jax.jit, static_argnums=0)
def _measure(graph, mean, params, examples):
    """Error in percent and mean loss at each learning rate, ``[rates]`` each."""

    def at_rate(params):
        logits, losses = _losses(graph, mean, params, examples)
        is_wrong = jnp.argmax(logits, axis=-1) != examples.labels
        return 100.0 * jnp.mean(is_wrong), jnp.mean(losses)

    return jax.vmap(at_rate)(params)


def spectrum_changes(before: Any, after: Any) -> np.ndarray:
    """Largest change of a singular value of a hidden kernel, in percent, ``[rates]``.

    ``after`` has leaves ``[rates, ...]``. A kernel that is not finite counts as zero.
    """
    trees, changes = (before, after, is_hidden(before)), []
    for old, new, is_chosen in zip(*map(jax.tree.leaves, trees), strict=True):
        if is_chosen:
            new = np.where(np.isfinite(new), np.float64(new), 0.0)
            values = np.linalg.svd(new, compute_uv=False)
            start = np.linalg.svd(np.float64(old), compute_uv=False)
            changes.append(np.abs(values / start - 1.0).max(-1))
    return 100.0 * np.max(changes, axis=0)


def split(data: images.Images, share: float, seed: int) -> tuple[Examples, Examples]:
    """Training images and a share of them for validation, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(data.labels))
    number = max(1, round(share * len(order)))
    parts = order[number:], order[:number]
    train, validation = (Examples(data.images[x], data.labels[x]) for x in parts)
    return train, validation


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one seed of one method at all learning rates.

    Returns:
        Lists of a value for each rate: ``validation`` and ``error``, of the validation
        and of the test images, in percent; ``loss``, the mean of the training images,
        None if it is not finite; and ``spectrum``, the largest change of a singular
        value of a hidden kernel, in percent of its start.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number at any rate.
    """
    config, seed = runs[0].config, runs[0].seed
    data = images.load(config.dataset, config.data_dir)
    parts = split(data.train, config.validation, seed)
    batches.check_size(config.batch, len(parts[0].labels))
    examples, validation, test = jax.tree.map(
        jnp.asarray, (*parts, Examples(*data.test))
    )
    inputs = int(np.prod(data.shape))
    network = Classifier(inputs, config.width, data.classes, rngs=nnx.Rngs(seed))
    graph, params = nnx.split(network, nnx.Param)
    if config.method.is_orthonormal:
        hidden = is_hidden(params)
        params = jax.tree.map(
            lambda x, is_chosen: sx.orthogonal.polar_factor(x) if is_chosen else x,
            params,
            hidden,
        )
    mean, rates = jnp.asarray(data.mean), jnp.asarray(config.rates)
    start = State(params, config.optimizer(0.0).init(params))
    start = jax.tree.map(lambda x: jnp.repeat(x[None], len(rates), axis=0), start)
    with jax.default_matmul_precision("highest"):
        (fitted,) = loop.fit(
            step,
            (graph, config),
            [start],
            partial(batches.by_epoch, config.batch, len(examples.labels)),
            work,
            title=config.method.title,
            advice="Add lower --rates.",
            seeds=[seed],
            steps=config.steps,
            checkpoint_every=config.checkpoint_every,
            shared=(mean, rates),
            before=lambda state, rows, _: (state, _take(examples, rows)),
        )
        after = fitted.state.params
        measured = (
            _measure(graph, mean, after, x) for x in (validation, test, examples)
        )
        chosen, tested, trained = jax.tree.map(np.asarray, tuple(measured))
    metrics = {
        "validation": chosen[0],
        "error": tested[0],
        "loss": trained[1],
        "spectrum": spectrum_changes(params, after),
    }
    return [
        {
            name: [float(f"{x:.5g}") if np.isfinite(x) else None for x in values]
            for name, values in metrics.items()
        }
    ]


@jax.jit
def _take(split: Examples, rows: jax.Array) -> Examples:
    return Examples(split.inputs[rows], split.labels[rows])
