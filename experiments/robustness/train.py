"""Trains the networks of the study, attacks them, and checks the attacks."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.common import classifier, lipschitz, networks
from experiments.common.images import Images, load, prepare
from experiments.common.margins import MARGINS
from experiments.common.operators import operator
from experiments.common.runs import Run, Work
from experiments.robustness.attacks import STEP, bim, fgsm, noise, path, pgd, uphill
from experiments.robustness.config import OWN, RADII, REACH, STEPS, Config

# How far the steps of an attack in training go together, in units of eps.
_TRAINED_REACH = 1.5
# Seed of the plain networks that attacks are transferred from; no run has it.
_SOURCE_SEED = 10_000
# Points on a side of a loss surface, and images that it averages.
_SIDE, _DRAWN = 9, 64
# What the plain network of a training gave: images at eps, and at each of RADII.
_TRANSFERRED: dict[Config, tuple[np.ndarray, list[np.ndarray]]] = {}


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one seed of an operator, and returns what :func:`measure` says of it.

    With ``OWN``, also ``certified``, see :func:`.lipschitz.certified`. Errors: images
    that are not prepared or too few, and a loss that is not a number.
    """
    (run,) = runs
    config: Config = run.config
    with jax.default_matmul_precision("highest"):
        # Other runs of this process may have made it already.
        plain = dataclasses.replace(config, operators=("plain",))
        if plain not in _TRANSFERRED:
            # Not counted as steps of this run.
            aside = Work(work.folder / "source", lambda _, shown: work.report(0, shown))
            source = _trained(plain, _SOURCE_SEED, aside)
            few = source.first(config.checked)
            _TRANSFERRED[plain] = (
                source.attacked(bim, config.eps),
                [few.attacked(bim, radius * config.eps) for radius in RADII],
            )
        target = _trained(config, run.seed, work)
        metrics = measure(target, config, *_TRANSFERRED[plain])
        if config.operators[0] == OWN:
            graph, variables, _ = target.model.args
            logits, labels = target.logits(target.images), target.labels
            corner = config.eps * target.images[0].size ** 0.5
            model = nnx.merge(graph, *variables)
            metrics["certified"] = lipschitz.certified(model, logits, labels, corner)
        return [metrics]


def _trained(config: Config, seed: int, work: Work) -> "Target":
    """A trained network, and the images on which it is attacked."""
    name, training = config.operators[0], config.trainings[0]
    data = load(config.dataset, config.data_dir)
    if config.images > len(data.test.labels):
        raise ValueError(
            f"--images must be at most {len(data.test.labels)}, the number of test"
            f" images, got {config.images}."
        )
    attack = partial(adversarial, config.eps, config.inner_steps)
    design = lipschitz.design if name == OWN else partial(networks.design, "small")
    setting, (fitted,) = classifier.fit(
        config,
        design(data.shape),
        MARGINS["softmax"]._replace(title=f"{name}, {training} training"),
        data,
        [seed],
        work,
        conv=nnx.Conv if name == OWN else operator(name).conv,
        perturb=attack if training == "adversarial" else None,
    )
    model = _model(setting, fitted.state, data.mean)
    pixels = data.test.images[: config.images].astype(np.float32) / 255.0
    return Target(model, pixels, data.test.labels[: config.images], config.batch)


def adversarial(eps, steps, setting, state, batch: Images, mean, key) -> Images:
    """A training batch after PGD from one random start, on the running statistics."""
    model = _model(setting, state, mean)
    loss = jax.tree_util.Partial(cross_entropy, model, batch.labels)
    pixels = jnp.asarray(batch.images, jnp.float32) / 255.0
    start = noise(loss, pixels, key, eps)
    points = path(loss, pixels, start, eps, step=_TRAINED_REACH / steps)
    last = next(itertools.islice(points, steps - 1, None))
    return batch._replace(images=255.0 * last)


def classify(graph: Any, variables: Any, mean: Any, images: jax.Array) -> jax.Array:
    """Logits of a trained classifier outside of training, for pixels in [0, 1]."""
    model = nnx.merge(graph, *variables, copy=True)
    prepared = prepare(255.0 * images, mean)
    return model.head(model.network(prepared, use_running_average=True))


def _model(setting: classifier.Setting, state: classifier.State, mean: Any) -> Any:
    """The classifier of a training, as a callable pytree."""
    variables = state.params, state.rest
    return jax.tree_util.Partial(classify, setting.graph, variables, jnp.asarray(mean))


def cross_entropy(model: Any, labels: Any, images: Any) -> jax.Array:
    """The loss of training, ``[n]``."""
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels)


def margin(model: Any, labels: jax.Array, images: jax.Array) -> jax.Array:
    """The largest other logit less the label's, ``[n]`` (Carlini, Wagner 2017)."""
    logits = model(images)
    is_target = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    target = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    return jnp.max(jnp.where(is_target, -jnp.inf, logits), axis=-1) - target


