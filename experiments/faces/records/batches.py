"""Batches for training: an order, augmentation, worker processes, unreadable images.

The order is that of an endless stream in which each epoch has every record once, anew
at random. Step t of training takes the records from ``t * batch`` to ``(t + 1) *
batch`` of the stream, whatever the number of hosts and worker processes, and each host
a slice of them. So the number of steps is all that resuming needs.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from experiments.faces.records.augmentation import AUGMENTATIONS
from experiments.faces.records.pixels import UnreadableImageError
from experiments.faces.records.recordio import RecordError
from experiments.faces.records.sources import Source

IN_A_ROW = 1000


@dataclasses.dataclass
class BadRecords:
    """Unreadable images that were replaced by the next readable ones.

    Attributes:
        max_share: Share of an epoch's images at most; beyond it training stops.
        count: How many there were in the current epoch, on this host.
        first: What the first five of them are called.
    """

    max_share: float = 1e-3
    count: int = 0
    first: list[str] = dataclasses.field(default_factory=list)
    epoch: int = 0

    def add(self, epoch: int, names: list[str], images: int) -> None:
        """Counts unreadable images among the ``images`` that an epoch has here.

        Raises:
            RecordError: If they are too many.
        """
        if epoch != self.epoch:
            self.epoch, self.count, self.first = epoch, 0, []
        self.count += len(names)
        self.first = [*self.first, *names][:5]
        if names and self.count > self.max_share * images:
            raise RecordError(
                f"{self.count} images of this epoch are unreadable, more than"
                f" {self.max_share:g} of {images}: {', '.join(self.first)}; mend the"
                " files, or raise max_bad_share."
            )


def batches(
    source: Source,
    *,
    batch: int,
    seed: int,
    start: int = 0,
    augmentation: str = "default",
    workers: int = 0,
    host: int = 0,
    hosts: int = 1,
    bad: BadRecords | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields this host's images and labels of each step, for ever.

    Args:
        source: Images and labels.
        batch: Number of images of a step, on all hosts together.
        seed: Of the order and of the augmentation.
        start: First step; a run that has done so many goes on as if it had not stopped.
        augmentation: Name in :data:`.AUGMENTATIONS`.
        workers: Processes that read and augment; with 0, a thread of this one. The
            batches do not depend on it. Scripts that start processes need
            ``if __name__ == "__main__"``.
        host: Number of this host, such as ``jax.process_index()``.
        hosts: How many there are, such as ``jax.process_count()``.
        bad: Counts unreadable images, and stops if they are too many; by default more
            than a thousandth of an epoch.

    Yields:
        Images, uint8, ``[batch / hosts, height, width, 3]``, and labels, int32,
        ``[batch / hosts]``. :func:`.normalize` gives what a network takes.

    Raises:
        ValueError: If the numbers do not fit each other.
        RecordError: While iterating, if too many images are unreadable.
    """
    if augmentation not in AUGMENTATIONS:
        raise ValueError(
            f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got"
            f" {augmentation!r}."
        )
    if not 0 <= host < hosts or batch < 1 or batch % hosts:
        raise ValueError(
            "batch must be a multiple of hosts, and host one of 0 to hosts - 1, got"
            f" batch={batch}, host={host}, hosts={hosts}."
        )
    if start < 0 or workers < 0 or not 0 <= seed < 2**32:
        raise ValueError(
            "start and workers must be 0 or more, and seed from 0 to 2^32 - 1, got"
            f" start={start}, workers={workers}, seed={seed}."
        )
    make = _MakeBatch(source, batch // hosts, batch, seed, augmentation, host)
    return _deliver(make, start, workers, hosts, bad or BadRecords())


def _deliver(
    make: "_MakeBatch", start: int, workers: int, hosts: int, bad: BadRecords
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    steps = grain.MapDataset.range(start, sys.maxsize).map(make)
    # By default 500 batches would be held.
    found = steps.to_iter_dataset(grain.ReadOptions(1, 2))
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads its flags to start a process
            flags.FLAGS.mark_as_parsed()
        found = found.mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=2),
            worker_init_fn=_begin_worker,
        )
    number = len(make.source)
    iterator, step = iter(found), start
    try:
        for shared in iterator:
            # Arrays of worker processes are in shared memory until nobody has them.
            made = {name: np.array(array) for name, array in shared.items()}
            del shared
            epochs = make.positions(step) // number
            for epoch in np.unique(epochs):
                unreadable = made["unreadable"][epochs == epoch]
                names = [make.source.name(i) for i in unreadable[unreadable >= 0]]
                bad.add(int(epoch), names, number // hosts)
            yield made["images"], made["labels"]
            step += 1
    finally:
        iterator.close()


@dataclasses.dataclass
class _MakeBatch:
    """The batch of a step: a function of the step alone, called in worker processes."""

    source: Source
    size: int
    batch: int
    seed: int
    augmentation: str
    host: int

    def __post_init__(self):
        numbers = grain.MapDataset.range(len(self.source))
        self._stream = numbers.seed(self.seed).shuffle().repeat()

    def positions(self, step: int) -> np.ndarray:
        """Places in the stream."""
        return step * self.batch + self.host * self.size + np.arange(self.size)

    def __call__(self, step: int) -> dict[str, Any]:
        images, labels, unreadable = [], [], []
        for position in self.positions(step).tolist():
            drawn = self._stream[position]
            image, label, tries = self._readable(drawn)
            rng = np.random.default_rng((self.seed, position))
            images.append(AUGMENTATIONS[self.augmentation](image, rng))
            labels.append(label)
            unreadable.append(drawn if tries else -1)
        return {
            "images": np.stack(images),
            "labels": np.array(labels, np.int32),
            "unreadable": np.array(unreadable),
        }

    def _readable(self, drawn: int) -> tuple[np.ndarray, int, int]:
        """The next readable image from a record on, and how many are not."""
        number, failed = len(self.source), []
        while len(failed) < min(number, IN_A_ROW):
            index = (drawn + len(failed)) % number
            try:
                return *self.source[index], len(failed)
            except UnreadableImageError as error:
                failed.append(f"{self.source.name(index)} ({error})")
        raise RecordError(
            f"{self.source.title}: {len(failed)} images in a row are unreadable:"
            f" {', '.join(failed[:5])}."
        )


def _begin_worker(index: int, count: int) -> None:
    """Leaves Ctrl-C to the main process, and ends when it was killed."""
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
