"""Trains embeddings on some classes, and tests them in episodes of others.

The test episodes are the same for every method and seed.
"""

import functools
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import sphax as sx
from experiments.common import classifier, images
from experiments.common.runs import Run, Work, pack
from experiments.few_shot.config import METHODS, Config, Dataset


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method.

    Returns:
        For each seed the test ``accuracy`` of each task, in percent, by
        ``"5-way 1-shot"``, and the number of right queries of each episode, ``right``.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    config: Config = runs[0].config
    data = load(config.dataset, config.data_dir)
    name = config.methods[0]
    if name == "pixels":
        work.report(1, {})
        pixels = data.test.images.reshape(len(data.test.labels), -1) / 255.0
        return [measure(config, pixels.astype(np.float32), data.test.labels)]
    stage, (height, *_) = sx.networks.Stage, data.shape
    # Four convolutions, each halving the map, as published; two for digits.
    number = 4 if height >= 16 else 2
    stages = (stage(config.filters),) * number
    setting, fitted = classifier.fit(
        config,
        sx.networks.Design(data.shape, stages, 64),
        Method(name, config),
        data,
        [run.seed for run in runs],
        work,
    )
    embedded = (
        classifier.embeddings(setting, each.state, data, data.test.images)
        for each in fitted
    )
    return [measure(config, x, data.test.labels) for x in embedded]


@functools.lru_cache(maxsize=1)
def load(name: Dataset, data_dir: pathlib.Path | None = None) -> images.ImageSet:
    """Training and test images of different classes, each labeled from 0 on.

    Args:
        name: ``"digits"``: 0 to 4, and 5 to 9. ``"omniglot"``: the characters of the
            authors' background alphabets, turned by 0, 90, 180 and 270 degrees as four
            classes each, and those of the evaluation alphabets as they are.
        data_dir: As for :func:`.images.load`.

    Raises:
        DatasetNotFoundError: If the set is not prepared there.
    """
    if name == "digits":
        digits = images.load("digits")
        pixels, labels = map(
            np.concatenate, zip(digits.train, digits.test, strict=True)
        )
        sides = [images.Images(pixels[p], labels[p]) for p in (labels < 5, labels >= 5)]
    else:
        sides = [
            images.read(name, split, data_dir, (28, 28))[0]
            for split in ("train", "test")
        ]
    (pixels, labels), (others, tested) = [
        (x.images, np.unique(x.labels, return_inverse=True)[1].astype(np.int32))
        for x in sides
    ]
    classes = int(labels.max()) + 1
    if name == "omniglot":
        quarters = range(4)
        pixels = np.concatenate([np.rot90(pixels, k, axes=(1, 2)) for k in quarters])
        labels = np.concatenate([labels + k * classes for k in quarters])
        classes *= 4
    sides = images.Images(pixels, labels), images.Images(others, tested)
    return images.ImageSet(*sides, classes)


class Method(NamedTuple):
    """A row of a table: what makes the head of its network."""

    name: str
    config: Config

    @property
    def title(self) -> str:
        """Name in tables."""
        return METHODS[self.name]

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """A cosine classifier of the training classes, or a head of episodes."""
        if self.name == "cosine":
            return sx.layers.MarginHead(
                features, classes, margin=sx.margins.NoMargin(), scale=scale, rngs=rngs
            )
        return Episodic(self.name == "prototypical-sphere", self.config)


class Episodic(nnx.Module):
    """The loss of prototypical networks, of a batch with as many images of each class.

    On the sphere, the scale is learned.
    """

    def __init__(self, on_sphere: bool, config: Config):
        assert config.per_class is not None
        self.on_sphere = on_sphere
        self.shots, self.size = config.shots, config.per_class
        self.log_scale = nnx.Param(jnp.log(10.0)) if on_sphere else None

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss of a batch, whose first images of each class are the support."""
        rows = embeddings.reshape(-1, self.size, embeddings.shape[-1])
        support, queries = rows[:, : self.shots], rows[:, self.shots :]
        numbers = jnp.arange(len(rows))
        scale = None if self.log_scale is None else jnp.exp(self.log_scale[...])
        return sx.losses.prototypical(
            queries,
            jnp.repeat(numbers[:, None], queries.shape[1], axis=1),
            support.reshape(-1, support.shape[-1]),
            jnp.repeat(numbers, self.shots),
            num_classes=len(rows),
            on_sphere=self.on_sphere,
            scale=scale,
        )


def measure(
    config: Config, embeddings: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Accuracy in the test episodes of every task."""
    found: dict[str, Any] = {"accuracy": {}, "right": {}}
    for ways, shots in config.tasks:
        drawn = sx.data.episodes(
            labels, classes=ways, shots=shots, queries=config.queries
        )
        episodes = [drawn.episode(number) for number in range(config.episodes)]
        support, queries = (
            np.stack([getattr(episode, side) for episode in episodes])
            for side in ("support", "queries")
        )
        right = np.asarray(
            _right(embeddings, support, queries, method=config.methods[0])
        )
        task = f"{ways}-way {shots}-shot"
        found["accuracy"][task] = 100.0 * float(np.mean(right) / queries[0].size)
        found["right"][task] = pack(right, np.uint16)
    return found


@partial(jax.jit, static_argnames="method")
def _right(embeddings, support, queries, *, method):
    """Number of queries of each episode that are classified rightly."""
    ways, shots = support.shape[1:]
    numbers = jnp.arange(ways)

    def of_episode(rows):
        x, known = embeddings[rows[1]], embeddings[rows[0]].reshape(ways * shots, -1)
        labels = jnp.repeat(numbers, shots)
        if method == "cosine":
            empty = jnp.zeros((ways, x.shape[-1]), x.dtype)
            prototypes = sx.losses.imprint(empty, known, labels)
            logits = sx.losses.class_logits(x, prototypes)
        else:
            logits = sx.losses.prototypical_logits(
                x,
                known,
                labels,
                num_classes=ways,
                on_sphere=method != "prototypical",
            )
        return jnp.sum(jnp.argmax(logits, axis=-1) == numbers[:, None])

    return jax.lax.map(of_episode, (support, queries))
