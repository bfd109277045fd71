"""Trains classifiers and compares the features of their classes.

The dissertation says of its Figure 2.5 that "we normalize the learned features and then
calculate the cosine distance between these features". Here the entry of two classes is
the mean cosine over all pairs of test images, one of each class; on the diagonal, over
the pairs of different images of the class. Prototypes play no part.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

import sphax as sx
from experiments.common import classifier, images, networks
from experiments.common.margins import MARGINS
from experiments.common.runs import Run, Work, pack
from experiments.confusion.config import Config


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method.

    Returns:
        For each seed ``error``, wrong predictions of test images in percent, and what
        :func:`summary` says of their cosines.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
    """
    config: Config = runs[0].config
    data = images.load(config.dataset, config.data_dir)
    setting, fitted = classifier.fit(
        # Without its name, so that methods with one kind of margin share the step.
        dataclasses.replace(config, methods=("softmax",)),
        networks.design(config.network, data.shape),
        MARGINS[config.methods[0]],
        data,
        [run.seed for run in runs],
        work,
    )
    labels, measured = data.test.labels, []
    for found in fitted:
        outputs = classifier.outputs(setting, found.state, data, data.test.images)
        cosines = class_cosines(outputs.embeddings, labels, data.classes)
        error = float(100.0 * np.mean(outputs.predictions != labels))
        measured.append({"error": error, **summary(cosines)})
    return measured


def class_cosines(
    embeddings: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Mean cosine over the pairs of different embeddings of two classes.

    Args:
        embeddings: ``[n, features]``.
        labels: ``[n]``; each class must occur at least twice.
        classes: Their number.

    Returns:
        ``[classes, classes]`` in float64, symmetric.
    """
    units = np.asarray(sx.sphere.normalize(embeddings), np.float64)
    members = np.eye(classes)[labels]
    number, sums = members.sum(0), members.T @ units
    pairs = np.outer(number, number) - np.diag(number)
    # The mean over pairs is the product of sums, less each image's with itself.
    with_itself = np.diag(members.T @ np.sum(units * units, axis=1))
    return (sums @ sums.T - with_itself) / pairs


def summary(cosines: np.ndarray) -> dict[str, Any]:
    """The matrix in numbers.

    Returns:
        ``within``: mean of the diagonal. ``between``: mean of the rest. ``closest``:
        the largest of the rest, and ``closest_classes``, whose it is. ``cosines``: the
        matrix, for the figure.
    """
    is_between = ~np.eye(len(cosines), dtype=bool)
    others = np.where(is_between, cosines, -np.inf)
    pair = np.unravel_index(np.argmax(others), others.shape)
    return {
        "within": float(np.mean(np.diag(cosines))),
        "between": float(np.mean(cosines[is_between])),
        "closest": float(others[pair]),
        "closest_classes": [int(index) for index in pair],
        "cosines": pack(cosines, np.float16),
    }
