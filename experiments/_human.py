"""What people saw in the test images of CIFAR-10: the counts of CIFAR-10H."""

import pathlib

import numpy as np

from experiments import _data

# In CIFAR-10H the most frequent answer is the label of 99 % of the images; were the
# rows in another order, of 10 %.
_AGREEMENT = 0.9


def counts(
    path: pathlib.Path, data_dir: pathlib.Path | None, labels: np.ndarray
) -> np.ndarray:
    """Answers to each image, in the order in which :func:`_data.load` has the images.

    CIFAR-10H counts in the order of the original test batch. In a set that TensorFlow
    Datasets has prepared from the original files, the ids count in that order.

    Args:
        path: ``[n, classes]``, saved by NumPy.
        data_dir: Folder of the prepared sets.
        labels: Of the test images, ``[n]``.

    Returns:
        ``[n, classes]``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the counts are not of these images, or in another order.
    """
    try:
        original = np.load(path)
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
    ids = _data.image_ids("cifar10", data_dir)
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