class Target(NamedTuple):
    """A model, and the images on which it is attacked."""

    model: Any  # a callable pytree, images [n, ...] to logits [n, classes]
    images: np.ndarray  # pixels in [0, 1]
    labels: np.ndarray
    batch: int  # size of the batches in which both are taken

    def first(self, number: int) -> "Target":
        """The same, on the first images alone."""
        return self._replace(images=self.images[:number], labels=self.labels[:number])

    def attacked(self, attack: Any, eps: float, loss=cross_entropy) -> np.ndarray:
        """The images after an attack, ``[n, ...]``."""
        parts = []
        for number, (images, labels) in enumerate(self._batches(self.images)):
            found = jax.tree_util.Partial(loss, self.model, labels)
            parts.append(attack(found, images, jax.random.key(number), eps))
        return np.concatenate(parts)[: len(self.labels)]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """For images in place of those of the target, ``[n, classes]``."""
        parts = [_logits(self.model, part) for part, _ in self._batches(images)]
        return np.concatenate(parts)[: len(self.labels)]

    def losses(self, moves: np.ndarray) -> np.ndarray:
        """Cross entropy of the images after a move, cut to [0, 1], ``[n]``."""
        logits = self.logits(np.clip(self.images + moves, 0.0, 1.0))
        return np.asarray(cross_entropy(lambda x: x, self.labels, logits))

    def correct(self, images: np.ndarray) -> np.ndarray:
        """Which images have the largest logit at their label, ``[n]``."""
        return self.logits(images).argmax(-1) == self.labels

    def accuracy(self, images: np.ndarray) -> float:
        """Share of the images that are correct, in percent."""
        return float(100.0 * np.mean(self.correct(images)))

    def _batches(self, images: np.ndarray) -> Iterator[tuple[jax.Array, jax.Array]]:
        # One shape, one compilation: the last batch is filled with the first images.
        rest = -len(images) % self.batch
        order = np.arange(len(images) + rest) % len(images)
        for rows in np.split(order, len(order) // self.batch):
            yield jnp.asarray(images[rows]), jnp.asarray(self.labels[rows])


_logits = jax.jit(lambda model, images: model(images))


def measure(
    target: Target, config: Config, moved: np.ndarray, moved_by_radius: list[np.ndarray]
) -> dict[str, Any]:
    """Accuracies of one model under attack, and what says whether to believe them.

    ``moved`` are the images after attacks on another model, ``moved_by_radius`` those
    that are checked, after attacks at each of ``RADII``.

    Returns:
        ``accuracy``: in percent, under each attack; under ``all`` an image counts if it
        is correct under every one. All else is of the first ``config.checked`` images.
        ``by_radius``: without attack and at each of ``RADII``, under three attacks.
        ``by_steps``: after each of ``STEPS`` of BIM. ``surface``: the mean loss, in a
        row along the sign of each image's gradient, in a column along random signs,
        both up to ``REACH`` times ``eps``. ``checks``: see :func:`checks`.
    """
    eps, several = config.eps, partial(pgd, restarts=config.restarts)
    images = {
        "clean": target.images,
        "noise": target.attacked(noise, eps),
        "fgsm": target.attacked(fgsm, eps),
        "bim": target.attacked(bim, eps),
        "pgd": target.attacked(several, eps),
        "margin": target.attacked(several, eps, margin),
        "transfer": moved,
    }
    correct = {name: target.correct(x) for name, x in images.items()}
    correct["all"] = np.logical_and.reduce(list(correct.values()))
    accuracy = {name: float(100.0 * np.mean(x)) for name, x in correct.items()}

    few = target.first(config.checked)
    by_radius = {
        "fgsm": [few.attacked(fgsm, radius * eps) for radius in RADII],
        "pgd": [few.attacked(pgd, radius * eps) for radius in RADII],
        "transfer": moved_by_radius,
    }

    def points(loss, images, key, eps):
        found = path(loss, images, images, eps, step=STEP)
        found = list(itertools.islice(found, STEPS[-1]))
        return jnp.stack([found[number - 1] for number in STEPS], axis=1)

    by_steps = [few.accuracy(x) for x in np.moveaxis(few.attacked(points, eps), 1, 0)]
    drawn = few.first(_DRAWN)
    gradient, random = directions(drawn)
    lengths = np.linspace(-REACH, REACH, _SIDE, dtype=np.float32) * eps
    surface = [
        [float(np.mean(drawn.losses(a * gradient + b * random))) for a in lengths]
        for b in lengths
    ]
    return {
        "accuracy": accuracy,
        "by_radius": {
            name: [few.accuracy(x) for x in (few.images, *found)]
            for name, found in by_radius.items()
        },
        "by_steps": by_steps,
        "surface": np.round(surface, 4).tolist(),
        "checks": checks(few, eps, accuracy, by_steps),
    }


def checks(
    target: Target, eps: float, accuracy: Mapping[str, float], by_steps: list[float]
) -> dict[str, float]:
    """Numbers that are small unless the attacks fail because of a masked gradient.

    Returns:
        ``noise``, how much more accurate the model is under FGSM than under noise;
        ``iteration``, under BIM than under FGSM; ``steps``, the greatest rise of the
        accuracy with more steps; ``transfer``, how much more accurate under PGD than
        under transferred images; ``range``, the accuracy under PGD when a pixel may
        become any other; ``direction``, the share of images whose loss rises no more
        along the sign of its gradient than along random signs.

    References:
        Athalye et al., ICML 2018 (https://arxiv.org/abs/1802.00420), Sec. 3.1.
    """
    # The same loss in both, as where the gradient is zero, is no rise along it.
    along, across = (target.losses(eps * x) for x in directions(target))
    return {
        "noise": accuracy["fgsm"] - accuracy["noise"],
        "iteration": accuracy["bim"] - accuracy["fgsm"],
        "steps": float(np.max(np.diff(by_steps))),
        "transfer": accuracy["pgd"] - accuracy["transfer"],
        "range": target.accuracy(target.attacked(pgd, 1.0)),
        "direction": float(100.0 * np.mean(along <= across)),
    }


def directions(target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The sign of the gradient of each image, and random signs."""
    signs = target.attacked(lambda loss, images, *_: uphill(loss, images)[1], 0.0)
    random = np.random.default_rng(0).choice([-1.0, 1.0], signs.shape)
    return signs, random.astype(signs.dtype)
