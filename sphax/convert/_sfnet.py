"""SFNet of opensphere: its earlier and its later form, without normalization and with.

A stage is a convolution of stride 2 and residual units. In the later form the rectifier
of a unit follows the sum, in the earlier one it precedes it.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from sphax.convert._networks import Arrays, Format, InputShape, image_shape, need
from sphax.networks import (
    Backbone,
    ConvUnit,
    Design,
    LinearEmbedding,
    NormalizedEmbedding,
    ResidualUnit,
    SphereFaceUnit,
    Stage,
)


def _design(is_early: bool, tensors: Arrays, shape: InputShape) -> Design:
    head = "conv" if is_early else "conv1"
    in_features = need(tensors, f"layer1.0.{head}.weight").shape[1]
    options: dict[str, Any] = dict(use_norm=False, use_bias=True)
    embedding: Any = LinearEmbedding
    if "layer1.0.bn1.weight" in tensors:
        options = dict(use_norm=True, use_bias=False)
        embedding = partial(NormalizedEmbedding, use_bias=True)
    plain = partial(ConvUnit, activation="relu", **options)
    unit: Any = partial(ResidualUnit, **options)
    if is_early:
        unit = partial(SphereFaceUnit, activation="relu", use_bias=True)
    stages, channels = [], in_features
    for i in range(1, 5):
        channels = need(tensors, f"layer{i}.0.{head}.weight").shape[0]
        stages.append(Stage(channels, unit=plain, stride=2, pool=None))
        matches = [re.match(rf"layer{i}\.(\d+)\.", name) for name in tensors]
        repeats = max(int(match[1]) for match in matches if match)
        if repeats:
            stages.append(Stage(channels, repeats, unit=unit, pool=None))
    images = image_shape(tensors, "fc", channels, in_features, shape)
    features = need(tensors, "fc.weight").shape[0]
    return Design(images, tuple(stages), features, embedding)


def _layers(is_early: bool, network: Backbone) -> Iterator[tuple[str, Any]]:
    i = 0
    for stage in network.stages:
        for j, unit in enumerate(stage.units):
            if isinstance(unit, ConvUnit):
                i += 1
                convs = {f"layer{i}.0.conv" if is_early else f"layer{i}.0.conv1": unit}
            else:
                at = f"layer{i}.{j + 1}.conv"
                convs = {f"{at}1": unit.first, f"{at}2": unit.second}
            for name, conv in convs.items():
                yield name, conv.conv
                if conv.norm is not None:
                    yield name.replace("conv", "bn"), conv.norm
    yield "fc", network.embedding.linear
    if isinstance(network.embedding, NormalizedEmbedding):
        yield "features", network.embedding.norm


def _size(network: Backbone) -> str:
    units = [unit for stage in network.stages for unit in stage.units]
    convolutions = sum(1 if isinstance(unit, ConvUnit) else 2 for unit in units)
    return f"an SFNet-{convolutions}"


def _format(title: str, unit: type, is_early: bool) -> Format:
    return Format(
        title=title,
        unit=unit,
        embedding=(LinearEmbedding, NormalizedEmbedding),
        design=partial(_design, is_early),
        layers=partial(_layers, is_early),
        size=_size,
    )


EARLY = _format("an early SFNet of opensphere", SphereFaceUnit, True)
SFNET = _format("an SFNet of opensphere", ResidualUnit, False)
