"""Batches of P classes with K rows of each."""

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import check_choice, check_count
from sphax.data._batches import Batches, Classes, Schedule, as_classes, check_options

Last = Literal["drop", "keep", "wrap"]


def class_balanced_batches(
    labels: ArrayLike,
    *,
    classes: int,
    examples: int,
    epoch: Literal["classes", "examples"] = "classes",
    short: Literal["repeat", "skip"] = "repeat",
    last: Last = "drop",
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    r"""Batches of P classes with K rows of each, for pairwise losses.

    ``epoch="classes"`` (Hermans et al.): a permutation of all classes is cut into
    groups of P, so that each class comes once in an epoch, with K of its rows, drawn
    without replacement. All classes come equally often, whatever their sizes.

    ``epoch="examples"`` (re-identification): the shuffled rows of each class are cut
    into :math:`\lceil n_c / K \rceil` parts of K, the last of which is completed from
    the first. A batch takes the next part of P different classes, drawn uniformly among
    those that have parts left, until there are fewer than P of these. Nearly every row
    comes once, and a class as often as its size demands. The number of batches differs
    a little between epochs.

    Samplers that draw classes anew for every batch, as that of
    pytorch-metric-learning, miss some classes in every pass over the data.

    Host code in NumPy, for concrete labels, not under ``jit``.

    Args:
        labels: Class of each row, any integers, ``[n]``.
        classes: P, number of classes in a batch.
        examples: K, number of rows of each of them.
        epoch: What an epoch has once: ``"classes"`` or ``"examples"``.
        short: What happens to a class of fewer than K rows. ``"repeat"``: it has all of
            its rows, and some of them again, drawn with replacement (pairs of equal
            vectors, which count in a mean). ``"skip"``: it is left out.
        last: What happens at the end of an epoch, when fewer than P classes are left.
            ``"drop"``: they are left out of this epoch. ``"keep"``: they make a smaller
            batch. ``"wrap"``: the first classes of the next epoch's permutation that
            are not among them complete the batch. Each class is in each epoch for
            ``"keep"`` and ``"wrap"``; for ``"drop"`` only if ``epoch="classes"`` and P
            divides the number of classes.
        seed: Of all draws, a non-negative integer.
        process_index: Number h of this process, such as ``jax.process_index()``.
        process_count: Number H of processes, such as ``jax.process_count()``. Process h
            has classes hP/H to (h+1)P/H of each batch: the arrays of all processes, in
            their order, are the whole batch. A last batch that is kept may be split
            unevenly.

    Returns:
        :class:`Batches`, whose ``epoch(e)`` is a sequence of integer arrays ``[P K]``,
        or ``[P K / H]``; ``from_step(n)`` goes on without end. Its attributes tell how
        many classes and rows are skipped, and those of an epoch how many are dropped.

    Raises:
        TypeError: If labels are not integer.
        ValueError: If labels are not ``[n]`` or empty, an option is out of range, P is
            not a multiple of H, or there are fewer than P classes that are not skipped.

    Example:
        >>> labels = np.array([5, 5, 5, 7, 7, 7, 9, 9, 9, 9])
        >>> batches = sx.data.class_balanced_batches(
        ...     labels, classes=2, examples=2, last="keep"
        ... )
        >>> epoch = batches.epoch(0)
        >>> print(*(labels[indices] for indices in epoch))
        [9 9 7 7] [5 5]
        >>> batches
        Batches(2 of 3 classes, 2 rows each; an epoch has each class once)

    References:
        Hermans et al., `In Defense of the Triplet Loss for Person Re-Identification
        <https://arxiv.org/abs/1703.07737>`_, 2017.
    """
    check_count("classes", classes)
    check_choice("epoch", epoch, ("classes", "examples"))
    check_choice("short", short, ("repeat", "skip"))
    check_choice("last", last, ("drop", "keep", "wrap"))
    check_options(
        examples=examples,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        classes=classes,
        name="classes",
    )
    everything = as_classes(labels)
    is_kept = (everything.counts >= examples) | (short == "repeat")
    found, skipped = everything.keep(is_kept), everything.keep(~is_kept)
    number = len(found.labels)
    if number < classes:
        left_out = f" besides {len(skipped.labels)} that are too small"
        raise ValueError(
            f"classes must be at most {number}, the number of classes in labels"
            f"{left_out if len(skipped.labels) else ''}, got {classes}."
        )
    make = _once_each if epoch == "classes" else _all_rows
    what = "each class once" if epoch == "classes" else "each row about once"
    if epoch == "classes" and last == "drop" and number % classes:
        what += f", except {number % classes} classes, other ones in each epoch"
    return Batches(
        found,
        partial(make, found, classes, examples, last),
        examples=examples,
        seed=seed,
        skipped=skipped,
        process_index=process_index,
        process_count=process_count,
        rule=f"{classes} of {number} classes, {examples} rows each; an epoch has"
        f" {what}",
    )


def _once_each(
    found: Classes,
    classes: int,
    examples: int,
    last: Last,
    rng: np.random.Generator,
    following: np.random.Generator,
) -> Schedule:
    """All classes once, in groups."""
    number = len(found.labels)
    order = rng.permutation(number)
    whole = number - number % classes
    batches = list(order[:whole].reshape(-1, classes))
    rest = order[whole:]
    dropped = len(rest) if last == "drop" else 0
    batches += _last(rest, classes, last, following.permutation(number))
    return Schedule(batches, dropped, dropped * examples)


def _all_rows(
    found: Classes,
    classes: int,
    examples: int,
    last: Last,
    rng: np.random.Generator,
    following: np.random.Generator,
) -> Schedule:
    """The parts of all classes, as long as enough classes have any."""
    number = len(found.labels)
    left = -(-found.counts // examples)
    seen = np.zeros(number, bool)
    available, batches = rng.permutation(number), []
    while len(available) >= classes:
        places = rng.choice(len(available), classes, replace=False)
        chosen = available[places]
        batches.append(chosen)
        left[chosen] -= 1
        seen[chosen] = True
        ended = places[left[chosen] == 0]
        if len(ended):
            available = np.delete(available, ended)
    if last != "drop":
        batches += _last(available, classes, last, following.permutation(number))
        left[available] -= 1
        seen[available] = True
    # Parts follow each other in a class, and the last one may be smaller.
    taken = (-(-found.counts // examples) - left) * examples
    dropped = np.maximum(found.counts - taken, 0).sum()
    return Schedule(batches, int(np.count_nonzero(~seen)), int(dropped))


def _last(
    rest: np.ndarray, classes: int, last: Last, following: np.ndarray
) -> list[np.ndarray]:
    """The last batch, of the classes that are left; or no batch."""
    if last == "drop" or not len(rest):
        return []
    if last == "keep":
        return [rest]
    others = following[~np.isin(following, rest)]
    return [np.concatenate([rest, others[: classes - len(rest)]])]
