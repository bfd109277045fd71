"""Published backbones, each a row: what its operator is, is not part of it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from flax import nnx

from sphax.networks._designs import CAFFE_INIT, Design, Units

_PLAIN = "conv norm relu"
_RESIDUAL = "conv norm relu conv norm + relu"


def _resnet(
    widths: Sequence[int], repeats: int, stem: Units, side: int, **options
) -> Design:
    """A ResNet whose first stage keeps the map of its stem, and each other halves it.

    With three widths and a ``repeats`` of n, of He et al., Sec. 4.2: 6 n + 2 layers.
    """
    stages = (
        Units(_RESIDUAL, width, repeats, stride=2 if i else 1, **options)
        for i, width in enumerate(widths)
    )
    return Design((side, side, 3), (stem, *stages), "mean")


def _dcnet_resnet18() -> Design:
    """``dcnet_imagenet/DCNet_modified_ResNet.py`` of DCNet's code, for 224 x 224.

    Between two stages of residual units stands one plain layer that halves the map, so
    that every shortcut is the identity; nothing follows the sum.
    """
    glorot, small = nnx.initializers.glorot_uniform(), nnx.initializers.normal(0.01)
    stages = []
    for features, repeats in ((128, 1), (256, 2), (512, 3), (1024, 1)):
        is_first = not stages
        stages += [
            Units(
                "conv norm prelu",
                features,
                kernel_size=7 if is_first else 3,
                stride=2,
                pool=3 if is_first else None,
                kernel_init=glorot,
            ),
            Units("conv norm prelu conv norm +", features, repeats, kernel_init=small),
        ]
    return Design((224, 224, 3), tuple(stages), "mean")


def _sphereface(*repeats: int) -> Design:
    """SphereFace, Table 2, which leaves open what ``make_spherenet.py`` says.

    No batch normalisation: that the residual units start near the identity, with
    weights of 0.01, is what keeps the map from growing with the depth.
    """
    small = nnx.initializers.normal(0.01)
    stages = []
    for features, n in zip((64, 128, 256, 512), repeats, strict=True):
        stages += [
            Units(
                "conv prelu", features, stride=2, use_bias=True, kernel_init=CAFFE_INIT
            ),
            Units("conv prelu conv prelu +", features, n, kernel_init=small),
        ]
    return Design((112, 96, 3), tuple(stages), "linear", 512)


def _iresnet(*repeats: int) -> Design:
    """ArcFace's residual network, as insightface's ``arcface_torch`` has it.

    The second convolution of a unit strides, not the first, and the last normalisation
    has no scale.
    """
    layers, init = "norm conv norm prelu conv norm +", nnx.initializers.normal(0.1)
    stages = [Units("conv norm prelu", 64, kernel_init=init)]
    for features, n in zip((64, 128, 256, 512), repeats, strict=True):
        stages.append(
            Units(layers, features, n, stride=2, stride_at=1, kernel_init=init)
        )
    embedding = "norm dropout linear unscaled_norm"
    return Design((112, 112, 3), tuple(stages), embedding, 512)


BACKBONES: Mapping[str, Design] = MappingProxyType(
    {
        # SphereNet's code, final version: the last convolution is by the operator too,
        # with neither normalisation nor activation.
        "vgg9": Design(
            (32, 32, 3),
            tuple(Units(_PLAIN, width, 3, pool=2) for width in (128, 192, 256)),
            "conv",
            256,
        ),
        "resnet20": _resnet((16, 32, 64), 3, Units(_PLAIN, 16), 32, shortcut="padding"),
        "resnet32": _resnet((16, 32, 64), 5, Units(_PLAIN, 16), 32, shortcut="padding"),
        # With projections, as its reimplementations; Table 2 of He et al. pads.
        "resnet18": _resnet(
            (64, 128, 256, 512),
            2,
            Units(_PLAIN, 64, kernel_size=7, stride=2, pool=3),
            224,
        ),
        "sphereresnet32": _resnet((96, 192, 384), 5, Units(_PLAIN, 96), 32),
        # As DCNet's code has it: the first layer is not rectified.
        "dcnet_resnet32": _resnet((96, 192, 384), 5, Units("conv norm", 96), 32),
        "dcnet_resnet18": _dcnet_resnet18(),
        "sphereface20": _sphereface(1, 2, 4, 1),
        "sphereface64": _sphereface(3, 8, 16, 3),
        "iresnet50": _iresnet(3, 4, 14, 3),
        "iresnet100": _iresnet(3, 13, 30, 3),
    }
)
