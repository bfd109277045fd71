"""Episodes of few-shot learning: a small support of some classes, and queries."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count
from sphax.data._batches import Classes, as_classes


class Episode(NamedTuple):
    """One episode, of N classes; made by :class:`Episodes`.

    Within the episode, class n has the label n: labels of the support and of the
    queries are the first index of their arrays.

    Attributes:
        labels: Label of each class in the whole set, in random order, ``[N]``.
        support: Numbers of the support's rows, ``[N, K]``.
        queries: Numbers of the queries' rows, ``[N, Q]``; in no row of the support.

    Example:
        >>> sx.data.Episode._fields
        ('labels', 'support', 'queries')
    """

    labels: np.ndarray
    support: np.ndarray
    queries: np.ndarray


class Episodes:
    """An endless sequence of episodes; made by :func:`episodes`.

    An episode is a pure function of the seed and of its number: a training resumes
    where it stopped, and processes of one program draw different ones by different
    numbers.

    Attributes:
        classes: Number of classes from which episodes are drawn.
        skipped_classes: Number of classes that have too few rows.

    Example:
        >>> found = sx.data.episodes(np.arange(12) // 4, classes=2, shots=1, queries=3)
        >>> [episode.queries.shape for episode in itertools.islice(found, 2)]
        [(2, 3), (2, 3)]
        >>> found
        Episodes(2 of 3 classes; 1 of support and 3 queries each)
    """

    def __init__(
        self,
        found: Classes,
        *,
        ways: int,
        shots: int,
        queries: int,
        seed: int,
        skipped_classes: int,
    ):
        self._found, self._seed = found, seed
        self._ways, self._shots, self._queries = ways, shots, queries
        self.classes = len(found.labels)
        self.skipped_classes = skipped_classes

    def episode(self, number: int) -> Episode:
        """An episode.

        Args:
            number: Which one, from 0.
        """
        check_count("number", number, 0)
        keys = np.random.SeedSequence(self._seed, spawn_key=(number,))
        rng, found = np.random.default_rng(keys), self._found
        chosen = rng.choice(self.classes, self._ways, replace=False)
        size = self._shots + self._queries
        places = np.stack(
            [rng.choice(found.counts[c], size, replace=False) for c in chosen]
        )
        rows = found.rows[found.first[chosen][:, None] + places]
        return Episode(found.labels[chosen], *np.split(rows, [self._shots], axis=1))

    def __iter__(self) -> Iterator[Episode]:
        return map(self.episode, itertools.count())

    def __repr__(self) -> str:
        return (
            f"Episodes({self._ways} of {self.classes} classes; {self._shots} of support"
            f" and {self._queries} queries each)"
        )


def episodes(
    labels: ArrayLike,
    *,
    classes: int = 5,
    shots: int = 1,
    queries: int = 15,
    seed: int = 0,
) -> Episodes:
    """Episodes of N classes, with K examples of each and Q queries (N-way K-shot).

    Classes of an episode are drawn uniformly without replacement, and so are the K + Q
    rows of each class. Episodes are independent of each other. The classes on which a
    network is tested should be in no episode of its training: give the labels of one
    part of the classes.

    Host code in NumPy, for concrete labels, not under ``jit``.

    Args:
        labels: Class of each row, any integers, ``[n]``.
        classes: N, number of classes of an episode ("ways").
        shots: K, rows of support of each class.
        queries: Q, rows of queries of each class. Classes with fewer than K + Q rows
            are skipped.
        seed: Of all draws, a non-negative integer.

    Returns:
        :class:`Episodes`; ``episode(number)`` gives one, and an iteration all, without
        end.

    Raises:
        TypeError: If labels are not integer.
        ValueError: If labels are not ``[n]`` or empty, a number is out of range, or
            there are fewer than N classes that are not skipped.

    Example:
        >>> labels = np.array([7, 7, 7, 8, 8, 8, 9, 9, 9])
        >>> found = sx.data.episodes(labels, classes=2, shots=1, queries=2)
        >>> episode = found.episode(0)
        >>> print(episode.labels, labels[episode.support].T)
        [9 8] [[9 8]]
        >>> print(labels[episode.queries])
        [[9 9]
         [8 8]]

    References:
        Vinyals et al., `Matching Networks for One Shot Learning
        <https://arxiv.org/abs/1606.04080>`_, NeurIPS 2016.
    """
    check_count("classes", classes)
    check_count("shots", shots)
    check_count("queries", queries)
    check_count("seed", seed, 0)
    everything = as_classes(labels)
    found = everything.keep(everything.counts >= shots + queries)
    number = len(found.labels)
    if number < classes:
        raise ValueError(
            f"classes must be at most {number}, the number of classes in labels with"
            f" shots + queries = {shots + queries} rows or more, got {classes}."
        )
    return Episodes(
        found,
        ways=classes,
        shots=shots,
        queries=queries,
        seed=seed,
        skipped_classes=len(everything.labels) - number,
    )
