"""Which numbers a setting may have, whatever the experiment."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

# Settings that may be zero, and what they must be less than. All others are positive.
_FROM_ZERO = {
    "annealing": math.inf,
    "drops": math.inf,
    "label_smoothing": 1.0,
    "momentum": 1.0,
    "orthogonality": math.inf,
    "seed": 2**31,
    "weight_decay": math.inf,
}


def check(config: Any, *, may_be_zero: Collection[str] = ()) -> None:
    """Refuses settings that are no positive, finite numbers.

    Args:
        config: A dataclass.
        may_be_zero: Settings that zero leaves out, beside those that may be zero in
            every experiment.

    Raises:
        ValueError: Names the flag of the setting.
    """
    from_zero = _FROM_ZERO | dict.fromkeys(may_be_zero, math.inf)
    for field in dataclasses.fields(config):
        value, below = getattr(config, field.name), from_zero.get(field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not (number > 0 if below is None else 0 <= number < below):
                expected = "positive" if below is None else _interval(below)
            elif not math.isfinite(number):
                expected = "finite"
            else:
                continue
            raise ValueError(
                f"{flag(field.name)} must be {expected}, got {shown(value)}."
            )


def flag(name: str) -> str:
    """The flag of a setting on the command line."""
    return f"--{name.replace('_', '-')}"


def shown(value: Any) -> str:
    """A setting as it is written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _interval(below: float) -> str:
    return "zero or positive" if math.isinf(below) else f"in [0, {below})"
