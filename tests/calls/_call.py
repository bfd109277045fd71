"""A call of a public function, as the batteries make it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Call(NamedTuple):
    """A public function with its options bound, and arrays to call it with.

    Attributes:
        name: Public name, ``"losses.triplet"``, with what sets the row apart from
            others of that function in brackets: ``"losses.triplet[hard]"``.
        function: Function of the arguments alone; it returns a pytree of arrays.
        arguments: NumPy arrays, jax keys, or pytrees of them. Sizes that are sharded
            are multiples of 8.
        axes: For each argument, what its axes are, ``("batch", "features")``; axes of
            one name are sharded over one axis of the mesh, an axis named ``None`` is
            replicated. For a pytree, one tuple that fits all of its leaves, or a pytree
            of tuples. Each name but ``"features"`` is sharded alone, and the first two
            together, ``"features"`` being the last.
        differentiable: Numbers of the arguments whose gradient is compared.
        sharded_like: Number of the argument like which the result lies on a mesh of
            explicit axes, leaf by leaf; by default this is not tested.
        is_host: Whether it is host code, which takes concrete arrays and runs under no
            transformation; only its eager calls are tested then.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    axes: tuple[Any, ...] = ()
    differentiable: tuple[int, ...] = (0,)
    sharded_like: int | None = None
    is_host: bool = False


def normal(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)
