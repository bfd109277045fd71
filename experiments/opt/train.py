"""Trains rotations in place of kernels, and records energies and errors on the way."""

import itertools
import math
import pathlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import (
    batches,
    clouds,
    graphs,
    images,
    loop,
    modelnet,
    networks,
    planetoid,
)
from experiments.common.runs import Run, Work
from experiments.opt.config import Config, is_hidden

# Records of a run, about, and steps between them at most.
_RECORDS, _LONGEST = 20, 250
# Test examples that a network classifies at once, and that curves are made from.
_SHOWN = 1_000
# The energy's power: finite in three dimensions, as the first layer of PointNet has.
_POWER = 1.0


class Classifier(nnx.Module):
    """A network for images, and the layer of its logits."""

    def __init__(self, config: Config, data: images.ImageSet, *, rngs: nnx.Rngs):
        if config.preset == "mlp":
            width = max(2, round(512 * config.width))
            sizes = math.prod(data.shape), width, width
            self.network = networks.Perceptron(*sizes, rngs=rngs)
        else:
            design = networks.design("cnn-6", data.shape, config.width)
            self.network = sx.networks.Backbone(*design, rngs=rngs)
        self.classifier = nnx.Linear(self.network.features, data.classes, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Maps images ``[n, height, width, channels]`` to logits ``[n, classes]``."""
        return self.classifier(self.network(pixels))


class Examples(NamedTuple):
    """Images, point clouds or places of nodes in a graph, and labels ``[n]``."""

    inputs: Any
    labels: Any


class Problem(NamedTuple):
    """What is learned.

    Attributes:
        network: Constructor, called with ``rngs``; its output layer is ``classifier``.
        context: Arrays that all examples share: the mean image, or the graph.
        train: What is trained on.
        test: What is tested on.
    """

    network: Any
    context: Any
    train: Examples
    test: Examples


def load(config: Config) -> Problem:
    """The problem of some settings, on the device, if its data is prepared."""
    name: Any = config.dataset
    folder = config.data_dir or pathlib.Path()
    if config.preset == "gcn":
        is_generated = config.dataset == "citations"
        graph = graphs.generate() if is_generated else planetoid.read(name, folder)
        sizes = graph.features.shape[1], graph.classes
        hidden = max(2, round(16 * config.width))
        network = partial(graphs.GraphConvolutionNetwork, *sizes, hidden=hidden)
        context, parts = graph.inputs, (graph.train, graph.test)
        parts = [(nodes, graph.labels[nodes]) for nodes in parts]
    elif config.preset == "pointnet":
        is_generated = config.dataset == "shapes"
        data = clouds.generate(points=128) if is_generated else modelnet.read(folder)
        network = partial(clouds.PointNet, len(data.names), width=config.width)
        context, parts = None, (data.train, data.test)
    else:
        data = images.load(name, config.data_dir)
        network = partial(Classifier, config, data)
        context, parts = data.mean, (data.train, data.test)
    train, test = (Examples(*part) for part in parts)
    return Problem(network, *jax.tree.map(jnp.asarray, (context, train, test)))


def logits(network: Any, context: Any, inputs: jax.Array) -> jax.Array:
    """Logits of examples, ``[n, classes]``."""
    if isinstance(network, graphs.GraphConvolutionNetwork):
        return network(context)[inputs]
    if isinstance(network, clouds.PointNet):
        return network(inputs)
    return network(images.prepare(inputs, context))


class State(NamedTuple):
    """What a step changes, and a redrawing."""

    free: Any
    frozen: Any
    rest: Any  # running statistics
    optimizer: Any


def step(setting: Any, shared: Any, state: State, batch: Examples, count, seed):
    """One step of gradient descent, by :func:`.loop.fit`."""
    (graph, config), (context, noise) = setting, shared
    training, optimizer = config.training, config.optimizer
    key = jax.random.fold_in(jax.random.key(seed), count)

    def objective(free):
        params = training.apply(free, state.frozen)
        network = nnx.merge(graph, params, noise, state.rest, copy=True)
        network.train()
        nnx.reseed(network, dropout=key)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits(network, context, batch.inputs), batch.labels
        )
        loss = jnp.mean(losses)
        *_, rest = nnx.split(network, nnx.Param, nnx.RngState, ...)
        return loss + training.penalty(free), (loss, rest)

    gradients, (loss, rest) = jax.grad(objective, has_aux=True)(state.free)
    updates, moments = optimizer.update(gradients, state.optimizer, state.free)
    free = optax.apply_updates(state.free, updates)
    return State(free, state.frozen, rest, moments), {"loss": loss}


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _redraw(config, state, key):
    """Absorbs the rotations, and resamples them."""
    free, frozen, moved = config.training.advance(key, state.free, state.frozen)
    moments = sx.reparam.reset_moments(config.optimizer, state.optimizer, moved)
    return State(free, frozen, state.rest, moments)


@partial(jax.jit, static_argnums=(0, 1))
def _call(config, name, *arrays):
    return getattr(config.training, name)(*arrays)


# Measures merged params, so that one compiled function serves all methods.
@partial(jax.jit, static_argnums=0)
def _measure(graph, shared, params, rest, examples):
    """Error in percent, and the energy of each layer but the last, ``[layers]``."""
    context, noise = shared
    network = nnx.merge(graph, params, noise, rest, copy=True)
    network.eval()

    def classify(example):
        return jnp.argmax(logits(network, context, example[None])[0])

    found = jax.lax.map(classify, examples.inputs, batch_size=_SHOWN)
    energies = []
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.removesuffix("/value").endswith("kernel") and is_hidden(name):
            rows = leaf.reshape(-1, leaf.shape[-1]).T
            energies.append(sx.energy.hyperspherical_energy(rows, power=_POWER))
    return 100.0 * jnp.mean(found != examples.labels), jnp.stack(energies)


@jax.jit
def _take(split: Examples, rows: jax.Array) -> Examples:
    return Examples(split.inputs[rows], split.labels[rows])


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one seed of one method.

    Returns:
        ``error`` of the test, in percent; ``loss``, mean over the last steps;
        ``energy``, mean over hidden layers of the change in percent, and ``largest`` of
        any layer at any time, whatever its sign. ``curves`` of the former three at the
        steps ``records``: errors of some test examples, and no loss at step 0.

    Raises:
        DatasetNotFoundError: If the data is not prepared.
        FloatingPointError: If the loss is not a number.
    """
    config, seed = runs[0].config, runs[0].seed
    problem = load(config)
    network = problem.network(rngs=nnx.Rngs(seed))
    graph, params, noise, rest = nnx.split(network, nnx.Param, nnx.RngState, ...)
    shared, number = (problem.context, noise), len(problem.train.labels)
    shown = jax.tree.map(lambda x: x[:_SHOWN], problem.test)
    if not (is_graph := config.preset == "gcn"):
        batches.check_size(config.batch, number)

    def rows(seed: int, start: int) -> Iterator[np.ndarray]:
        if is_graph:
            return itertools.repeat(np.arange(number))
        return batches.by_epoch(config.batch, number, seed, start)

    def before(state: State, rows: np.ndarray, count: int):
        if config.method.is_redrawn and count > 0 and count % config.redrawn_every == 0:
            key = jax.random.fold_in(jax.random.key(seed), count)
            state = _redraw(config, state, key)
        return state, _take(problem.train, rows)

    def record(state: State, done: int):
        params = _call(config, "merge", state.free, state.frozen)
        test = problem.test if done == config.steps else shown
        return _measure(graph, shared, params, state.rest, test)

    every = min(-(-config.steps // _RECORDS), _LONGEST)
    products = "highest" if config.precision == "float32" else "tensorfloat32"
    with jax.default_matmul_precision(products):
        free, frozen = _call(config, "init", jax.random.key(seed), params)
        (fitted,) = loop.fit(
            step,
            (graph, config),
            [State(free, frozen, rest, config.optimizer.init(free))],
            rows,
            work,
            title=config.method.title,
            advice="Lower --learning-rate or --rotation-rate.",
            seeds=[seed],
            steps=config.steps,
            checkpoint_every=config.checkpoint_every,
            shared=shared,
            before=before,
            record=record,
            record_every=every,
        )
    error, energy = (np.asarray(x, np.float64) for x in fitted.records)
    above = 100.0 * (energy / energy[0] - 1.0)
    records = [*range(0, config.steps, every), config.steps]
    losses = [float(fitted.losses[i:j].mean()) for i, j in itertools.pairwise(records)]
    curves = {"loss": np.array(losses), "error": error, "energy": above.mean(1)}
    return [
        {
            **{name: float(curve[-1]) for name, curve in curves.items()},
            "largest": float(np.abs(above).max()),
            "records": records,
            "curves": {name: curve.round(5).tolist() for name, curve in curves.items()},
        }
    ]
