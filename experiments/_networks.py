"""Networks by the names of the command line, for images of any shape."""

import dataclasses
from typing import Literal

import sphax as sx

NetworkName = Literal[
    "small",
    "mnist",
    "cifar10",
    "cifar100",
    "vgg9",
    "resnet20",
    "resnet32",
    "resnet18",
    "sphereresnet32",
    "dcnet_resnet32",
    "dcnet_resnet18",
    "sphereface20",
    "sphereface64",
    "iresnet50",
    "iresnet100",
]
Design = sx.networks.Design


def design(
    name: NetworkName,
    shape: tuple[int, int, int],
    width: float,
    *,
    in_plane: bool = False,
) -> Design:
    """The network of a name for images of a shape, with a share of its filters.

    Args:
        name: "small", for a CPU; a column of ``sx.networks.TABLE_2_1``, or a row of
            ``sx.networks.BACKBONES``.
        shape: ``(height, width, channels)`` of an image.
        width: Share of the published filters, and of a size of the embedding that the
            network names.
        in_plane: Whether the embedding has two features, to look at.
    """
    if name == "small":
        found = _small(shape)
    elif name in sx.networks.BACKBONES:
        found = sx.networks.BACKBONES[name]
    else:
        is_drawn = in_plane and name == "mnist"
        found = sx.networks.TABLE_2_1["mnist_2d" if is_drawn else name]
    narrow = _narrowed(found._replace(input_shape=shape), width)
    return narrow._replace(features=2) if in_plane else narrow


def _small(shape: tuple[int, int, int]) -> Design:
    stage = sx.networks.Stage
    if shape[0] < 16:
        return Design(shape, (stage(16, 2), stage(32, 2)), 64)
    first = stage(16, stride=2, pool=None)
    return Design(shape, (first, stage(32), stage(64)), 64)


def _narrowed(found: Design, width: float) -> Design:
    def share(number: int) -> int:
        return max(1, round(width * number))

    stages: tuple = tuple(
        dataclasses.replace(stage, features=share(stage.features))
        for stage in found.stages
    )
    features = None if found.features is None else share(found.features)
    return found._replace(stages=stages, features=features)
