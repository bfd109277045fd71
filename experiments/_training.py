"""Trains a network under a recipe, seed by seed or all seeds in one vmapped step.

A step is a pure function of the state, the images and the indices of its batch; batches
and all that is drawn follow from the seed and the step alone. So a run that starts
again from a checkpoint computes what it would have computed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments import _batches, _checkpoints, _data
from experiments._networks import Design
from experiments._pixels import augmented, flipped, prepare
from experiments._settings import Recipe

# Steps whose metrics are read together, late, so that the device does not wait.
_QUEUED = 20
# Seeds of what is drawn outside of the step, apart from those of the runs.
_PERTURBED = 1_000_000


class Method(Protocol):
    """What a network is trained with: the table of an experiment has one in a row."""

    @property
    def title(self) -> str:
        """Its name in tables."""
        ...

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """What has ``loss(embeddings, labels, key=key)``, and its own parameters."""
        ...


class Classifier(nnx.Module):
    """A network, and the head that it is trained with."""

    def __init__(
        self,
        config: Recipe,
        design: Design,
        classes: int,
        method: Method,
        *,
        rngs: nnx.Rngs,
    ):
        self.network = sx.networks.Backbone(*design, conv=config.conv, rngs=rngs)
        features = self.network.features
        self.head: Any = method.head(features, classes, config.scale, rngs=rngs)


class State(NamedTuple):
    """What a step changes; with a leading axis for seeds if they train together."""

    params: Any
    rest: Any  # running statistics, the margin, centres
    optimizer: Any


class Setting(NamedTuple):
    """What a step is compiled for. Methods of one kind of margin share it."""

    graph: Any
    config: Recipe


# What becomes of a batch before the step: of setting, state, batch, mean and a key.
Perturb = Callable[[Setting, State, _data.Images, jax.Array, jax.Array], _data.Images]


def initial(
    config: Recipe, design: Design, method: Method, classes: int, seed: int
) -> tuple[Setting, State]:
    """Setting and state of one seed before its first step."""
    model = Classifier(config, design, classes, method, rngs=nnx.Rngs(seed))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    setting = Setting(graph, config)
    return setting, State(params, rest, config.optimizer.init(params))


def step(
    setting: Setting,
    state: State,
    images: jax.Array,
    labels: jax.Array,
    count: jax.Array,
    key: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
    """One step of gradient descent; ``images`` are prepared."""

    def loss(params):
        model = nnx.merge(setting.graph, params, state.rest, copy=True)
        embeddings = model.network(images, use_running_average=False)
        _anneal(model.head, setting.config, count)
        value, shown = _loss(model.head, embeddings, labels, key)
        return value, (nnx.state(model, nnx.Not(nnx.Param)), shown)

    (value, (rest, shown)), gradients = jax.value_and_grad(loss, has_aux=True)(
        state.params
    )
    updates, optimizer = setting.config.optimizer.update(
        gradients, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    return State(params, rest, optimizer), {"loss": value, **shown}


def _anneal(head: Any, config: Recipe, count: jax.Array) -> None:
    margin = getattr(head, "margin", None)
    if isinstance(margin, sx.margins.SphereFace):
        fade = sx.margins.annealing_schedule(*config.annealing)
        head.margin = dataclasses.replace(margin, annealing=fade(count))


def _loss(head, embeddings, labels, key):
    """The loss, and what the progress bar shows beside it."""
    if not isinstance(head, sx.layers.MarginHead):
        return head.loss(embeddings, labels, key=key), {}
    value, aux = head.loss(embeddings, labels, key=key, has_aux=True)
    return value, {"accuracy": jnp.mean(aux.correct.astype(jnp.float32))}


# Apart from the step, which would be compiled anew for another number of images.
@jax.jit
def _take(split: _data.Images, indices: jax.Array) -> _data.Images:
    return _data.Images(split.images[indices], split.labels[indices])


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step_one(setting, state, batch, mean, count, seed):
    key = jax.random.fold_in(jax.random.key(seed), count)
    images = prepare(batch.images, mean)
    # The augmentation draws from what would be the first two of three.
    _, flip_key, own_key = jax.random.split(key, 3)
    if setting.config.augment:
        images = augmented(key, images)
    elif setting.config.flip:
        images = flipped(flip_key, images)
    return step(setting, state, images, batch.labels, count, own_key)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step_all(setting, state, batch, mean, count, seeds):
    def one(state, batch, seed):
        return _step_one(setting, state, batch, mean, count, seed)

    return jax.vmap(one)(state, batch, seeds)


def fit(
    config: Recipe,
    design: Design,
    method: Method,
    data: _data.ImageSet,
    seeds: Sequence[int],
    folder: pathlib.Path,
    report: Callable[[int, dict[str, np.ndarray]], None],
    perturb: Perturb | None = None,
) -> tuple[Setting, list[State]]:
    """Trains the seeds, together if there are several, from where ``folder`` stopped.

    Args:
        config: The recipe.
        design: Of the network.
        method: Margin and normalisation.
        data: Images.
        seeds: One, or several for one vmapped step.
        folder: Of the checkpoints.
        report: Told the number of steps done and their metrics, now and then.
        perturb: What the network does to its own training images, of a single seed.

    Raises:
        FloatingPointError: If the loss is not a number; says in which step.
        ValueError: If there are too few images for a batch.
    """
    # Too large a batch is refused before anything is compiled.
    _batches.indices(config, data.train.labels, seeds[0], 0)
    setting, first = _start(config, design, method, data.classes, seeds)
    begun, state = _checkpoints.restore(folder, first) or (0, first)
    report(begun, {})
    pending: list[dict[str, jax.Array]] = []
    steps = _steps(setting, state, data, seeds, begun, perturb)
    for done, state, metrics in steps:
        pending.append(metrics)
        is_saved = done % config.checkpoint_every == 0 or done == config.steps
        if is_saved or len(pending) == _QUEUED:
            _flush(pending, done, method, seeds, report)
        if is_saved:
            _checkpoints.save(folder, done, state)
    return setting, _unstack(state, len(seeds)) if len(seeds) > 1 else [state]


def _start(config, design, method, classes, seeds):
    starts = [initial(config, design, method, classes, seed) for seed in seeds]
    setting, state = starts[0]
    if len(seeds) == 1:
        return setting, state
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(s for _, s in starts))
    return setting, stacked


def _unstack(state, number):
    return [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(number)]


def _steps(setting, state, data, seeds, begun, perturb):
    """Steps done, state and metrics after each step from ``begun`` on."""
    split, mean = jax.tree.map(jnp.asarray, (data.train, data.mean))
    labels = data.train.labels
    streams = [_batches.indices(setting.config, labels, seed, begun) for seed in seeds]
    for count, rows in enumerate(zip(*streams, strict=True), start=begun):
        if len(seeds) == 1:
            run, indices, key = _step_one, rows[0], seeds[0]
        else:
            run, indices, key = _step_all, np.stack(rows), np.array(seeds)
        batch = _take(split, indices)
        if perturb is not None:
            own_key = jax.random.fold_in(jax.random.key(_PERTURBED + key), count)
            batch = perturb(setting, state, batch, mean, own_key)
        state, metrics = run(setting, state, batch, mean, count, key)
        yield count + 1, state, metrics


def _flush(pending, done, method, seeds, report):
    """Reads and reports the metrics of the steps since the last time."""
    metrics = jax.tree.map(lambda *steps: np.stack(steps), *pending)
    first = done - len(pending)
    pending.clear()
    losses = metrics["loss"].reshape(done - first, -1)
    if not np.isfinite(losses).all():
        row, column = np.argwhere(~np.isfinite(losses))[0]
        raise FloatingPointError(
            f"{method.title}, seed {seeds[column]}: the loss is {losses[row, column]}"
            f" in step {first + row}. Lower --learning-rate, or let --annealing fall"
            " later."
        )
    report(done - first, metrics)
