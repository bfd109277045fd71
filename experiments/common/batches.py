"""The indices of the images of each step: they follow from seed and step alone."""

from collections.abc import Iterator

import numpy as np


def check_size(batch: int, number: int) -> None:
    """Refuses a batch of more images than there are.

    Raises:
        ValueError: Names the flag.
    """
    if batch > number:
        raise ValueError(
            f"--batch must be at most {number}, the number of training images, got"
            f" {batch}."
        )


def by_epoch(batch: int, number: int, seed: int, start: int) -> Iterator[np.ndarray]:
    """Indices of every step from ``start`` on; each epoch takes each image once.

    What does not fill a batch is left out of its epoch; epochs differ in their order.
    Check the size first: an iterator raises only when it is used.
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
    """Refuses a batch that is not of enough images of each of its classes.

    Raises:
        ValueError: Names the flag.
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
    """Every step takes ``per_class`` images of each of ``batch / per_class`` classes.

    Classes are drawn without repetition, and so are the images of a class if it has
    that many.
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
