"""Maps onto orthogonal matrices that the tests run over: a new one adds a row."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from sphax import orthogonal as so
from tests.orthogonal.definitions import (
    cayley,
    exponential,
    gram_schmidt,
    householder,
    lowdin,
    neumann,
)


class Row(NamedTuple):
    """A map, its definition in NumPy, and how it differs from most maps."""

    map: Callable
    definition: Callable
    shape: tuple[int, int] = (4, 4)
    is_exact: bool = True
    slope: Callable = np.zeros_like  # of sum(w * Q) at zero, a function of w - w.T


OFT = partial(so.cayley_neumann, halve_last_term=True)
MAPS = {
    "gram_schmidt": Row(so.gram_schmidt, gram_schmidt),
    "gram_schmidt-tall": Row(so.gram_schmidt, gram_schmidt, (5, 3)),
    "householder": Row(so.householder, householder),
    "householder-few": Row(so.householder, householder, (2, 4)),
    "lowdin": Row(so.lowdin, lowdin),
    "lowdin-tall": Row(so.lowdin, lowdin, (5, 3)),
    "cayley": Row(so.cayley, cayley, slope=lambda twist: 2.0 * np.triu(twist, 1)),
    "exponential": Row(
        so.exponential, exponential, slope=lambda twist: np.triu(twist, 1)
    ),
    "cayley_neumann": Row(so.cayley_neumann, neumann, is_exact=False),
    "cayley_neumann-oft": Row(OFT, partial(neumann, last=1.0), is_exact=False),
    "newton_schulz": Row(
        partial(so.newton_schulz, iterations=22), lowdin, is_exact=False
    ),
}
