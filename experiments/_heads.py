"""What stands on the network while it trains, beside ``sx.layers.MarginHead``.

Each has its own parameters and state, and ``loss(embeddings, labels, key=key)``.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

import sphax as sx


class Pairs(nnx.Module):
    """A loss among the embeddings of the batch."""

    def __init__(self, function: Callable[..., jax.Array]):
        self.function = function

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch."""
        return self.function(embeddings, labels)


class Prototypes(nnx.Module):
    """A loss between embeddings and one learned vector for each class."""

    def __init__(
        self,
        function: Callable[..., jax.Array],
        features: int,
        classes: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.function = function
        init = nnx.initializers.normal(features**-0.5)
        self.prototypes = nnx.Param(init(rngs.params(), (classes, features)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch."""
        return self.function(embeddings, self.prototypes[...], labels)


class SphereFace2(Prototypes):
    """A binary problem for each class, with one learned bias."""

    def __init__(
        self,
        variant: Literal["A", "C", "M"],
        features: int,
        classes: int,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(sx.losses.sphereface2, features, classes, rngs=rngs)
        self.variant = variant
        bias = sx.losses.sphereface2_bias(classes, variant=variant)
        self.bias = nnx.Param(jnp.asarray(bias))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch."""
        weights = self.prototypes[...], labels, self.bias[...]
        return self.function(embeddings, *weights, variant=self.variant)


class AdaCos(Prototypes):
    """Softmax of the cosines, under a scale that follows the angles."""

    def __init__(self, features: int, classes: int, *, rngs: nnx.Rngs):
        super().__init__(sx.losses.margin_softmax, features, classes, rngs=rngs)
        self.scale = nnx.Variable(jnp.asarray(sx.losses.adacos_fixed_scale(classes)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch, under the scale that it calls for."""
        batch = embeddings, self.prototypes[...], labels
        self.scale[...] = sx.losses.adacos_dynamic_scale(*batch, self.scale[...])
        return self.function(*batch, sx.margins.NoMargin(), scale=self.scale[...])


class Centers(nnx.Module):
    """Distance from centres that follow their classes (center loss)."""

    def __init__(self, features: int, classes: int):
        self.centers = nnx.Variable(jnp.zeros((classes, features)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """From the centres before this batch, which then move."""
        centers = self.centers[...]
        self.centers[...] = sx.losses.update_centers(centers, embeddings, labels)
        return sx.losses.center(embeddings, centers, labels)


class UniformFace(Centers):
    """Repulsion of the centres of all classes."""

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the centres that this batch has moved, through which it has a gradient."""
        centers = sx.losses.update_centers(self.centers[...], embeddings, labels)
        self.centers[...] = centers
        return sx.losses.uniform_face(centers)


class Ring(nnx.Module):
    """Distance of the norms from a learned one."""

    def __init__(self, features: int):
        # The norm that batch normalisation gives to an embedding at first.
        self.radius = nnx.Param(jnp.asarray(math.sqrt(features)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch."""
        return sx.losses.ring(embeddings, self.radius[...])


class Sum(nnx.Module):
    """Two losses at once, each with its own weight."""

    def __init__(self, first: nnx.Module, second: nnx.Module):
        self.first: Any = first
        self.second: Any = second

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: jax.Array):
        """Of the batch."""
        first = self.first.loss(embeddings, labels, key=key)
        return first + self.second.loss(embeddings, labels, key=key)


def alignment_and_uniformity(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Of a batch in which neighbours of one class are each other's positives."""
    order = jnp.argsort(labels)
    x, y = embeddings[order], labels[order]
    alignment = sx.energy.alignment(x[1:], x[:-1], where=y[1:] == y[:-1])
    return alignment + sx.energy.uniformity(embeddings)
