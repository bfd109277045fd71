"""Indices of the images in each step, as functions of seed and step alone."""

from collections.abc import Iterator

import numpy as np


def check_size(batch: int, number: int) -> None:
    """Raises an error if a batch has more images than the training set.

    Raises:
        ValueError: If so; names the flag.
    """
    if batch > number:
        raise ValueError(
            f"--batch must be at most {number}, the number of training images, got"
            f" {batch}."
        )


def by_epoch(batch: int, number: int, seed: int, start: int) -> Iterator[np.ndarray]:
    """Yields the indices of each step from ``start`` on; an epoch has each image once.

    Images that do not fill a batch are left out of their epoch; each epoch has another
    order. Call :func:`check_size` first: an iterator raises only when it is used.
    """
    per_epoch, current = number // batch, -1
    order, count = np.arange(number), start
    while True:
        epoch, place = divmod(count, per_epoch)
        if epoch != current:
            order = np.random.default_rng((seed, epoch)).permutation(number)
            current = epoch
        yield order[place * batch : (place + 1) * batch]
        count += 1


def check_classes(batch: int, per_class: int, labels: np.ndarray) -> None:
    """Raises an error if a batch cannot have ``per_class`` images of its classes.

    Raises:
        ValueError: If so; names the flag.
    """
    classes = len(np.unique(labels))
    if batch % per_class or batch // per_class > classes:
        raise ValueError(
            f"--batch must be --per-class = {per_class} times a number of classes, at"
            f" most {classes} of them, got {batch}."
        )


def by_class(
    batch: int, per_class: int, labels: np.ndarray, seed: int, start: int
) -> Iterator[np.ndarray]:
    """Yields ``per_class`` images of each of ``batch / per_class`` classes.

    Classes are drawn without replacement, and so are the images of a class that has at
    least ``per_class``.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    count = start
    while True:
        rng = np.random.default_rng((seed, count))
        drawn = rng.choice(len(members), batch // per_class, replace=False)
        chosen = [members[index] for index in drawn]
        yield np.concatenate(
            [rng.choice(x, per_class, replace=len(x) < per_class) for x in chosen]
        )
        count += 1
