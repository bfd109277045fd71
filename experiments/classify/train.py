"""Trains and tests the classifiers of the study."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.classify.config import Config
from experiments.common import classifier, images, networks
from experiments.common.margins import MARGINS
from experiments.common.operators import operator
from experiments.common.runs import Run, Work, pack

# Training images that are drawn in the plane.
_DRAWN = 2_000


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method and operator.

    Returns:
        For each seed what :func:`.classifier.evaluate` measures on the test images; in
        the plane ``features`` and ``labels`` of training images, to draw.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
    """
    config: Config = runs[0].config
    method = MARGINS[config.methods[0]]
    method = method._replace(label_smoothing=config.label_smoothing)
    data = images.load(config.dataset, config.data_dir)
    data = dataclasses.replace(data, gray=config.gray)
    design = networks.design(
        config.network, data.shape, config.width, in_plane=config.plane
    )
    setting, fitted = classifier.fit(
        # Without its name, so that methods with one kind of margin share the step.
        dataclasses.replace(config, methods=("softmax",)),
        design,
        method,
        data,
        [run.seed for run in runs],
        work,
        conv=operator(config.operator[0]).conv,
    )
    if not config.plane:
        return [classifier.evaluate(setting, found.state, data) for found in fitted]
    shown = data.train.images[:_DRAWN]
    labels = pack(data.train.labels[:_DRAWN], np.uint8)
    return [
        {
            "features": pack(
                classifier.outputs(setting, found.state, data, shown).embeddings,
                np.float16,
            ),
            "labels": labels,
        }
        for found in fitted
    ]
