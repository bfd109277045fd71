"""IResNet, under the names of insightface and under those of AdaFace."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from sphax.convert._networks import Arrays, Format, InputShape, image_shape, need
from sphax.networks import (
    BACKBONES,
    Backbone,
    ConvUnit,
    Design,
    FaceEmbedding,
    ImprovedResidualUnit,
    Stage,
)


class _Names(NamedTuple):
    """Layers in the order in which they are applied.

    Attributes:
        stem: Convolution, normalization, PReLU.
        place: A unit, by its stage from 1, its place there, and in the network.
        unit: Normalization, convolution, normalization, PReLU, convolution,
            normalization.
        shortcut: Convolution and normalization.
        last: Normalization, linear layer, normalization.
        pads: Whether a shortcut between equally many channels is every second
            position, not a projection.
        has_affine: Whether the last normalization has scale and bias.
    """

    stem: tuple[str, str, str]
    place: Callable[[int, int, int], str]
    unit: tuple[str, str, str, str, str, str]
    shortcut: tuple[str, str]
    last: tuple[str, str, str]
    pads: bool
    has_affine: bool


_INSIGHTFACE = _Names(
    stem=("conv1", "bn1", "prelu"),
    place=lambda stage, unit, _: f"layer{stage}.{unit}",
    unit=("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"),
    shortcut=("downsample.0", "downsample.1"),
    last=("bn2", "fc", "features"),
    pads=False,
    has_affine=True,
)
_ADAFACE = _Names(
    stem=("input_layer.0", "input_layer.1", "input_layer.2"),
    place=lambda stage, unit, number: f"body.{number}",
    unit=(
        "res_layer.0",
        "res_layer.1",
        "res_layer.2",
        "res_layer.3",
        "res_layer.4",
        "res_layer.5",
    ),
    shortcut=("shortcut_layer.0", "shortcut_layer.1"),
    last=("output_layer.0", "output_layer.3", "output_layer.4"),
    pads=True,
    has_affine=False,
)


def _design(names: _Names, tensors: Arrays, shape: InputShape) -> Design:
    stem = need(tensors, f"{names.stem[0]}.weight")
    channels, in_features = stem.shape[:2]
    stages = [Stage(channels, pool=None)]
    for features, repeats in _stages(names, tensors):
        is_padded = names.pads and features == channels
        kind = "padding" if is_padded else "projection"
        unit = partial(ImprovedResidualUnit, shortcut=kind)
        stages.append(Stage(features, repeats, unit=unit, stride=2, pool=None))
        channels = features
    if len(stages) != 5:
        raise ValueError(
            f"tensors must have four stages of units, got {len(stages) - 1}."
        )
    linear, last = names.last[1:]
    embedding = FaceEmbedding
    if not names.has_affine:
        embedding = partial(FaceEmbedding, use_bias=False)
    elif np.any(need(tensors, f"{last}.weight") != 1.0):
        embedding = partial(FaceEmbedding, use_scale=True)
    images = image_shape(tensors, linear, channels, in_features, shape)
    features = need(tensors, f"{linear}.weight").shape[0]
    return Design(images, tuple(stages), features, embedding)


def _stages(names: _Names, tensors: Arrays) -> list[tuple[int, int]]:
    """Filters and number of units of each stage."""
    parts = "|".join(map(re.escape, (*names.unit, *names.shortcut)))
    found = {
        match[1]
        for name in tensors
        if (match := re.fullmatch(rf"(\w+\.\d+)\.(?:{parts})\.\w+", name))
    }
    ordered = sorted(found, key=lambda unit: [int(n) for n in re.findall(r"\d+", unit)])

    def stage(unit: str) -> tuple[str, int]:
        filters = need(tensors, f"{unit}.{names.unit[1]}.weight").shape[0]
        return unit.partition(".")[0], filters

    return [(key[1], len(list(units))) for key, units in groupby(ordered, stage)]


def _layers(names: _Names, network: Backbone) -> Iterator[tuple[str, Any]]:
    stem = network.stages[0].units[0]
    yield from zip(names.stem, (stem.conv, stem.norm, stem.activation), strict=True)
    number = 0
    for i, stage in enumerate(network.stages[1:], 1):
        for j, unit in enumerate(stage.units):
            at = names.place(i, j, number)
            first, second = unit.first, unit.second
            layers = (unit.norm, first.conv, first.norm, first.activation)
            layers += (second.conv, second.norm)
            for name, layer in zip(names.unit, layers, strict=True):
                yield f"{at}.{name}", layer
            if isinstance(unit.shortcut, ConvUnit):
                yield f"{at}.{names.shortcut[0]}", unit.shortcut.conv
                yield f"{at}.{names.shortcut[1]}", unit.shortcut.norm
            number += 1
    last = network.embedding
    layers = (last.first_norm, last.linear, last.last_norm)
    yield from zip(names.last, layers, strict=True)


def _size(network: Backbone) -> str:
    repeats = [len(stage.units) for stage in network.stages[1:]]
    for name, design in BACKBONES.items():
        is_iresnet = name.startswith("iresnet")
        if is_iresnet and [x.repeats for x in design.stages[1:]] == repeats:
            return f"an IResNet-{name.removeprefix('iresnet')}"
    return f"an IResNet of {', '.join(map(str, repeats))} units"


def _format(title: str, names: _Names) -> Format:
    return Format(
        title=title,
        unit=ImprovedResidualUnit,
        embedding=(FaceEmbedding,),
        design=partial(_design, names),
        layers=partial(_layers, names),
        size=_size,
        plain=None if names.has_affine else names.last[2],
    )


INSIGHTFACE = _format("an IResNet of insightface", _INSIGHTFACE)
ADAFACE = _format("an IR network of AdaFace", _ADAFACE)
