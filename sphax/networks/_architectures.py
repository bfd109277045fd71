"""What a convolutional network is made of, and the five of the L-Softmax paper."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from sphax.layers._common import check_sizes


@dataclasses.dataclass(frozen=True)
class Stage:
    """Convolutions at one size of the map, and the pooling that ends them.

    Args:
        features: Filters of each convolution.
        convolutions: Number of convolutions.
        kernel_size: Side of their square window, odd; the padding of
            ``kernel_size // 2`` keeps the size of the map.
        stride: Of the first convolution; the others have stride 1.
        pool: Whether 2 x 2 max pooling of stride 2 follows.

    Raises:
        ValueError: If a number is not a positive integer, or ``kernel_size`` is even.

    Example:
        >>> sx.networks.Stage(64, 3)
        Stage(features=64, convolutions=3, kernel_size=3, stride=1, pool=True)
    """

    features: int
    convolutions: int = 1
    kernel_size: int = 3
    stride: int = 1
    pool: bool = True

    def __post_init__(self):
        sizes = dataclasses.asdict(self)
        del sizes["pool"]
        check_sizes("Stage", **sizes)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "Stage: kernel_size must be odd, for a padding of kernel_size // 2 to"
                f" keep the size of the map, got {self.kernel_size}."
            )


class Architecture(NamedTuple):
    """The positional arguments of :class:`ConvNet`: ``ConvNet(*architecture, ...)``.

    Attributes:
        input_shape: ``(height, width, channels)`` of an image.
        stages: Stages, first to last.
        features: Dimension of the embedding.

    Example:
        >>> sx.networks.TABLE_2_1["cifar10"]._replace(features=2).features
        2
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]
    features: int


# Liu et al., Large-Margin Softmax Loss, ICML 2016, Table 1. The first stage of the last
# four is Conv0.x, which is not pooled; nor is the Conv4.x of the last. The table gives
# no size for the faces of LFW: 112 x 96 is SphereFace's.
TABLE_2_1: Mapping[str, Architecture] = MappingProxyType(
    {
        "mnist_2d": Architecture(
            (28, 28, 1),
            (
                Stage(32, 2, kernel_size=5),
                Stage(64, 2, kernel_size=5),
                Stage(128, 2, kernel_size=5),
            ),
            features=2,
        ),
        "mnist": Architecture(
            (28, 28, 1),
            (Stage(64, pool=False), Stage(64, 3), Stage(64, 3), Stage(64, 3)),
            features=256,
        ),
        "cifar10": Architecture(
            (32, 32, 3),
            (Stage(64, pool=False), Stage(64, 4), Stage(96, 4), Stage(128, 4)),
            features=256,
        ),
        "cifar100": Architecture(
            (32, 32, 3),
            (Stage(96, pool=False), Stage(96, 4), Stage(192, 4), Stage(384, 4)),
            features=512,
        ),
        "lfw": Architecture(
            (112, 96, 3),
            (
                Stage(64, stride=2, pool=False),
                Stage(64, 4),
                Stage(256, 4),
                Stage(256, 4),
                Stage(256, 4, pool=False),
            ),
            features=512,
        ),
    }
)
