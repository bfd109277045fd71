"""Trains networks on characters, and verifies characters of other alphabets.

Each rotation of a training character is a class of its own; test characters are not
rotated. Scores are cosines. All draws of pairs, trials and resamples are fixed, so that
they are the same for every loss and seed.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import batches, characters, identification, images, loop
from experiments.common.characters import SIDE, Split
from experiments.common.images import Images
from experiments.common.runs import Run, Work, pack
from experiments.omniglot.config import PIXELS, Config, choices
from experiments.omniglot.losses import LOSSES, Choice

_STAGE = functools.partial(sx.networks.Stage, stride=2, pool=None)
_STAGES = tuple(_STAGE(features) for features in (16, 32, 64))
_FEATURES = 128
_POINTS = 10  # of the curves of loss and error
_BATCH = 500


class State(NamedTuple):
    """The state of a training."""

    params: Any
    rest: Any  # running statistics
    optimizer: Any


class Setting(NamedTuple):
    """Static argument of the step, which all trials of a loss share."""

    graph: Any
    loss: str
    config: Config


class Classifier(nnx.Module):
    """A network, and a learned vector for each class; no classes for losses of pairs.

    The vectors start as those of :class:`sphax.layers.MarginHead`.
    """

    def __init__(self, classes: int, rngs: nnx.Rngs):
        shape = (SIDE, SIDE, 1)
        self.network = sx.networks.Backbone(shape, _STAGES, _FEATURES, rngs=rngs)
        init = nnx.initializers.normal(_FEATURES**-0.5)
        self.prototypes = nnx.Param(init(rngs.params(), (classes, _FEATURES)))


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Searches the hyperparameters of a loss, or trains with them and tests.

    Returns:
        For the one run, of a search ``trials``, each with the values of its
        :class:`.Choice`, the validation error ``eer`` in percent (None if the loss was
        not a number), and curves; of a test what :func:`measure` says, and curves. The
        curves are ``eer_at``, the error after each part of the training, and
        ``loss_in``, the mean loss in each.

    Raises:
        DatasetNotFoundError: If Omniglot is not prepared.
        FloatingPointError: If a loss is not a number; in a search, in all trials.
    """
    (run,) = runs
    config: Config = run.config
    split = characters.load(config.data_dir, config.preset == "search")
    if run.method == PIXELS:
        work.report(1, {})
        flat = (split.test.images / 255.0 - split.mean).reshape(-1, SIDE**2)
        return [
            {"data": characters.sizes(split), **measure(split, flat.astype(np.float32))}
        ]
    if config.preset == "search":
        trials = []
        for number, choice in enumerate(choices(run.method, config.trials)):
            try:
                curves = fit(run, split, choice, work.part(f"trial-{number}"))[1]
            except FloatingPointError:
                curves = {"eer_at": [None]}
            trials.append({"choice": choice, "eer": curves["eer_at"][-1], **curves})
        if all(trial["eer"] is None for trial in trials):
            raise FloatingPointError(f"{run.method}: no trial has a finite loss.")
        return [{"data": characters.sizes(split), "trials": trials}]
    choice = Choice(config.learning_rate, config.margin, config.scale)
    embeddings, curves = fit(run, split, choice, work)
    return [{**measure(split, embeddings), **curves}]


def fit(
    run: Run, split: Split, choice: Choice, work: Work
) -> tuple[np.ndarray, dict[str, Any]]:
    """Trains one network: embeddings of the test images, and curves."""
    config: Config = dataclasses.replace(
        run.config, learning_rate=1.0, margin=1.0, scale=1.0
    )
    classes = (int(split.train.labels.max()) + 1) * LOSSES[run.method].has_prototypes
    model = Classifier(classes, nnx.Rngs(run.seed))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    state = State(params, rest, config.optimizer(1.0).init(params))
    labels = split.train.labels
    batches.check_classes(config.batch, config.per_class, labels)
    data, mean = jax.tree.map(jnp.asarray, (split.train, split.mean))
    every = -(-config.steps // _POINTS)

    def embed(state: State) -> np.ndarray:
        arrays = state.params, state.rest
        return _embeddings(graph, arrays, split.test.images, mean)

    (fitted,) = loop.fit(
        step,
        Setting(graph, run.method, config),
        [state],
        lambda seed, start: batches.by_class(
            config.batch, config.per_class, labels, seed, start
        ),
        work,
        title=LOSSES[run.method].title,
        advice=f"Its hyperparameters are {choice}.",
        seeds=[run.seed],
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
        shared=(mean, Choice(*map(jnp.float32, choice))),
        before=lambda state, rows, count: (state, _take(data, rows)),
        record=lambda state, done: characters.error(split, embed(state)),
        record_every=every,
    )
    starts = range(0, config.steps, every)
    parts = [fitted.losses[start : start + every] for start in starts]
    return embed(fitted.state), {
        "eer_at": [round(float(x), 4) for x in fitted.records],
        "loss_in": [float(f"{np.mean(part):.4g}") for part in parts],
    }


def step(setting: Setting, shared, state: State, batch: Images, count, seed):
    """One step of Adam on raw images, by :func:`.loop.fit`."""
    mean, choice = shared
    config = setting.config

    def loss(params):
        model = nnx.merge(setting.graph, params, state.rest, copy=True)
        pixels = images.prepare(jnp.asarray(batch.images), mean)
        embeddings = model.network(pixels, use_running_average=False)
        vectors = model.prototypes[...]
        value = LOSSES[setting.loss].value(
            embeddings, vectors, batch.labels, choice, count, config.steps
        )
        return value, nnx.state(model, nnx.Not(nnx.Param))

    (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    optimizer = config.optimizer(choice.learning_rate)
    updates, moments = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, rest, moments), {"loss": value}


@jax.jit
def _take(split: Images, indices: jax.Array) -> Images:
    return Images(split.images[indices], split.labels[indices])


def _embeddings(graph, arrays, raw: np.ndarray, mean) -> np.ndarray:
    # Whole batches only: one shape, one compilation.
    padded = np.concatenate([raw, raw[: -len(raw) % _BATCH]])
    parts = np.split(padded, len(padded) // _BATCH)
    found = [np.asarray(_embed(graph, arrays, part, mean)) for part in parts]
    return np.concatenate(found)[: len(raw)]


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph, arrays, raw, mean):
    network = nnx.merge(graph, *arrays, copy=True).network
    return network(images.prepare(raw, mean), use_running_average=True)


def measure(split: Split, embeddings: np.ndarray) -> dict[str, Any]:
    """All that is reported of one test.

    Returns:
        In percent ``eer``, ``tar`` at a FAR of 1 %, ``one_shot`` among 20 characters of
        one alphabet; and ``characters`` and ``alphabets``, the equal error rates of
        pairs of characters and of alphabets that are drawn with replacement.
    """
    scores, same = characters.scored(split, embeddings)
    labels, alphabets = split.test.labels, split.alphabets
    groups = {"characters": labels, "alphabets": alphabets}
    return {
        "eer": 100.0 * sx.metrics.equal_error_rate(scores, same),
        "tar": 100.0 * float(sx.metrics.tar_at_far(scores, same, 0.01).tar),
        "one_shot": 100.0 * identification.one_shot(embeddings, labels, alphabets),
    } | {
        key: pack(100.0 * characters.resampled(scores, same, each[split.pairs]), "f4")
        for key, each in groups.items()
    }
