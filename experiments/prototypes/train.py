"""Trains networks whose embeddings are turned to prototypes, or to poles.

Fixed prototypes are the same for all seeds. Those that are ranked follow the
similarities of the classes' mean training images, less the mean of all.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import ndimage

import sphax as sx
from experiments.common import classifier, images, networks
from experiments.common.margins import MARGINS
from experiments.common.runs import Run, Work, pack
from experiments.prototypes.config import CLASSES, NUMBERS, Config

# Ends of the two numbers that are estimated: degrees, and share of the contrast.
LOW, HIGH = (-60.0, 0.3), (60.0, 1.0)
_TURNED = 4  # turned copies of a training image, and one of a test image


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method in one number of dimensions.

    Returns:
        For each seed of a classification what :func:`.classifier.evaluate` measures,
        and of the prototypes in the end ``max_cosine``, the ``bound`` below which no
        prototypes have it, and ``in_order``: for how many
        of the triples of classes, in percent, the cosines are in the order of the
        similarities. For each seed of a regression the mean absolute errors ``angle``,
        in degrees, and ``contrast``, in percent, and the ``angles`` to draw.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
    """
    config: Config = runs[0].config
    data = images.load(config.dataset, config.data_dir)
    name = config.methods[0]
    similarities = similarities_of(data)
    if name in NUMBERS:
        data = turned(config.dataset, config.data_dir)
    design = networks.design(config.network, data.shape)
    setting, fitted = classifier.fit(
        config,
        design._replace(features=config.features[0]),
        Method(name, similarities),
        data,
        [run.seed for run in runs],
        work,
    )
    found = []
    for each in fitted:
        state = each.state
        head = nnx.merge(setting.graph, state.params, state.rest).head
        if name in NUMBERS:
            embeddings = classifier.embeddings(setting, state, data, data.test.images)
            found.append(deviations(np.asarray(head(embeddings)), data.test.labels))
        else:
            metrics = classifier.evaluate(setting, state, data)
            rows = np.asarray(sx.sphere.normalize(head.prototypes[...]))
            cosines = rows @ rows.T
            largest = np.max(cosines - 2.0 * np.eye(len(cosines)))
            metrics["max_cosine"] = float(largest)
            bound = sx.energy.closest_angle_bound(*rows.shape)
            metrics["bound"] = math.cos(bound)
            metrics["in_order"] = in_order(cosines, similarities)
            found.append(metrics)
    return found


class Method(NamedTuple):
    """A row of a table: what makes the head of its network."""

    name: str
    similarities: np.ndarray

    @property
    def title(self) -> str:
        """Name in tables."""
        return (CLASSES | NUMBERS)[self.name]

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """The head: a loss with its prototypes, learned or not."""
        if self.name in NUMBERS:
            return Numbers(self.name, features, rngs=rngs)
        if self.name in ("softmax", "cosine"):
            like = MARGINS["softmax" if self.name == "softmax" else "arcface"]
            like = like._replace(margin=sx.margins.NoMargin())
            return like.head(features, classes, scale, rngs=rngs)
        similarities = self.similarities if self.name == "ranked" else None
        found = placed(classes, features, similarities)
        return Fixed(self.name, found.prototypes, scale, rngs=rngs)


def placed(
    classes: int, features: int, similarities: np.ndarray | None
) -> sx.energy.SeparatedPrototypes:
    """The fixed prototypes of every seed."""
    return sx.energy.separated_prototypes(
        jax.random.key(0), classes, features, similarities=similarities
    )


