"""Published networks, each a design: the operator is not part of it."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from flax import nnx

from sphax.networks._backbone import Design, Stage
from sphax.networks._embeddings import (
    ConvEmbedding,
    FaceEmbedding,
    LinearEmbedding,
    MeanEmbedding,
)
from sphax.networks._layers import CAFFE_INIT
from sphax.networks._units import (
    ConvUnit,
    ImprovedResidualUnit,
    ResidualUnit,
    SphereFaceUnit,
)

_WIDE = partial(ConvUnit, kernel_size=5)
_RECTIFIED = partial(ConvUnit, activation="relu")

# Liu et al., Large-Margin Softmax Loss, ICML 2016, Table 1. The first stage of the last
# four is Conv0.x, which is not pooled; nor is the Conv4.x of the last. The table gives
# no size for the faces of LFW: 112 x 96 is SphereFace's.
TABLE_2_1: Mapping[str, Design] = MappingProxyType(
    {
        "mnist_2d": Design(
            (28, 28, 1),
            tuple(Stage(width, 2, unit=_WIDE) for width in (32, 64, 128)),
            features=2,
        ),
        "mnist": Design(
            (28, 28, 1),
            (Stage(64, pool=None), Stage(64, 3), Stage(64, 3), Stage(64, 3)),
            features=256,
        ),
        "cifar10": Design(
            (32, 32, 3),
            (Stage(64, pool=None), Stage(64, 4), Stage(96, 4), Stage(128, 4)),
            features=256,
        ),
        "cifar100": Design(
            (32, 32, 3),
            (Stage(96, pool=None), Stage(96, 4), Stage(192, 4), Stage(384, 4)),
            features=512,
        ),
        "lfw": Design(
            (112, 96, 3),
            (
                Stage(64, stride=2, pool=None),
                Stage(64, 4),
                Stage(256, 4),
                Stage(256, 4),
                Stage(256, 4, pool=None),
            ),
            features=512,
        ),
    }
)


def _resnet(
    widths: Sequence[int],
    repeats: int,
    side: int,
    stem: Stage | None = None,
    **options: str,
) -> Design:
    """A ResNet whose first stage keeps the map of its stem, and each other halves it.

    With three widths and a ``repeats`` of n, of He et al., Sec. 4.2: 6 n + 2 layers.
    """
    unit = partial(ResidualUnit, **options)
    stages = (
        Stage(width, repeats, unit=unit, stride=2 if i else 1, pool=None)
        for i, width in enumerate(widths)
    )
    stem = stem or Stage(widths[0], unit=_RECTIFIED, pool=None)
    return Design((side, side, 3), (stem, *stages), embedding=MeanEmbedding)


def _dcnet_resnet18() -> Design:
    """``dcnet_imagenet/DCNet_modified_ResNet.py`` of DCNet's code, for 224 x 224.

    Between two stages of residual units stands one plain layer that halves the map, so
    that every shortcut is the identity; nothing follows the sum.
    """
    plain = partial(ConvUnit, kernel_init=nnx.initializers.glorot_uniform())
    small = nnx.initializers.normal(0.01)
    unit = partial(ResidualUnit, activation="prelu", rectify=False, kernel_init=small)
    first = Stage(128, unit=partial(plain, kernel_size=7), stride=2, pool=3)
    stages = [first, Stage(128, 1, unit=unit, pool=None)]
    for features, repeats in ((256, 2), (512, 3), (1024, 1)):
        stages += [
            Stage(features, unit=plain, stride=2, pool=None),
            Stage(features, repeats, unit=unit, pool=None),
        ]
    return Design((224, 224, 3), tuple(stages), embedding=MeanEmbedding)


def _sphereface(*repeats: int) -> Design:
    """SphereFace, Table 2; the details that it omits follow ``make_spherenet.py``."""
    plain = partial(ConvUnit, use_norm=False, use_bias=True, kernel_init=CAFFE_INIT)
    stages = []
    for features, n in zip((64, 128, 256, 512), repeats, strict=True):
        stages += [
            Stage(features, unit=plain, stride=2, pool=None),
            Stage(features, n, unit=SphereFaceUnit, pool=None),
        ]
    return Design((112, 96, 3), tuple(stages), 512, LinearEmbedding)


def _iresnet(*repeats: int) -> Design:
    """ArcFace's residual network, as insightface's ``arcface_torch`` has it."""
    stem = partial(ConvUnit, kernel_init=nnx.initializers.normal(0.1))
    stages = [Stage(64, unit=stem, pool=None)]
    for features, n in zip((64, 128, 256, 512), repeats, strict=True):
        unit = ImprovedResidualUnit
        stages.append(Stage(features, n, unit=unit, stride=2, pool=None))
    return Design((112, 112, 3), tuple(stages), 512, FaceEmbedding)


BACKBONES: Mapping[str, Design] = MappingProxyType(
    {
        # SphereNet's code, final version: the last convolution is by the operator too,
        # with neither normalization nor activation.
        "vgg9": Design(
            (32, 32, 3),
            tuple(Stage(width, 3, unit=_RECTIFIED) for width in (128, 192, 256)),
            256,
            ConvEmbedding,
        ),
        "resnet20": _resnet((16, 32, 64), 3, 32, shortcut="padding"),
        "resnet32": _resnet((16, 32, 64), 5, 32, shortcut="padding"),
        # With projections, as its reimplementations; Table 2 of He et al. pads.
        "resnet18": _resnet(
            (64, 128, 256, 512),
            2,
            224,
            Stage(64, unit=partial(_RECTIFIED, kernel_size=7), stride=2, pool=3),
        ),
        "sphereresnet32": _resnet((96, 192, 384), 5, 32),
        # As DCNet's code has it: the first layer is not rectified.
        "dcnet_resnet32": _resnet(
            (96, 192, 384),
            5,
            32,
            Stage(96, unit=partial(ConvUnit, activation=None), pool=None),
        ),
        "dcnet_resnet18": _dcnet_resnet18(),
        "sphereface20": _sphereface(1, 2, 4, 1),
        "sphereface64": _sphereface(3, 8, 16, 3),
        "iresnet18": _iresnet(2, 2, 2, 2),
        "iresnet34": _iresnet(3, 4, 6, 3),
        "iresnet50": _iresnet(3, 4, 14, 3),
        "iresnet100": _iresnet(3, 13, 30, 3),
        "iresnet200": _iresnet(6, 26, 60, 6),
    }
)
