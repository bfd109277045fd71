"""Classifiers and those who attack them, in batches of one size."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import _attacks, _data, _training
from experiments._pixels import prepare

# Of the protocol: 2/255 of 8/255, ten times.
_STEP = 0.25
_BIM_STEPS = 10
_PGD_STEPS = 20
# Together, the steps of an attack in training go this many radii from their start.
_REACH = 1.5

# Images ``[n, ...]`` to logits ``[n, classes]``, as a pytree.
Model = Callable[[jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Classifier:
    """Logits of a trained classifier, for images with pixels in [0, 1]."""

    graph: Any = dataclasses.field(metadata={"static": True})
    variables: Any
    mean: jax.Array

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits, as the classifier gives them outside of training."""
        model = nnx.merge(self.graph, *self.variables, copy=True)
        prepared = prepare(255.0 * images, self.mean)
        return model.head(model.network(prepared, use_running_average=True))


def classifier(
    setting: _training.Setting, state: _training.State, mean: Any
) -> Classifier:
    """What has come out of a training."""
    variables = state.params, state.rest
    return Classifier(setting.graph, variables, jnp.asarray(mean))


def cross_entropy(model: Model, labels: jax.Array, images: jax.Array) -> jax.Array:
    """The loss of training, ``[n]``."""
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels)


def margin(model: Model, labels: jax.Array, images: jax.Array) -> jax.Array:
    """The largest other logit less that of the label, ``[n]``.

    Its gradient does not vanish where the model is certain, as that of the cross
    entropy does (Carlini and Wagner 2017).
    """
    logits = model(images)
    is_own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.sum(jnp.where(is_own, logits, 0.0), axis=-1)
    return jnp.max(jnp.where(is_own, -jnp.inf, logits), axis=-1) - own


class Threat(NamedTuple):
    """Attacks within one radius, each of a loss, images and a key.

    Attributes:
        eps: The radius.
        restarts: Of PGD.
    """

    eps: float
    restarts: int = 1

    @property
    def step(self) -> float:
        """Length of the steps of BIM and PGD."""
        return _STEP * self.eps

    def noise(
        self, loss: _attacks.Loss, images: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Uniform noise, which no attack should be weaker than."""
        return _attacks.noise(images, key=key, eps=self.eps)

    def fgsm(self, loss: _attacks.Loss, images: jax.Array, key: jax.Array) -> jax.Array:
        """One step."""
        return _attacks.fgsm(loss, images, eps=self.eps)

    def bim(self, loss: _attacks.Loss, images: jax.Array, key: jax.Array) -> jax.Array:
        """Ten steps from the image."""
        return _attacks.bim(
            loss, images, eps=self.eps, step=self.step, steps=_BIM_STEPS
        )

    def pgd(self, loss: _attacks.Loss, images: jax.Array, key: jax.Array) -> jax.Array:
        """Twenty steps from each of some random starts."""
        return _attacks.pgd(
            loss,
            images,
            key=key,
            eps=self.eps,
            step=self.step,
            steps=_PGD_STEPS,
            restarts=self.restarts,
        )


Attack = Callable[[_attacks.Loss, jax.Array, jax.Array], jax.Array]


class Target(NamedTuple):
    """A model, and the images on which it is attacked.

    Attributes:
        model: The model.
        images: Pixels in [0, 1], ``[n, ...]``.
        labels: ``[n]``.
        batch: Size of the batches in which both are taken.
    """

    model: Model
    images: np.ndarray
    labels: np.ndarray
    batch: int

    def first(self, number: int) -> "Target":
        """The same, on the first images alone."""
        return self._replace(images=self.images[:number], labels=self.labels[:number])

    def attacked(
        self, attack: Attack, loss: Callable[..., jax.Array] = cross_entropy
    ) -> np.ndarray:
        """The images, attacked, ``[n, ...]``."""
        parts = []
        for number, (images, labels) in enumerate(self._batches(self.images)):
            of_labels = jax.tree_util.Partial(loss, self.model, labels)
            parts.append(attack(of_labels, images, jax.random.key(number)))
        return np.concatenate(parts)[: len(self.labels)]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Of images in the place of those of the target, ``[n, classes]``."""
        parts = [_logits(self.model, part) for part, _ in self._batches(images)]
        return np.concatenate(parts)[: len(self.labels)]

    def correct(self, images: np.ndarray) -> np.ndarray:
        """Which images have the largest logit at their label, ``[n]``."""
        return self.logits(images).argmax(-1) == self.labels

    def accuracy(self, images: np.ndarray) -> float:
        """How many do, in percent."""
        return percent(self.correct(images))

    def _batches(self, images: np.ndarray) -> Iterator[tuple[jax.Array, jax.Array]]:
        # One shape, one compilation: the last batch begins anew with the first images.
        rest = -len(images) % self.batch
        order = np.arange(len(images) + rest) % len(images)
        for rows in np.split(order, len(order) // self.batch):
            yield jnp.asarray(images[rows]), jnp.asarray(self.labels[rows])


@jax.jit
def _logits(model: Model, images: jax.Array) -> jax.Array:
    return model(images)


def percent(share: np.ndarray) -> float:
    """Of the entries that are true."""
    return float(100.0 * np.mean(share))


def natural(setting, state, batch: _data.Images, mean, key) -> _data.Images:
    """Training batches as they are; floating, as those that are attacked."""
    return batch._replace(images=jnp.asarray(batch.images, jnp.float32))


def adversarial(eps: float, steps: int) -> _training.Perturb:
    """Training batches attacked by PGD from one random start, its last point taken.

    The network is attacked as it is outside of training, with its running statistics.

    References:
        Madry et al., `Towards Deep Learning Models Resistant to Adversarial Attacks
        <https://arxiv.org/abs/1706.06083>`_, ICLR 2018.
    """

    def perturb(setting, state, batch: _data.Images, mean, key) -> _data.Images:
        model = classifier(setting, state, mean)
        loss = jax.tree_util.Partial(cross_entropy, model, batch.labels)
        pixels = jnp.asarray(batch.images, jnp.float32) / 255.0
        start = _attacks.noise(pixels, key=key, eps=eps)
        points = _attacks.path(loss, pixels, start, eps=eps, step=_REACH * eps / steps)
        moved = next(itertools.islice(points, steps - 1, None))
        return batch._replace(images=255.0 * moved)

    return perturb
