"""Batches of some groups of classes, some classes of each, and some rows of these."""

import itertools
import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_numpy_labels, check_count
from sphax.data._batches import Batches, Schedule, as_classes, check_options

# Above this number of sets of groups, an epoch draws so many of them.
_SETS = 10_000


def hierarchical_batches(
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    groups_per_batch: int = 2,
    classes_per_group: int,
    examples: int,
    batches_per_tuple: int = 4,
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Batches of G groups of classes, Q classes of each, and K rows of every class.

    Classes of one group, such as the cars of one make, are hard negatives of each
    other. An epoch has every set of G groups, ``batches_per_tuple`` times each, in
    random order. If there are more than 10,000 sets, it has as many that are drawn
    uniformly, each independently of the others. For each batch, Q classes of a group
    are drawn without replacement. Over an epoch, a class goes through its shuffled rows
    K at a time, and begins again when they end. A class with fewer than K rows has all
    of them, and some again, drawn with replacement.

    The rows of a class are adjacent in a batch, and so are the classes of a group.

    Host code in NumPy, for concrete labels, not under ``jit``.

    Args:
        labels: Class of each row, any integers, ``[n]``.
        groups: Group of each row's class, any integers, ``[n]``.
        groups_per_batch: G, number of groups in a batch.
        classes_per_group: Q, number of classes of each of them. Groups that have fewer
            are skipped.
        examples: K, number of rows of each class.
        batches_per_tuple: How often an epoch has each set of groups.
        seed: Of all draws, a non-negative integer.
        process_index: Number of this process; this and the next as in
            :func:`class_balanced_batches`.
        process_count: Number of processes; it divides G Q.

    Returns:
        :class:`Batches`, whose ``epoch(e)`` is a sequence of integer arrays
        ``[G Q K]``. Its attributes tell how many classes and rows are skipped.

    Raises:
        TypeError: If labels or groups are not integer.
        ValueError: If shapes do not fit, an option is out of range, a class is in two
            groups, or there are fewer than G groups of Q classes.

    Example:
        >>> labels = np.repeat([10, 11, 20, 21, 22, 30], 2)
        >>> batches = sx.data.hierarchical_batches(
        ...     labels, labels // 10, classes_per_group=2, examples=2
        ... )
        >>> print(labels[batches.epoch(0)[0]])
        [11 11 10 10 20 20 22 22]
        >>> len(batches.epoch(0)), batches.skipped_classes
        (4, 1)

    References:
        Cakir et al., `Deep Metric Learning to Rank
        <https://openaccess.thecvf.com/content_CVPR_2019/html/Cakir_Deep_Metric_Learning_to_Rank_CVPR_2019_paper.html>`_,
        CVPR 2019.
    """
    check_count("groups_per_batch", groups_per_batch)
    check_count("classes_per_group", classes_per_group)
    check_count("batches_per_tuple", batches_per_tuple)
    check_options(
        examples=examples,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
        classes=groups_per_batch * classes_per_group,
        name="groups_per_batch * classes_per_group",
    )
    everything = as_classes(labels)
    of_rows = as_numpy_labels("groups", groups, len(everything.rows), "labels")
    of_rows = of_rows[everything.rows]
    of_classes = of_rows[everything.first]
    strange = np.flatnonzero(of_rows != np.repeat(of_classes, everything.counts))
    if len(strange):
        wrong = np.searchsorted(everything.first, strange[0], "right") - 1
        raise ValueError(
            "groups must be the same for all rows of a class, got groups"
            f" {of_classes[wrong]} and {of_rows[strange[0]]} for the class"
            f" {everything.labels[wrong]}."
        )
    _, places, sizes = np.unique(of_classes, return_inverse=True, return_counts=True)
    is_kept = (sizes >= classes_per_group)[places]
    found, skipped = everything.keep(is_kept), everything.keep(~is_kept)
    kept = of_classes[is_kept]
    members = [np.flatnonzero(kept == group) for group in np.unique(kept)]
    if len(members) < groups_per_batch:
        raise ValueError(
            f"groups_per_batch must be at most {len(members)}, the number of groups"
            f" with {classes_per_group} classes or more, got {groups_per_batch}."
        )
    sets = math.comb(len(members), groups_per_batch)
    what = f"all {sets} sets" if sets <= _SETS else f"{_SETS} of {sets} sets, drawn,"
    return Batches(
        found,
        partial(
            _schedule, members, groups_per_batch, classes_per_group, batches_per_tuple
        ),
        examples=examples,
        seed=seed,
        skipped=skipped,
        process_index=process_index,
        process_count=process_count,
        rule=f"{groups_per_batch} of {len(members)} groups, {classes_per_group} classes"
        f" each, {examples} rows each; an epoch has {what} of groups"
        f" {batches_per_tuple} times",
    )


def _schedule(
    members: list[np.ndarray],
    groups: int,
    classes: int,
    times: int,
    rng: np.random.Generator,
    following: np.random.Generator,
) -> Schedule:
    """Sets of groups in random order, and classes of each group."""
    del following  # all batches are whole
    if math.comb(len(members), groups) <= _SETS:
        sets = np.array(list(itertools.combinations(range(len(members)), groups)))
    else:
        draws = (rng.choice(len(members), groups, replace=False) for _ in range(_SETS))
        sets = np.stack(list(draws))
    order = rng.permutation(np.repeat(np.arange(len(sets)), times))
    drawn = [
        np.concatenate(
            [rng.choice(members[group], classes, replace=False) for group in chosen]
        )
        for chosen in sets[order]
    ]
    return Schedule(drawn)
