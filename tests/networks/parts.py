"""Layers in NumPy, networks of drawn parameters, and a convolution that takes notes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import (
    Backbone,
    ConvUnit,
    FaceEmbedding,
    ImprovedResidualUnit,
    Stage,
)

MODES = [pytest.param(True, id="graph"), pytest.param(False, id="tree")]
# A map with odd sides, all kinds of layers but pooling.
SMALL = (
    (7, 5, 1),
    (
        Stage(3, unit=functools.partial(ConvUnit, activation="relu"), pool=None),
        Stage(4, unit=ImprovedResidualUnit, stride=2, pool=None),
    ),
    2,
    FaceEmbedding,
)
TANH = functools.partial(
    sx.layers.DecoupledConv,
    magnitude=sx.operators.Tanh(),
    angular=sx.operators.Cosine(),
    radius="learned",
)


class Spy:
    """A constructor of convolutions that notes what it and they are called with."""

    def __init__(self):
        self.made: list[tuple[tuple, dict]] = []
        self.maps: list[tuple[int, ...]] = []

    def __call__(self, *args, **kwargs):
        self.made.append((args, kwargs))
        maps = self.maps

        class Conv(nnx.Conv):
            def __call__(self, inputs, out_sharding=None):
                outputs = super().__call__(inputs, out_sharding)
                maps.append(outputs.shape[-3:-1])
                return outputs

        return Conv(*args, **kwargs)


def make(design, seed=1, **options) -> tuple[Backbone, Any]:
    """A network of made parameters, which costs no compilation, and these in NumPy.

    Nothing is hidden by a zero or a one; kernels are of both signs.
    """
    network = nnx.eval_shape(lambda: Backbone(*design, rngs=nnx.Rngs(0), **options))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if leaf.ndim == 0:  # hyperparameters of operators; how many keys were drawn
            return jnp.ones((), leaf.dtype)
        values = rng.uniform(0.5, 1.5, leaf.shape) - (leaf.ndim == 4)
        return jnp.asarray(values, leaf.dtype)

    nnx.update(network, jax.tree.map(draw, nnx.state(network)))
    values = nnx.state(network, (nnx.Param, nnx.BatchStat))
    return network, jax.tree.map(np.asarray, nnx.to_pure_dict(values))


def draw_images(n=6, shape=(7, 5, 1)):
    return np.random.default_rng(0).normal(size=(n, *shape))


@nnx.jit
def call(network, images):
    """Compiled, since operation by operation takes ten times as long."""
    return network(images)


@nnx.jit
def call_in_both_modes(network, images):
    return network(images, use_running_average=True), network(images)


def convolve(x, kernel, stride):
    """Padded cross-correlation; ``[n, h, w, in]``, ``[k, k, in, out]``."""
    side = kernel.shape[0]
    around = (side // 2, side // 2)
    padded = np.pad(x, ((0, 0), around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)


def pool(x):
    """Largest of each 2 x 2 block; an odd last row or column is a block of its own."""
    n, height, width, channels = x.shape
    out = np.empty((n, -(-height // 2), -(-width // 2), channels))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            block = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[:, i, j] = block.max((1, 2))
    return out


def normalized(x, norm, train, epsilon=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes) if train else norm["mean"]
    variance = x.var(axes) if train else norm["var"]
    return (x - mean) / np.sqrt(variance + epsilon) * norm["scale"] + norm["bias"]


def conv_unit(x, unit, stride, train, activation: str | None = "prelu"):
    """A convolution with the bias, normalization and activation that it has."""
    x = convolve(x, unit["conv"]["kernel"], stride) + unit["conv"].get("bias", 0.0)
    if "norm" in unit:
        x = normalized(x, unit["norm"], train)
    if activation is None:
        return x
    slope = unit["activation"]["slope"] if activation == "prelu" else 0.0
    return np.where(x > 0, x, slope * x)
