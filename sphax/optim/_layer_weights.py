"""The weight that a penalty has in each layer."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import jax
import optax

from sphax._checks import check_number_or_schedule
from sphax._paths import by_path, check_known, closest, listed
from sphax.optim._neurons import MASKED

# For all layers, or a pytree with the weights of leaves and subtrees by path.
Weight = optax.ScalarOrSchedule | Any


def check_weight(weight: Weight) -> None:
    """Raises unless all weights are numbers or schedules."""
    for path, value in by_path(weight).items():
        name = f"weight at {path!r}" if path else "weight"
        check_number_or_schedule(name, value)


def weights_of_layers(
    weight: Weight,
    params: Any,
    found: Iterable[str],
    step: jax.Array,
    reduce: Literal["mean", "sum"],
) -> dict[str, jax.typing.ArrayLike]:
    """The weight of each leaf: that of the longest path that leads to it.

    For a mean, it is divided by the number of leaves that match the same path.
    """
    declared = by_path(weight)
    check_known(declared, by_path(params, *MASKED), MASKED, "weight")
    paths = {name: closest(declared, name) for name in found}
    counts = Counter(paths.values())
    weights = {}
    for name, path in paths.items():
        if path is None:
            raise ValueError(
                f"weight must have one for every layer, got none for {listed([name])}:"
                " give that of all others the path '', or leave them out by mask."
            )
        value: Any = declared[path]
        value = value(step) if callable(value) else value
        weights[name] = value / counts[path] if reduce == "mean" else value
    return weights
