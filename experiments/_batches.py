"""Which images a step takes: they follow from the seed and the number of the step."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from experiments._settings import Recipe


class Budget(Protocol):
    """How much a run may see."""

    @property
    def batch(self) -> int:
        """Examples in a step."""
        ...

    @property
    def steps(self) -> int:
        """Steps of a run."""
        ...


def indices(
    config: Recipe, labels: np.ndarray, seed: int, start: int
) -> Iterator[np.ndarray]:
    """Indices of the batches of a run from step ``start`` on.

    Raises:
        ValueError: At once, if there are too few images for a batch.
    """
    if config.per_class is None:
        return by_epoch(config, len(labels), seed, start)
    return by_class(config, labels, seed, start)


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


def by_epoch(
    budget: Budget, number: int, seed: int, start: int
) -> Iterator[np.ndarray]:
    """Every epoch takes every image once, but for a rest, in its own order."""
    check_size(budget.batch, number)
    return _by_epoch(budget, number, seed, start)


def _by_epoch(
    budget: Budget, number: int, seed: int, start: int
) -> Iterator[np.ndarray]:
    per_epoch = number // budget.batch
    order, current = np.arange(number), -1
    for count in range(start, budget.steps):
        epoch, place = divmod(count, per_epoch)
        if epoch != current:
            order = np.random.default_rng((seed, epoch)).permutation(number)
            current = epoch
        yield order[place * budget.batch : (place + 1) * budget.batch]


def by_class(
    config: Recipe, labels: np.ndarray, seed: int, start: int
) -> Iterator[np.ndarray]:
    """Every step takes ``per_class`` images of each of ``batch / per_class`` classes.

    Classes are drawn without repetition, and so are the images of one, if it has as
    many.
    """
    each = config.per_class or 1
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    number, rest = divmod(config.batch, each)
    if rest or number > len(members):
        raise ValueError(
            f"--batch must be --per-class = {each} times a number of classes, at most"
            f" {len(members)} of them, got {config.batch}."
        )
    return _by_class(config, members, number, seed, start)


def _by_class(
    config: Recipe, members: list[np.ndarray], number: int, seed: int, start: int
) -> Iterator[np.ndarray]:
    each = config.per_class or 1
    for count in range(start, config.steps):
        rng = np.random.default_rng((seed, count))
        drawn = rng.choice(len(members), number, replace=False)
        yield np.concatenate([_some(members[i], each, rng) for i in drawn])


def _some(members: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(members, number, replace=len(members) < number)
