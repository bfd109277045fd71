"""Trains an autoencoder, from where it was killed."""

import pathlib
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import _batches, _checkpoints, _data, _progress
from experiments._autoencoder import Autoencoder


class Recipe(NamedTuple):
    """All that the steps depend on, beside images and seed.

    Attributes:
        channels: After each convolution of the encoder, the last being the code.
        steps: Number of steps.
        batch: Images in a step.
        learning_rate: Of Adam at the start; it falls to zero along a cosine.
    """

    channels: tuple[int, ...]
    steps: int
    batch: int = 64
    learning_rate: float = 3e-3

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into updates."""
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.adam(rate)


def pixels(images: np.ndarray | jax.Array) -> jax.Array:
    """Raw images with intensities in [0, 1]."""
    return jnp.asarray(images, jnp.float32) / 255.0


def fit(
    recipe: Recipe,
    data: _data.ImageSet,
    seed: int,
    folder: pathlib.Path,
    every: int,
    report: _progress.Report,
) -> Autoencoder:
    """Trains one autoencoder, on inner products.

    Args:
        recipe: Of the training.
        data: Images.
        seed: Of weights and batches.
        folder: Of the checkpoints.
        every: Steps between two of them.
        report: Told the number of steps done and the loss, now and then.

    Raises:
        FloatingPointError: If the loss is not a number.
        ValueError: If there are fewer images than in a batch, or they do not fit the
            convolutions.
    """
    number = len(data.train.images)
    _batches.check_size(recipe.batch, number)
    model = Autoencoder(data.shape, recipe.channels, rngs=nnx.Rngs(seed))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    first = params, recipe.optimizer.init(params)
    begun, state = _checkpoints.restore(folder, first) or (0, first)
    report(begun, {})
    for start in range(begun, recipe.steps, every):
        end, losses = min(start + every, recipe.steps), []
        for count in range(start, end):
            # From seed and step alone, so that a run goes on as it would have.
            rng = np.random.default_rng((seed, count))
            rows = rng.choice(number, recipe.batch, replace=False)
            images = data.train.images[rows]
            state, loss = _step(graph, recipe, state, rest, images)
            losses.append(loss)
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(
                f"seed {seed}: the loss is {losses[-1]} in step {end - 1}. Lower"
                " --learning-rate."
            )
        report(end - start, {"loss": np.array(losses)})
        _checkpoints.save(folder, end, state)
    return nnx.merge(graph, state[0], rest)


@partial(jax.jit, static_argnums=(0, 1))
def _step(graph, recipe, state, rest, images):
    params, optimizer = state
    images = pixels(images)

    def loss(params):
        decoded = nnx.merge(graph, params, rest)(images)
        return jnp.mean((decoded - images) ** 2)

    value, gradients = jax.value_and_grad(loss)(params)
    updates, optimizer = recipe.optimizer.update(gradients, optimizer)
    return (optax.apply_updates(params, updates), optimizer), value
