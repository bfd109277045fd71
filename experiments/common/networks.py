"""Networks by the names of the command line, for images of any shape."""

import dataclasses
import itertools
import math
from typing import Any

import jax
from flax import nnx

import sphax as sx

NAMES = ("small", "mnist", "cifar10", "cifar100", "cnn-6", *sx.networks.BACKBONES)
# The positional arguments of a `Backbone`.
Design = sx.networks.Design
_HE_INIT = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


def check(name: str) -> None:
    """Raises an error if there is no such network.

    Raises:
        ValueError: If so; names the flag.
    """
    if name not in NAMES:
        raise ValueError(
            f"--network must be one of {', '.join(map(repr, NAMES))}, got {name!r}."
        )


def design(
    name: str,
    shape: tuple[int, int, int],
    width: float = 1.0,
    *,
    in_plane: bool = False,
) -> Design:
    """The named network for images of a shape, with a share of its filters.

    Args:
        name: "small", for a CPU; "cnn-6", OPT's; a column of
            ``sx.networks.TABLE_2_1``, or a row of ``sx.networks.BACKBONES``.
        shape: ``(height, width, channels)`` of an image.
        width: Share of the published filters, and of the published size of the
            embedding if there is one.
        in_plane: Whether the embedding has two features, to be drawn.
    """

    def share(number: int) -> int:
        return max(1, round(width * number))

    if name == "small":
        found = small(shape)
    elif name == "cnn-6":
        found = cnn_6(shape)
    elif name in sx.networks.BACKBONES:
        found = sx.networks.BACKBONES[name]
    else:
        is_drawn = in_plane and name == "mnist"
        found = sx.networks.TABLE_2_1["mnist_2d" if is_drawn else name]
    stages: tuple = tuple(
        dataclasses.replace(stage, features=share(stage.features))
        for stage in found.stages
    )
    features = None if found.features is None else share(found.features)
    found = found._replace(input_shape=shape, stages=stages, features=features)
    return found._replace(features=2) if in_plane else found


def small(shape: tuple[int, int, int]) -> Design:
    """A network of two or three stages, for a CPU."""
    stage = sx.networks.Stage
    if shape[0] < 16:
        return Design(shape, (stage(16, 2), stage(32, 2)), 64)
    first = stage(16, stride=2, pool=None)
    return Design(shape, (first, stage(32), stage(64)), 64)


def cnn_6(shape: tuple[int, int, int]) -> Design:
    """Three stages of two convolutions of 64 filters; for small images, two of one.

    The embedding stands for the published last convolution, whose window is as large as
    its map.

    References:
        Liu et al., `Orthogonal Over-Parameterized Training
        <https://arxiv.org/abs/2004.04690>`_, CVPR 2021.
    """
    stage = sx.networks.Stage
    stages = (stage(64), stage(128)) if shape[0] < 16 else (stage(64, 2),) * 3
    return Design(shape, stages, 64)


FACES = ("iresnet", *sx.networks.BACKBONES, *sx.networks.VISION_TRANSFORMERS)


def for_faces(
    name: str, side: int, width: float, *, dtype: jax.typing.DTypeLike, rngs: nnx.Rngs
) -> Any:
    """A network for square images of three channels.

    Args:
        name: One of ``FACES``; "iresnet" has four units at most, for small images.
        side: Of the images.
        width: Share of the filters, if it is not a vision transformer.
        dtype: Of the products.
        rngs: Key stream.
    """
    shape, options = (side, side, 3), {"dtype": dtype, "rngs": rngs}
    if name in sx.networks.VISION_TRANSFORMERS:
        _, *sizes = sx.networks.VISION_TRANSFORMERS[name]
        return sx.networks.VisionTransformer(shape, *sizes, **options)
    if name != "iresnet":
        return sx.networks.Backbone(*design(name, shape, width), **options)
    found = design("iresnet18", shape, width)
    # Each stage but the first halves the map, to a side of four or three.
    number = 1 + max(1, math.floor(math.log2(side / 3)))
    stages = (dataclasses.replace(stage, repeats=1) for stage in found.stages[:number])
    return sx.networks.Backbone(*found._replace(stages=tuple(stages)), **options)


class Perceptron(nnx.Module):
    """Dense layers, each followed by a rectifier, from images to features.

    Args:
        widths: Of the input, ``height * width * channels``, and of each layer.
        rngs: Key stream; uses ``params``.
    """

    def __init__(self, *widths: int, rngs: nnx.Rngs):
        self.features = widths[-1]
        self.layers = nnx.List(
            nnx.Linear(*pair, kernel_init=_HE_INIT, rngs=rngs)
            for pair in itertools.pairwise(widths)
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images ``[n, height, width, channels]`` to ``[n, features]``."""
        x = images.reshape(len(images), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return x
