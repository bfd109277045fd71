"""Trains the two players, and measures the samples of the generator."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common import batches, classifier, images, loop, networks, recipes
from experiments.common.margins import MARGINS
from experiments.common.runs import Run, Work, pack
from experiments.gan import measures
from experiments.gan.config import TOGETHER, Config

# Of the mixture: the centers of its Gaussians, on a circle.
_TURNS = np.arange(8) * np.pi / 4
CENTERS = 2.0 * np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1).astype(np.float32)
DEVIATION = 0.1
# Samples that are measured; and the seed of data and features, which no run has.
_MEASURED, _DATA_SEED = 2_000, 10_000
# Trained classifiers with their images, by data set and folder.
_CLASSIFIERS: dict[Any, Any] = {}


class Player(nnx.Module):
    """Dense layers, with leaky rectifiers in between."""

    def __init__(self, *widths: int, is_spectral: bool = False, rngs: nnx.Rngs):
        layers = [nnx.Linear(*pair, rngs=rngs) for pair in itertools.pairwise(widths)]
        if is_spectral:
            layers = [nnx.SpectralNorm(layer, rngs=rngs) for layer in layers]
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[n, first width]`` to ``[n, last width]``."""
        *hidden, last = self.layers
        for layer in hidden:
            x = nnx.leaky_relu(layer(x), 0.2)
        return last(x)


class State(NamedTuple):
    """Parameters of both players, running vectors of the norms, and optimizers."""

    critic: Any
    norms: Any
    generator: Any
    optimizers: tuple[Any, ...]


class Setting(NamedTuple):
    """Static argument of the step."""

    critic: Any
    generator: Any
    config: Config


def initial(config: Config, features: int, seed: int) -> tuple[Setting, State]:
    """Setting and state of one seed before its first step."""
    rngs, hidden = nnx.Rngs(seed), (config.width, config.width)
    method = config.methods[0]
    generator = Player(config.latent, *hidden, features, rngs=rngs)
    outputs = config.outputs if method == "sphere" else 1
    critic = Player(
        features, *hidden, outputs, is_spectral=method == "spectral", rngs=rngs
    )
    graph, params, norms = nnx.split(critic, nnx.Param, ...)
    generator_graph, made = nnx.split(generator)
    optimizers = tuple(
        player.init(x) for player, x in zip(config.players, (params, made), strict=True)
    )
    setting = Setting(graph, generator_graph, config)
    return setting, State(params, norms, made, optimizers)


def generate(setting: Setting, params: Any, key: jax.Array, number: int) -> jax.Array:
    """Samples ``[number, features]``; pixels are in [0, 1]."""
    latent = jax.random.normal(key, (number, setting.config.latent))
    found = nnx.merge(setting.generator, params)(latent)
    return found if setting.config.dataset == "mixture" else nnx.sigmoid(found)


def critic_loss(is_sphere: bool, real: jax.Array, fake: jax.Array) -> jax.Array:
    """What the critic minimizes, by its outputs for data and samples."""
    if is_sphere:
        return sx.losses.sphere_gan_critic(real, fake)
    return jnp.mean(nnx.softplus(-real)) + jnp.mean(nnx.softplus(fake))


def generator_loss(is_sphere: bool, fake: jax.Array) -> jax.Array:
    """What the generator minimizes, by the critic's outputs for its samples."""
    if is_sphere:
        return sx.losses.sphere_gan_generator(fake)
    return jnp.mean(nnx.softplus(-fake))


def steps(setting: Setting, data: jax.Array, state: State, rows: Any, count, seed):
    """Steps of both players on the rows of their batches, by :func:`.loop.fit`."""

    def one(state, each):
        return step(setting, data[each[0]], state, each[1])

    key = jax.random.fold_in(jax.random.key(seed), count)
    state, shown = jax.lax.scan(one, state, (rows, jax.random.split(key, len(rows))))
    return state, jax.tree.map(lambda x: x[-1], shown)


def step(setting: Setting, real: jax.Array, state: State, key: jax.Array):
    """One step of each player, on a batch of the data."""
    config, is_sphere = setting.config, setting.config.methods[0] == "sphere"
    keys, number = jax.random.split(key), len(real)
    # Of this step's start, for both players: they move at the same time.
    fixed = generate(setting, state.generator, keys[0], number)

    def of_critic(params):
        critic = nnx.merge(setting.critic, params, state.norms, copy=True)
        # One call: spectral normalization moves its running vectors in each.
        outputs = critic(jnp.concatenate([real, fixed]))
        loss = critic_loss(is_sphere, outputs[:number], outputs[number:])
        return loss, nnx.state(critic, nnx.Not(nnx.Param))

    def of_generator(params):
        critic = nnx.merge(setting.critic, state.critic, state.norms, copy=True)
        fake = generate(setting, params, keys[1], number)
        return generator_loss(is_sphere, critic(fake))

    (loss, norms), by_critic = jax.value_and_grad(of_critic, has_aux=True)(state.critic)
    against, by_generator = jax.value_and_grad(of_generator)(state.generator)
    moved, optimizers = [], []
    for player, gradient, params, optimizer in zip(
        config.players,
        (by_critic, by_generator),
        (state.critic, state.generator),
        state.optimizers,
        strict=True,
    ):
        updates, optimizer = player.update(gradient, optimizer, params)
        moved.append(optax.apply_updates(params, updates))
        optimizers.append(optimizer)
    critic, generator = moved
    shown = {"loss": loss, "generator": against}
    return State(critic, norms, generator, tuple(optimizers)), shown


