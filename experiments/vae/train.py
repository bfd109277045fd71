"""Trains the variational autoencoders of the study, and measures them."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.neighbors import KNeighborsClassifier

import sphax as sx
from experiments.common import batches, loop
from experiments.common.images import Images, ImageSet, load
from experiments.common.runs import Run, Work, pack
from experiments.vae.config import TOGETHER, Config

# Labels of so many training images are known to the classifier of codes; None for all.
_LABELED = {"labeled": None, "few": 100}
_NEIGHBORS = 5
_FAMILIES = {
    "von-mises-fisher": sx.distributions.VonMisesFisher,
    "power-spherical": sx.distributions.PowerSpherical,
}


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains the seeds of one kind of code.

    Returns:
        For each seed what :func:`evaluate` measures on the test images; for codes with
        two degrees of freedom their ``means`` and ``labels``, to draw.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
        ValueError: If there are fewer images than in a batch.
    """
    config: Config = runs[0].config
    data = load(config.dataset, config.data_dir)
    with jax.default_matmul_precision("highest"):
        return [
            evaluate(config, graph, state, data, run.seed)
            for run, (graph, state) in zip(
                runs, fit(config, data, [run.seed for run in runs], work), strict=True
            )
        ]


class Gaussian(NamedTuple):
    """A normal distribution of independent numbers, as a posterior of codes."""

    mean: jax.Array  # [..., m]
    log_deviation: jax.Array

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        """Random codes ``[*shape, ..., m]``."""
        noise = jax.random.normal(key, shape + self.mean.shape)
        rank = (1,) * len(shape)
        mean, scale = (
            x.reshape(*rank, *x.shape) for x in (self.mean, jnp.exp(self.log_deviation))
        )
        return mean + scale * noise

    def divergence(self) -> jax.Array:
        """From the standard normal distribution."""
        variance = jnp.exp(2.0 * self.log_deviation)
        terms = variance + self.mean**2 - 1.0 - 2.0 * self.log_deviation
        return 0.5 * jnp.sum(terms, axis=-1)

    def log_ratio(self, codes: jax.Array) -> jax.Array:
        """Log density under the standard normal distribution, less under this one."""
        rank = (1,) * (codes.ndim - self.mean.ndim)
        mean, log_deviation = (x.reshape(*rank, *x.shape) for x in self)
        noise = (codes - mean) * jnp.exp(-log_deviation)
        return jnp.sum(0.5 * (noise**2 - codes**2) + log_deviation, axis=-1)


class GaussianHead(nnx.Module):
    """Features to a Gaussian posterior."""

    def __init__(self, features: int, dimension: int, *, rngs: nnx.Rngs):
        self.dimension = dimension
        self.dense = nnx.Linear(features, 2 * dimension, rngs=rngs)

    def __call__(self, features: jax.Array) -> Gaussian:
        """Maps ``[..., features]`` to a batch of posteriors."""
        out = self.dense(features)
        return Gaussian(out[..., : self.dimension], out[..., self.dimension :])


class Autoencoder(nnx.Module):
    """Dense layers with rectifiers, from binary pixels to a posterior and back.

    Args:
        pixels: Number of pixels.
        config: Settings of one kind of code.
        rngs: Key stream; uses ``params``.
    """

    def __init__(self, pixels: int, config: Config, *, rngs: nnx.Rngs):
        (latent,), (dimension,) = config.latents, config.dimensions
        is_gaussian = latent == "gaussian"
        self.encoder = _dense((pixels, *config.hidden), rngs)
        if is_gaussian:
            self.head = GaussianHead(config.hidden[-1], dimension, rngs=rngs)
        else:
            self.head = sx.layers.DistributionHead(
                config.hidden[-1], dimension + 1, family=_FAMILIES[latent], rngs=rngs
            )
        size = dimension if is_gaussian else dimension + 1
        self.decoder = _dense((size, *reversed(config.hidden)), rngs)
        self.last = nnx.Linear(config.hidden[0], pixels, rngs=rngs)

    def encode(self, pixels: jax.Array) -> Any:
        """The posteriors of images ``[..., pixels]``."""
        for layer in self.encoder:
            pixels = nnx.relu(layer(pixels))
        return self.head(pixels)

    def log_likelihood(self, codes: jax.Array, pixels: jax.Array) -> jax.Array:
        """Of binary pixels, independent given the code; axes broadcast."""
        for layer in self.decoder:
            codes = nnx.relu(layer(codes))
        logits = self.last(codes)
        return jnp.sum(pixels * logits - jax.nn.softplus(logits), axis=-1)


def _dense(sizes: Sequence[int], rngs: nnx.Rngs) -> nnx.List:
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in pairs)


def binary(images: np.ndarray | jax.Array, key: jax.Array) -> jax.Array:
    """Random pixels, each 1 with its intensity as probability, ``[n, pixels]``."""
    flat = jnp.asarray(images, jnp.float32).reshape(len(images), -1)
    return jax.random.bernoulli(key, flat / 255.0).astype(jnp.float32)


class Setting(NamedTuple):
    """What a step is compiled for."""

    graph: Any
    config: Config


class State(NamedTuple):
    """What a step changes."""

    params: Any
    optimizer: Any