class Fixed(nnx.Module):
    """A loss with prototypes that are not trained."""

    def __init__(
        self, name: str, prototypes: jax.Array, scale: float, *, rngs: nnx.Rngs
    ):
        self.name, self.scale = name, scale
        self.prototypes = nnx.Variable(prototypes)
        if name == "vmf":
            # A concentration for each example, from 1 on.
            self.concentration = nnx.Linear(prototypes.shape[1], 1, rngs=rngs)

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """Cosines, whose largest one is the prediction."""
        return sx.losses.class_logits(embeddings, self.prototypes[...], scale=1.0)

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss of a batch."""
        batch = embeddings, self.prototypes[...], labels
        if self.name == "fixed":
            margin = sx.margins.NoMargin()
            return sx.losses.margin_softmax(*batch, margin, scale=self.scale)
        if self.name == "vmf":
            k = 1.0 + nnx.softplus(self.concentration(embeddings)[..., 0])
            return sx.losses.vmf_likelihood(*batch, k)
        return sx.losses.hyperspherical_prototype(*batch)


class Numbers(nnx.Module):
    """Squared errors of two numbers, by a linear layer or by the angles to two poles.

    Both numbers are from -1 to 1 in their range.
    """

    def __init__(self, name: str, features: int, *, rngs: nnx.Rngs):
        self.radius = 1.0 if name == "poles-1" else None
        self.poles = nnx.Variable(jnp.eye(2, features))
        self.linear = nnx.Linear(features, 2, rngs=rngs) if name == "linear" else None

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """The numbers, ``[n, 2]``."""
        if self.linear is not None:
            return self.linear(embeddings)
        poles = self.poles[...]
        return sx.losses.polar_values(embeddings, poles, radius=self.radius)

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss of a batch."""
        if self.linear is not None:
            errors = jnp.square(labels - self.linear(embeddings))
            return jnp.mean(jnp.sum(errors, axis=-1))
        poles = self.poles[...]
        return sx.losses.polar_regression(embeddings, poles, labels, radius=self.radius)


@functools.lru_cache(maxsize=1)
def turned(name: images.Name, data_dir: Any) -> images.ImageSet:
    """Images turned by random angles and paled by random factors, and both numbers.

    The labels are the numbers, scaled to -1 to 1 in their ranges.
    """
    data, rng = images.load(name, data_dir), np.random.default_rng(0)

    def turn(part: images.Images, copies: int) -> images.Images:
        shares = rng.uniform(size=(copies * len(part.images), 2))
        drawn = []
        for share, image in zip(shares, itertools.cycle(part.images), strict=False):
            angle, contrast = LOW + share * np.subtract(HIGH, LOW)
            found = ndimage.rotate(
                image.astype(np.float32), angle, reshape=False, order=1
            )
            drawn.append(np.round(contrast * found).astype(np.uint8))
        return images.Images(np.stack(drawn), (2.0 * shares - 1.0).astype(np.float32))

    return images.ImageSet(turn(data.train, _TURNED), turn(data.test, 1), 2)


def deviations(estimates: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Mean absolute errors, and angles in degrees, right and estimated."""
    half = 0.5 * np.subtract(HIGH, LOW)
    angle, contrast = np.mean(np.abs(estimates - labels), axis=0) * half
    angles = np.stack([labels[:, 0], estimates[:, 0]]) * half[0]
    return {
        "angle": float(angle),
        "contrast": float(100.0 * contrast),
        "angles": pack(angles, np.float16),
    }


def similarities_of(data: images.ImageSet) -> np.ndarray:
    """Cosines of the mean images of the classes, less the mean of these."""
    labels, pixels = data.train.labels, data.train.images.astype(np.float32)
    means = np.stack([pixels[labels == k].mean(0).ravel() for k in range(data.classes)])
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means @ means.T


def in_order(cosines: np.ndarray, similarities: np.ndarray) -> float:
    """For how many triples, in percent, cosines are in the order of similarities.

    A triple is a class and two others. Cosines that are equal, up to rounding, count
    half.
    """
    shares = []
    for i, pair in enumerate(zip(cosines, similarities, strict=True)):
        first, second = np.triu_indices(len(cosines) - 1, 1)
        cosine, similarity = (np.delete(x, i) for x in pair)
        gaps = cosine[first] - cosine[second]
        signs = np.where(np.abs(gaps) < 1e-5, 0.0, np.sign(gaps))
        order = np.sign(similarity[first] - similarity[second])
        shares.append(np.mean(0.5 + 0.5 * signs * order))
    return 100.0 * float(np.mean(shares))
