"""Prototypes of a head, to and from arrays of a file."""

import numpy as np
from flax import nnx

from sphax.convert._layers import placed
from sphax.layers import MarginHead


def read_head(head: MarginHead, name: str, rows: np.ndarray) -> MarginHead:
    """A copy of the head with other prototypes.

    Args:
        head: Of the size of the file.
        name: Of the array in the file, for an error.
        rows: One prototype for each class, ``[num_classes, in_features]``.
    """
    _check_subcenters(head)
    expected = (head.num_classes, head.in_features)
    if rows.shape != expected:
        more = ""
        if rows.shape[1:] == expected[1:] and len(rows) < len(head.prototypes[...]):
            more = (
                " If each process has saved its own classes, concatenate the arrays in"
                " the order of the processes."
            )
        raise ValueError(
            f"tensors must have {name} for {expected[0]} classes of {expected[1]}"
            f" features, as module was made, got {len(rows)} of {rows.shape[1]}.{more}"
        )
    head = nnx.clone(head)
    old = head.prototypes.get_value()
    # On a mesh, rows without a class are zero.
    rows = np.pad(rows, ((0, old.shape[0] - len(rows)), (0, 0)))
    head.prototypes.set_value(placed(rows, old))
    return head


def write_rows(head: MarginHead) -> np.ndarray:
    """One prototype for each class, ``[num_classes, in_features]``."""
    _check_subcenters(head)
    return np.asarray(head.prototypes[...])[: head.num_classes]


def _check_subcenters(head: MarginHead) -> None:
    if head.subcenters != 1:
        raise ValueError(
            "module must have one prototype for each class, as this format has, got"
            f" subcenters={head.subcenters}; sx.losses.dominant_subcenters finds one."
        )