def mixture(number: int, seed: int) -> np.ndarray:
    """Points of the mixture, ``[number, 2]``."""
    rng = np.random.default_rng(seed)
    centers = CENTERS[rng.integers(len(CENTERS), size=number)]
    noise = DEVIATION * rng.normal(size=centers.shape)
    return (centers + noise).astype(np.float32)


def modes(points: np.ndarray) -> np.ndarray:
    """The Gaussian within whose three deviations each point lies, or -1."""
    between = np.linalg.norm(points[:, None] - CENTERS[None], axis=-1)
    return np.where(between.min(1) <= 3 * DEVIATION, between.argmin(1), -1)


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one seed of a method.

    Returns:
        ``precision`` and ``recall``, in percent, between samples and data that were not
        trained on, of images in the features of a classifier; ``covered`` and
        ``effective``, the numbers of modes or classes that samples have, see
        :mod:`.measures`; ``energy`` of the critic's hidden neurons; ``samples``, for
        the figure.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    (run,) = runs
    config: Config = run.config
    if config.dataset == "mixture":
        data, shape = mixture(20_000, _DATA_SEED), (2,)
    else:
        found = images.load(config.dataset, config.data_dir)
        data, shape = found.train.images.astype(np.float32) / 255.0, found.shape
    batches.check_size(config.batch, len(data))

    def rows(seed, start):
        each = batches.by_epoch(config.batch, len(data), seed, TOGETHER * start)
        while True:
            yield np.stack([next(each) for _ in range(TOGETHER)])

    setting, start = initial(config, int(np.prod(shape)), run.seed)
    (fitted,) = loop.fit(
        steps,
        setting,
        # Copied, since equal numbers share a buffer, which cannot be given away twice.
        [jax.tree.map(jnp.copy, start)],
        rows,
        work,
        title=config.methods[0],
        advice="Lower --rates.",
        seeds=[run.seed],
        steps=config.steps // TOGETHER,
        checkpoint_every=config.checkpoint_every,
        shared=jnp.asarray(data.reshape(len(data), -1)),
    )
    state: State = fitted.state
    if config.dataset == "mixture":
        real = mixture(_MEASURED, _DATA_SEED + 1)
        made = sample(setting, state, len(real))
        of_real, of_made, kinds, number = real, made, modes(made), len(CENTERS)
        drawn = pack(made[:1_000], np.float16)
    else:
        aside = Work(work.folder / "features", lambda _, shown: work.report(0, shown))
        features = features_of(config.dataset, config.data_dir, aside)
        real = found.test.images[:_MEASURED]
        made = sample(setting, state, len(real)).reshape(real.shape) * 255.0
        (of_real, _), (of_made, kinds) = features(real), features(made)
        number = found.classes
        drawn = pack(made[:48], np.uint8)
    precision, recall = measures.precision_and_recall(of_real, of_made)
    covered, effective = measures.coverage(kinds, number)
    kernels = [
        x for x in jax.tree.leaves(state.critic) if x.shape[1:] == (config.width,)
    ]
    energy = np.mean([sx.energy.hyperspherical_energy(x.T) for x in kernels])
    return [
        {
            "precision": precision,
            "recall": recall,
            "covered": covered,
            "effective": effective,
            "energy": float(energy),
            "samples": drawn,
        }
    ]


def sample(setting: Setting, state: State, number: int) -> np.ndarray:
    """Samples of a trained generator, of the same latent numbers for all."""
    key = jax.random.key(_DATA_SEED)
    return np.asarray(generate(setting, state.generator, key, number))


def features_of(dataset: Any, data_dir: pathlib.Path | None, work: Work) -> Any:
    """``images -> (features, classes)`` of a small classifier, the same for all runs.

    It is trained on the training images; ``images`` have pixels from 0 to 255.
    """
    # Other runs of this process may have made it already.
    if (dataset, data_dir) not in _CLASSIFIERS:
        data = images.load(dataset, data_dir)
        recipe = recipes.quick(recipes.Recipe(), dataset)
        design = networks.design("small", data.shape)
        softmax, seeds = MARGINS["softmax"], [_DATA_SEED]
        trained = classifier.fit(recipe, design, softmax, data, seeds, work)
        _CLASSIFIERS[dataset, data_dir] = *trained, data
    setting, (fitted,), data = _CLASSIFIERS[dataset, data_dir]

    def measure(raw):
        found = classifier.outputs(setting, fitted.state, data, raw)
        return found.embeddings, found.predictions

    return measure
