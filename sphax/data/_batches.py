"""Batches of some classes with some rows of each: rows of a schedule of classes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_count


class Classes(NamedTuple):
    """Rows sorted by their class, and where each class begins.

    Attributes:
        labels: Label of each class, increasing, ``[classes]``.
        rows: Numbers of the rows, those of a class together, ``[n]``.
        first: Place of the first row of each class in ``rows``, ``[classes]``.
        counts: Number of rows of each class, ``[classes]``.
    """

    labels: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    counts: np.ndarray

    def keep(self, kept: np.ndarray) -> "Classes":
        """The classes of a boolean mask ``[classes]``, with their rows."""
        counts = self.counts[kept]
        rows = self.rows[np.repeat(kept, self.counts)]
        return Classes(self.labels[kept], rows, np.cumsum(counts) - counts, counts)


def as_classes(labels: ArrayLike) -> Classes:
    """The classes of the rows; raises unless labels are integer, ``[n]``, not empty."""
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"labels must be integer, got dtype {array.dtype}; rows with several labels"
            " have no classes to balance."
        )
    if array.ndim != 1 or not len(array):
        raise ValueError(
            "labels must be [n], one class for each row, and not empty, got shape"
            f" {array.shape}."
        )
    rows = np.argsort(array, kind="stable")
    found, first, counts = np.unique(array[rows], return_index=True, return_counts=True)
    return Classes(found, rows, first, counts)


class Schedule(NamedTuple):
    """The classes of each batch of an epoch, by their place in :class:`Classes`.

    Attributes:
        batches: Numbers of the classes of each batch, ``[P]``, or fewer in the last.
        dropped_classes: How many classes are in no batch.
        dropped_rows: How many rows were left out with the last batch.
    """

    batches: list[np.ndarray]
    dropped_classes: int = 0
    dropped_rows: int = 0


class Epoch(Sequence[np.ndarray]):
    """The batches of one epoch: a sequence of index arrays; see :class:`Batches`.

    Entries are computed when they are asked for, and a slice is again an epoch: a
    training that stopped goes on with ``epoch[done:]``, which computes nothing of what
    was done.

    Attributes:
        number: Number of the epoch, from 0.
        dropped_classes: How many classes are in no batch of the whole epoch, besides
            those that are skipped in every epoch.
        dropped_rows: How many rows were left out because too few classes remained for
            the last batch.

    Example:
        >>> labels = [0, 0, 1, 1]
        >>> batches = sx.data.class_balanced_batches(labels, classes=1, examples=2)
        >>> epoch = batches.epoch(0)
        >>> len(epoch), len(epoch[1:]), sorted(np.concatenate(epoch).tolist())
        (2, 1, [0, 1, 2, 3])
    """

    def __init__(self, batches: "Batches", number: int, schedule: Schedule):
        self._batches = batches
        self._schedule = schedule
        self._steps = range(len(schedule.batches))
        self.number = number
        self.dropped_classes = schedule.dropped_classes
        self.dropped_rows = schedule.dropped_rows

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Shuffled rows; which part of its class each entry of the schedule takes."""
        classes = self._batches._found
        rng = self._batches._generator(self.number, 1)
        # Rows stay within their class, whose number is the integer part.
        keys = np.repeat(np.arange(len(classes.counts)), classes.counts)
        rows = classes.rows[np.argsort(keys + rng.random(len(keys)), kind="stable")]
        again = rng.random((len(classes.counts), self._batches.examples))
        flat = np.concatenate(self._schedule.batches)
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], flat[order])
        parts = np.empty(len(flat), np.int64)
        parts[order] = np.arange(len(flat)) - starts
        ends = np.cumsum([len(batch) for batch in self._schedule.batches])
        return rows, np.split(parts, ends[:-1]), again

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Epoch": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Epoch":
        if isinstance(index, slice):
            part = Epoch(self._batches, self.number, self._schedule)
            part._steps = self._steps[index]
            return part
        step = self._steps[index]
        rows, parts, again = self._drawn
        chosen, part = self._schedule.batches[step], parts[step]
        here, count = self._batches.process_index, self._batches.process_count
        # All processes draw alike, and each takes its own classes.
        local = slice(here * len(chosen) // count, (here + 1) * len(chosen) // count)
        chosen, part = chosen[local], part[local]
        classes, examples = self._batches._found, self._batches.examples
        counts = classes.counts[chosen][:, None]
        places = np.arange(examples)[None]
        next_rows = (part[:, None] * examples + places) % counts
        drawn = np.floor(again[chosen] * counts).astype(np.int64)
        repeated = np.where(places < counts, places, drawn)
        places = np.where(counts < examples, repeated, next_rows)
        return rows[classes.first[chosen][:, None] + places].ravel()

    def __repr__(self) -> str:
        return f"Epoch(number={self.number}, batches={len(self)})"


class Batches:
    """Batches of some classes with some rows of each, epoch by epoch.

    Made by :func:`class_balanced_batches` and :func:`hierarchical_batches`. A batch is
    an integer array of row numbers in which the rows of a class are adjacent. An epoch
    is a pure function of the seed and of its number: a training resumes where it
    stopped, and every process of a program on many hosts draws the same::

        for number in range(epochs):
            for indices in batches.epoch(number): ...

        for step, indices in enumerate(batches.from_step(done), done): ...

    The second form never ends: the loop over it counts its steps. Iterating over the
    object itself goes through its first epoch, ``batches.epoch(0)``, each time.

    Attributes:
        classes: Number of classes that take part.
        skipped_classes: Number of classes that do not, having too few rows, or being in
            a group of too few classes.
        skipped_rows: Number of their rows.
        examples: Rows of each class in a batch.
        process_index: Which part of each batch is given.
        process_count: In how many parts batches are split.
        rule: What is drawn, in words, with all these numbers.

    Example:
        >>> labels = np.arange(12) // 4
        >>> batches = sx.data.class_balanced_batches(labels, classes=3, examples=2)
        >>> for step, indices in enumerate(batches.from_step(0)):
        ...     if step == 2:
        ...         break
        ...     print(labels[indices].shape, len(np.unique(indices)))
        (6,) 6
        (6,) 6
    """

    def __init__(
        self,
        found: Classes,
        schedule: Callable[[np.random.Generator, np.random.Generator], Schedule],
        *,
        examples: int,
        seed: int,
        skipped: Classes,
        process_index: int,
        process_count: int,
        rule: str,
    ):
        self._found, self._schedule = found, schedule
        self.classes, self.examples = len(found.labels), examples
        self.skipped_classes = len(skipped.labels)
        self.skipped_rows = len(skipped.rows)
        self.process_index, self.process_count = process_index, process_count
        self._seed = seed
        self.rule = rule
        if self.skipped_classes:
            self.rule += f"; skipped {self.skipped_classes} classes"
            self.rule += f" with {self.skipped_rows} rows"

    def _generator(self, epoch: int, purpose: int) -> np.random.Generator:
        """The generator of an epoch; other purposes draw independently."""
        keys = np.random.SeedSequence(self._seed, spawn_key=(epoch, purpose))
        return np.random.default_rng(keys)

    def epoch(self, number: int) -> Epoch:
        """The batches of an epoch, a sequence of integer arrays.

        Args:
            number: Which epoch, from 0.
        """
        check_count("number", number, 0)
        # The next epoch's classes may complete the last batch.
        generators = self._generator(number, 0), self._generator(number + 1, 0)
        return Epoch(self, number, self._schedule(*generators))

    def from_step(self, step: int) -> Iterator[np.ndarray]:
        """Batches without end, epoch after epoch, from the given step on.

        Args:
            step: How many batches to leave out; their rows are not drawn, but the
                classes of all their epochs are.
        """
        check_count("step", step, 0)
        return self._from_step(step)

    def _from_step(self, step: int) -> Iterator[np.ndarray]:
        for number in itertools.count():
            epoch = self.epoch(number)
            yield from epoch[step:]
            step = max(0, step - len(epoch))

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.epoch(0))

    def __repr__(self) -> str:
        return f"Batches({self.rule})"


def check_options(
    *,
    examples: int,
    seed: int,
    process_index: int,
    process_count: int,
    classes: int,
    name: str,
) -> None:
    """Raises unless the options that all batches share are in range.

    Args:
        examples: Rows of a class.
        seed: Of the draws.
        process_index: Number of this process.
        process_count: Number of processes.
        classes: Classes of a batch.
        name: What their number is called.
    """
    check_count("examples", examples)
    check_count("seed", seed, 0)
    check_count("process_count", process_count)
    check_count("process_index", process_index, 0)
    if process_index >= process_count:
        raise ValueError(
            f"process_index must be below process_count = {process_count}, got"
            f" {process_index}."
        )
    if classes % process_count:
        raise ValueError(
            f"{name} must be a multiple of process_count = {process_count}, so that"
            f" each process has as many classes of a batch, got {classes}."
        )
