"""Checks of what a converter is given."""

import numpy as np

from sphax._checks import shown
from sphax.convert._networks import Arrays, few, need
from sphax.layers import MarginHead
from sphax.networks import Backbone


def check_module(module: object, *, may_be_none: bool = False) -> None:
    """Raises unless it is a network or a head."""
    if isinstance(module, Backbone | MarginHead) or (module is None and may_be_none):
        return
    raise TypeError(
        "module must be a sphax.networks.Backbone or a sphax.layers.MarginHead"
        f"{', or None' if may_be_none else ''}, got {shown(module)}."
    )


def only(tensors: Arrays, name: str, *others: str) -> np.ndarray:
    """The matrix of a head; raises if there are more arrays than ``others``."""
    matrix = need(tensors, name)
    if more := tensors.keys() - {name, *others}:
        raise ValueError(
            f"tensors must have {name} of a head and no other arrays, got {few(more)}."
        )
    if matrix.ndim != 2:
        raise ValueError(f"tensors must have {name} as a matrix, got {matrix.shape}.")
    return matrix
