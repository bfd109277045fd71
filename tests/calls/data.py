"""Calls of ``sphax.data``, which is host code."""

import numpy as np

from sphax import data
from tests.calls._call import Call

LABELS = np.arange(16) % 4


def balanced(labels):
    """Two batches of an endless stream."""
    batches = data.class_balanced_batches(labels, classes=2, examples=2)
    return [next(batches.from_step(step)) for step in (0, 1)]


def hierarchical(labels):
    """An epoch."""
    return list(
        data.hierarchical_batches(
            labels, labels // 2, classes_per_group=1, examples=2
        ).epoch(0)
    )


def first_episode(labels):
    """The episode of number 0."""
    return data.episodes(labels, classes=2, shots=1, queries=2).episode(0)


CALLS = [
    Call("data.class_balanced_batches", balanced, (LABELS,), is_host=True),
    Call("data.episodes", first_episode, (LABELS,), is_host=True),
    Call("data.hierarchical_batches", hierarchical, (LABELS,), is_host=True),
]
EXEMPT: dict[str, str] = {
    "data.Batches": "made by the functions above",
    "data.Epoch": "made by the functions above",
    "data.Episodes": "made by the functions above",
    "data.parse_market_names": "takes no array",
    **{
        f"data.{name}": "reads a file"
        for name in (
            *("read_bin", "read_blufr", "read_integers", "read_lfw_pairs"),
            *("read_ijb_images", "read_ijb_pairs", "read_ijb_templates"),
        )
    },
}
