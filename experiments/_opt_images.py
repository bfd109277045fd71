"""Images as a problem: a perceptron, and a convolutional network."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import sphax as sx
from experiments import _data
from experiments._opt_problems import Examples, Problem, classification
from experiments._pixels import prepare

_HE_INIT = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Perceptron(nnx.Module):
    """Dense layers, each followed by a rectifier."""

    def __init__(self, in_features: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        sizes = zip((in_features, *widths), widths, strict=False)
        self.features = widths[-1]
        self.layers = nnx.List(
            nnx.Linear(*size, kernel_init=_HE_INIT, rngs=rngs) for size in sizes
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images ``[n, height, width, channels]`` to ``[n, features]``."""
        x = images.reshape(len(images), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return x


class Classifier(nnx.Module):
    """A network, and the layer that makes logits of its features."""

    def __init__(self, network: Any, classes: int, *, rngs: nnx.Rngs):
        self.network = network
        self.classifier = nnx.Linear(network.features, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images ``[n, height, width, channels]`` to ``[n, classes]``."""
        return self.classifier(self.network(images))


def perceptron(data: _data.ImageSet, width: int) -> Problem:
    """Two hidden layers."""

    def network(seed: int) -> Classifier:
        rngs = nnx.Rngs(seed)
        hidden = Perceptron(math.prod(data.shape), (width, width), rngs=rngs)
        return Classifier(hidden, data.classes, rngs=rngs)

    return _classification("MLP", network, data)


def convolutional(data: _data.ImageSet, filters: int) -> Problem:
    """CNN-6; or for images too small for it, two stages of one convolution each."""

    def network(seed: int) -> Classifier:
        rngs = nnx.Rngs(seed)
        hidden = sx.networks.Backbone(*_design(data.shape, filters), rngs=rngs)
        return Classifier(hidden, data.classes, rngs=rngs)

    return _classification("CNN", network, data)


def _design(shape: tuple[int, int, int], filters: int) -> sx.networks.Design:
    if shape[0] < 16:
        stages = sx.networks.Stage(filters), sx.networks.Stage(2 * filters)
    else:
        stages = (sx.networks.Stage(filters, 2),) * 3
    # The embedding stands for the last convolution, whose window is all of the map.
    return sx.networks.Design(shape, stages, filters)


def _classification(
    title: str, network: Callable[[int], nnx.Module], data: _data.ImageSet
) -> Problem:
    train, test = Examples(*data.train), Examples(*data.test)
    centred = partial(prepare, mean=jnp.asarray(data.mean))
    return classification(title, network, centred, train, test)