def fit(
    config: Config, data: ImageSet, seeds: Sequence[int], work: Work
) -> Iterator[tuple[Any, Any]]:
    """Trains autoencoders; each as its graph and its parameters.

    Raises:
        FloatingPointError: If the loss is not a number.
        ValueError: If there are fewer images than in a batch.
    """
    images = data.train.images
    batches.check_size(config.batch, len(images))
    size = math.prod(data.shape)
    models = [
        nnx.split(Autoencoder(size, config, rngs=nnx.Rngs(seed)), nnx.Param)
        for seed in seeds
    ]
    graph = models[0][0]

    def drawn(seed: int, start: int) -> Iterator[np.ndarray]:
        for rows in batches.by_epoch(config.batch, len(images), seed, start):
            yield images[rows]

    found = loop.fit(
        step,
        Setting(graph, config),
        [State(params, config.optimizer.init(params)) for _, params in models],
        drawn,
        work,
        title="autoencoder",
        advice="Lower --learning-rate.",
        seeds=seeds,
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    return ((graph, each.state.params) for each in found)


def step(setting: Setting, shared, state: State, images, count, seed):
    """One step on the negative evidence lower bound, by :func:`.loop.fit`."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), count)
    of_pixels, of_codes = jax.random.split(key)
    pixels = binary(images, of_pixels)

    def loss(params):
        model = nnx.merge(setting.graph, params)
        posterior = model.encode(pixels)
        found = model.log_likelihood(posterior.sample(of_codes), pixels)
        if isinstance(posterior, Gaussian):
            return jnp.mean(posterior.divergence() - found)
        return sx.losses.negative_elbo(found, posterior)

    value, gradients = jax.value_and_grad(loss)(state.params)
    updates, optimizer = setting.config.optimizer.update(gradients, state.optimizer)
    params = optax.apply_updates(state.params, updates)
    return State(params, optimizer), {"loss": value}


def evaluate(
    config: Config, graph: Any, params: Any, data: ImageSet, seed: int
) -> dict[str, Any]:
    """Measures an autoencoder on the test images, in nats and percent.

    Returns:
        Means over the images: ``likelihood``, the importance-weighted bound of the log
        likelihood; the evidence lower bound, ``elbo``, and its ``divergence``. Accuracy
        of the nearest neighbors among the codes of the training images, by the cosine
        on the sphere: ``labeled`` with the labels of all of them, ``few`` of 100.
    """
    key = jax.random.fold_in(jax.random.key(2), seed)
    # The same binary images for all runs.
    pixels = {
        name: binary(split.images, jax.random.key(number))
        for number, (name, split) in enumerate(
            {"train": data.train, "test": data.test}.items()
        )
    }
    parts = -(-len(pixels["test"]) // 1000)
    found = [
        jax.device_get(
            _measure(graph, params, part, jax.random.fold_in(key, i), config.samples)
        )
        for i, part in enumerate(jnp.array_split(pixels["test"], parts))
    ]
    metrics: dict[str, Any] = {
        name: float(np.mean(np.concatenate([each[name] for each in found])))
        for name in found[0]
    }
    means = {name: np.asarray(_mean(graph, params, x)) for name, x in pixels.items()}
    metrics |= accuracies(means, data.train, data.test)
    if config.dimensions == (2,):
        metrics["means"] = pack(means["test"][:2000], np.float16)
        metrics["labels"] = pack(data.test.labels[:2000], np.uint8)
    return metrics


@partial(jax.jit, static_argnums=(0, 4))
def _measure(graph, params, pixels, key, samples):
    model = nnx.merge(graph, params)
    posterior = model.encode(pixels)

    def some(key):
        codes = posterior.sample(key, (TOGETHER,))
        found = model.log_likelihood(codes, pixels[None])
        if isinstance(posterior, Gaussian):
            bound = jax.nn.logsumexp(found + posterior.log_ratio(codes), axis=0)
            return found, bound - math.log(TOGETHER)
        return found, sx.losses.importance_weighted_elbo(found, posterior, codes)

    keys = jax.random.split(key, samples // TOGETHER)
    found, bounds = jax.lax.map(some, keys)
    if isinstance(posterior, Gaussian):
        divergence = posterior.divergence()
    else:
        uniform = sx.distributions.SphericalUniform(posterior.dimension)
        divergence = sx.distributions.kl_divergence(posterior, uniform)
    return {
        "likelihood": jax.nn.logsumexp(bounds, axis=0) - math.log(len(keys)),
        "elbo": jnp.mean(found, axis=(0, 1)) - divergence,
        "divergence": divergence,
    }


@partial(jax.jit, static_argnums=0)
def _mean(graph, params, pixels):
    posterior = nnx.merge(graph, params).encode(pixels)
    if isinstance(posterior, Gaussian):
        return posterior.mean
    return sx.sphere.normalize(posterior.mean_direction)


def accuracies(
    codes: dict[str, np.ndarray], train: Images, test: Images
) -> dict[str, float]:
    """Percent of test images whose nearest training codes tell their class."""
    found = {}
    for name, number in _LABELED.items():
        nearest = KNeighborsClassifier(_NEIGHBORS)
        nearest.fit(codes["train"][:number], train.labels[:number])
        found[name] = 100.0 * float(nearest.score(codes["test"], test.labels))
    return found
