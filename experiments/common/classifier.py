"""Image classifiers: a network and a head, their training step and evaluation."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import batches, images, loop
from experiments.common.networks import Design
from experiments.common.recipes import Recipe
from experiments.common.runs import Work

# Added to the seed of a run, for the random numbers of `perturb`.
_PERTURBED = 1_000_000
_BATCH = 500
_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "tensorfloat32"}


class Method(Protocol):
    """The training objective of a network: a row in the table of a study."""

    @property
    def title(self) -> str:
        """Name in tables."""
        ...

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """A module with parameters and ``loss(embeddings, labels, key=key)``."""
        ...


class Classifier(nnx.Module):
    """A network with the head for its training."""

    def __init__(
        self,
        config: Recipe,
        design: Design,
        classes: int,
        method: Method,
        conv: Callable[..., Any] = nnx.Conv,
        *,
        rngs: nnx.Rngs,
    ):
        if config.precision == "bfloat16":
            conv = partial(conv, dtype=jnp.bfloat16)
        self.network = sx.networks.Backbone(*design, conv=conv, rngs=rngs)
        features = self.network.features
        self.head: Any = method.head(features, classes, config.scale, rngs=rngs)


class State(NamedTuple):
    """The state of a training; with a leading axis if several seeds train together."""

    params: Any
    rest: Any  # running statistics, the margin, centers
    optimizer: Any


class Setting(NamedTuple):
    """Static argument of the step. Methods with the same kind of margin share it."""

    graph: Any
    config: Recipe


def initial(
    config: Recipe,
    design: Design,
    method: Method,
    classes: int,
    seed: int,
    conv: Callable[..., Any] = nnx.Conv,
) -> tuple[Setting, State]:
    """Setting and state of one seed before its first step."""
    model = Classifier(config, design, classes, method, conv, rngs=nnx.Rngs(seed))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    setting = Setting(graph, config)
    return setting, State(params, rest, config.optimizer.init(params))


def step(setting: Setting, mean, state: State, batch: Any, count, seed):
    """One step of gradient descent on raw images, by :func:`.loop.fit`."""
    config = setting.config
    key = jax.random.fold_in(jax.random.key(seed), count)
    pixels = images.prepare(batch.images, mean)
    # `augmented` splits the same key in two, which are the first two of these three.
    _, flip_key, loss_key = jax.random.split(key, 3)
    if config.augment:
        pixels = images.augmented(key, pixels)
    elif config.flip:
        pixels = images.flipped(flip_key, pixels)

    def loss(params):
        model = nnx.merge(setting.graph, params, state.rest, copy=True)
        embeddings = model.network(pixels, use_running_average=False)
        head: Any = model.head
        if isinstance(margin := getattr(head, "margin", None), sx.margins.SphereFace):
            fade = sx.margins.annealing_schedule(*config.annealing)
            head.margin = dataclasses.replace(margin, annealing=fade(count))
        shown = {}
        if isinstance(head, sx.layers.MarginHead):
            value, aux = head.loss(embeddings, batch.labels, key=loss_key, has_aux=True)
            shown["accuracy"] = jnp.mean(aux.correct.astype(jnp.float32))
        else:
            value = head.loss(embeddings, batch.labels, key=loss_key)
        return value, (nnx.state(model, nnx.Not(nnx.Param)), shown)

    (value, (rest, shown)), gradients = jax.value_and_grad(loss, has_aux=True)(
        state.params
    )
    updates, optimizer = config.optimizer.update(
        gradients, state.optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    return State(params, rest, optimizer), {"loss": value, **shown}


# Not in the step, which would be compiled again for another number of images.
@jax.jit
def _take(split: images.Images, indices: jax.Array) -> images.Images:
    return images.Images(split.images[indices], split.labels[indices])


def fit(
    config: Recipe,
    design: Design,
    method: Method,
    data: images.ImageSet,
    seeds: Sequence[int],
    work: Work,
    *,
    conv: Callable[..., Any] = nnx.Conv,
    perturb: Callable[..., images.Images] | None = None,
    record: Callable[[State, int], Any] | None = None,
    record_every: int = 1,
) -> tuple[Setting, list[loop.Fitted]]:
    """Trains the seeds, together if there are several.

    Args:
        config: The recipe.
        design: The design of the network.
        method: The method, which makes the head.
        data: The images.
        seeds: One seed, or several for one vmapped step.
        work: Folder of the checkpoints, and where progress is reported.
        conv: Constructor of the network's convolutions.
        perturb: ``perturb(setting, state, batch, mean, key)`` replaces a batch before
            its step; for a single seed.
        record: ``record(state, done)``, as in :func:`.loop.fit`.
        record_every: Steps between records.

    Returns:
        The setting, and for each seed the :class:`.loop.Fitted` of its training.

    Raises:
        FloatingPointError: If the loss is not a number; names the step.
        ValueError: If there are too few images for a batch.
    """
    labels, number = data.train.labels, len(data.train.labels)
    if config.per_class is None:
        batches.check_size(config.batch, number)
    else:
        batches.check_classes(config.batch, config.per_class, labels)

    def indices(seed, start):
        if config.per_class is None:
            return batches.by_epoch(config.batch, number, seed, start)
        return batches.by_class(config.batch, config.per_class, labels, seed, start)

    def before(state, rows, count):
        batch = _take(split, rows)
        if perturb is not None:
            key = jax.random.key(_PERTURBED + seeds[0])
            key = jax.random.fold_in(key, count)
            batch = perturb(setting, state, batch, mean, key)
        return state, batch

    split, mean = jax.tree.map(jnp.asarray, (data.train, data.mean))
    with jax.default_matmul_precision(_PRODUCTS[config.precision]):
        starts = [
            initial(config, design, method, data.classes, seed, conv) for seed in seeds
        ]
        setting = starts[0][0]
        fitted = loop.fit(
            step,
            setting,
            [state for _, state in starts],
            indices,
            work,
            title=method.title,
            advice="Lower --learning-rate, or let --annealing fall later.",
            seeds=seeds,
            steps=config.steps,
            checkpoint_every=config.checkpoint_every,
            shared=mean,
            before=before,
            record=record,
            record_every=record_every,
        )
    return setting, fitted


class Outputs(NamedTuple):
    """Outputs of a model for images, ``[n, ...]`` each."""

    predictions: Any
    cosines: Any  # to all prototypes
    embeddings: Any


def evaluate(setting: Setting, state: State, data: images.ImageSet) -> dict[str, Any]:
    """Error rate and angles on the test images.

    Returns:
        ``error``: wrong predictions, in percent. ``margin``: angle to the nearest other
        prototype minus the angle to the target's, mean over the images, in degrees.
        ``within``: the latter alone. ``parameters``: a digest of the trained ones, the
        same for two runs that ended with the same bits.
    """
    predictions, cosines, _ = outputs(setting, state, data, data.test.images)
    labels = data.test.labels[:, None]
    angles = np.degrees(np.arccos(np.clip(cosines.astype(np.float64), -1.0, 1.0)))
    target = np.take_along_axis(angles, labels, 1)[:, 0]
    others = np.where(np.arange(data.classes) == labels, np.inf, angles).min(1)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    content = b"".join(leaf.tobytes() for leaf in leaves)
    return {
        "error": float(100.0 * np.mean(predictions != data.test.labels)),
        "margin": float(np.mean(others - target)),
        "within": float(np.mean(target)),
        "parameters": hashlib.sha256(content).hexdigest()[:16],
    }


def outputs(
    setting: Setting, state: State, data: images.ImageSet, raw: np.ndarray
) -> Outputs:
    """Outputs of the model for raw images, ``[n, ...]`` each."""
    # Without the state of the optimizer, so that all share one compiled function.
    arrays = state.params, state.rest
    return _in_batches(
        lambda part: _forward(setting.graph, arrays, part, data.mean), raw
    )


def embeddings(
    setting: Setting, state: State, data: images.ImageSet, raw: np.ndarray
) -> np.ndarray:
    """Embeddings of raw images, ``[n, features]``, without the head."""
    model = nnx.merge(setting.graph, state.params, state.rest)
    # Without the head, so that all losses share one compiled function.
    graph, variables = nnx.split(model.network)
    return _in_batches(lambda part: _embed(graph, variables, part, data.mean), raw)


def _in_batches(function: Callable[[np.ndarray], Any], raw: np.ndarray) -> Any:
    rest = -len(raw) % _BATCH  # one shape, one compilation
    padded = np.concatenate([raw, np.repeat(raw[:1], rest, axis=0)])
    parts = [
        jax.device_get(function(part))
        for part in np.split(padded, len(padded) // _BATCH)
    ]
    return jax.tree.map(lambda *column: np.concatenate(column)[: len(raw)], *parts)


@partial(jax.jit, static_argnums=0)
def _embed(graph, variables, raw, mean):
    network = nnx.merge(graph, variables, copy=True)
    return network(images.prepare(raw, mean), use_running_average=True)


@partial(jax.jit, static_argnums=0)
def _forward(graph, arrays, raw, mean):
    model = nnx.merge(graph, *arrays, copy=True)
    found = model.network(images.prepare(raw, mean), use_running_average=True)
    cosines = sx.sphere.cosine_similarity(found, model.head.prototypes[...])
    return Outputs(jnp.argmax(model.head(found), axis=-1), cosines, found)
