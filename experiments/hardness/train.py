"""Trains classifiers and measures how hard each test image is to them.

For a test image with feature ``x`` and class ``y`` these are three quantities of the
classifier: the hardness ``AVH = angle(w_y, x) / sum_i angle(w_i, x)``, the confidence
``softmax(logits)_y`` and the norm ``|x|``. They are compared with how many people see
class ``y`` in the image, the human selection frequency (HSF). CIFAR-10H has counted it
for the test images of CIFAR-10: ``data/cifar10h-counts.npy`` of
https://github.com/jcpeterson/cifar-10h (Peterson et al., ICCV 2019). Without counts the
hardness is compared with the other two.

Hardness and figure are of Chen et al., `Angular Visual Hardness
<https://arxiv.org/abs/1912.02279>`_, ICML 2020.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import special, stats

import sphax as sx
from experiments.common import classifier, images, networks
from experiments.common.margins import MARGINS
from experiments.common.runs import Run, Work, pack
from experiments.hardness.config import Config

# What is correlated and drawn, vertical against horizontal; with counts these too.
_PAIRS = (("avh", "confidence"), ("avh", "norm"))
_HUMAN_PAIRS = (("hsf", "avh"), ("hsf", "confidence"), ("hsf", "norm"))
_BINS = 30
_RESAMPLES = 200
# In CIFAR-10H the most frequent answer is the label of 99 % of the images; with the
# rows in another order, of 10 %.
_AGREEMENT = 0.9


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds of one method.

    Returns:
        For each seed ``error``, wrong predictions of test images in percent, and what
        :func:`summary` says of their hardness.

    Raises:
        DatasetNotFoundError: If the images are not prepared, or the counts not there.
        ValueError: If the human counts are not of these images.
        FloatingPointError: If the loss is not a number.
    """
    config: Config = runs[0].config
    data = images.load(config.dataset, config.data_dir)
    labels, human, pairs = data.test.labels, {}, _PAIRS
    if config.human_counts is not None:
        counts = human_counts(config.human_counts, config.data_dir, labels)
        human, pairs = {"hsf": frequency(counts, labels)}, _PAIRS + _HUMAN_PAIRS
    setting, fitted = classifier.fit(
        # Without its name, so that methods with one kind of margin share the step.
        dataclasses.replace(config, methods=("softmax",), human_counts=None),
        networks.design(config.network, data.shape),
        MARGINS[config.methods[0]],
        data,
        [run.seed for run in runs],
        work,
    )
    measured = []
    for found in fitted:
        outputs = classifier.outputs(setting, found.state, data, data.test.images)
        head = nnx.merge(setting.graph, found.state.params, found.state.rest).head
        quantities = measure(head, outputs.embeddings, labels) | human
        error = float(100.0 * np.mean(outputs.predictions != labels))
        measured.append({"error": error, **summary(quantities, pairs)})
    return measured


def measure(
    head: Any, embeddings: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Hardness, confidence and norm of each image, ``[n]`` each."""
    # In float64, in which confidences near one still differ.
    logits = np.asarray(head(jnp.asarray(embeddings)), np.float64)
    confidence = special.softmax(logits, axis=-1)[np.arange(len(labels)), labels]
    hardness = sx.metrics.angular_visual_hardness(
        embeddings, head.prototypes[...], labels
    )
    return {
        "avh": np.asarray(hardness),
        "confidence": confidence,
        "norm": np.linalg.norm(embeddings, axis=-1),
    }


def summary(
    quantities: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The quantities in numbers, by the names of their pairs, such as ``"avh_norm"``.

    Returns:
        ``avh``: mean hardness. ``rank_correlations``: Spearman's, of each pair.
        ``resampled``: the same if images are drawn with replacement; the draws are the
        same for every method and seed. ``images``: for the figure, how many lie where,
        and the ends of both axes.
    """
    correlations, resampled, drawn = {}, {}, {}
    number, rng = len(quantities["avh"]), np.random.default_rng(0)
    draws = [rng.integers(number, size=number) for _ in range(_RESAMPLES)]
    for y, x in pairs:
        both = quantities[y], quantities[x]
        correlations[f"{y}_{x}"] = rank_correlation(*both)
        samples = [rank_correlation(*(each[draw] for each in both)) for draw in draws]
        resampled[f"{y}_{x}"] = pack(samples, np.float32)
        counts, *edges = np.histogram2d(quantities[x], quantities[y], _BINS)
        drawn[f"{y}_{x}"] = {
            "counts": pack(counts, np.uint16),
            "ends": [[float(edge[0]), float(edge[-1])] for edge in edges],
        }
    return {
        "avh": float(np.mean(quantities["avh"])),
        "rank_correlations": correlations,
        "resampled": resampled,
        "images": drawn,
    }


def rank_correlation(y: np.ndarray, x: np.ndarray) -> float:
    """Spearman's correlation of two quantities of the same images."""
    return float(np.corrcoef(stats.rankdata(y), stats.rankdata(x))[0, 1])


def human_counts(
    path: pathlib.Path, data_dir: pathlib.Path | None, labels: np.ndarray
) -> np.ndarray:
    """People's answers to each image, in the order in which the images are loaded.

    CIFAR-10H counts in the order of the original test batch. In a set that TensorFlow
    Datasets has prepared from the original files, the ids count in that order.

    Args:
        path: ``[n, classes]``, saved by NumPy.
        data_dir: Folder of the prepared sets.
        labels: Of the test images, ``[n]``.

    Returns:
        ``[n, classes]``.

    Raises:
        DatasetNotFoundError: If there is no such file.
        ValueError: If the counts are not of these images, or in another order.
    """
    try:
        original = np.load(path)
    except FileNotFoundError as error:
        raise images.DatasetNotFoundError(
            f"--human-counts must be a file, got {path}: it is"
            " data/cifar10h-counts.npy of https://github.com/jcpeterson/cifar-10h."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"--human-counts must be an array saved by NumPy, got {path}: {error}"
        ) from error
    expected = (len(labels), int(labels.max()) + 1)
    if original.shape != expected:
        raise ValueError(
            f"--human-counts must be of shape {expected}, test images x classes, got"
            f" {original.shape} in {path}."
        )
    ids = images.image_ids("cifar10", data_dir)
    aligned = original[[int(name.removeprefix("test_")) for name in ids]]
    agreement = np.mean(np.argmax(aligned, axis=-1) == labels)
    if agreement < _AGREEMENT:
        raise ValueError(
            f"the people's most frequent answer is the label of {agreement:.0%} of the"
            f" test images only: the rows of {path} are not in the order of the ids in"
            " the prepared set. They are if the counts are CIFAR-10H's, and the set"
            " was prepared by TensorFlow Datasets from the original archive."
        )
    return aligned


def frequency(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Human selection frequency: the share of people who chose the label, ``[n]``."""
    chosen = np.take_along_axis(counts, labels[:, None].astype(np.int64), axis=1)[:, 0]
    return chosen / counts.sum(axis=1)
