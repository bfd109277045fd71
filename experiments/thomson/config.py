"""The settings of the study of charges on the sphere, and the published energies."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from experiments.common import runs

UNIT = "numbers"
_LOWEST = pathlib.Path(__file__).with_name("energies.txt")


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Least energies of 2, 3, ... charges on the sphere, from random starts.

    Without arguments: up to 32 charges, three minutes on two cores.
    """

    smallest: int = 2
    """Number of charges to begin with."""
    largest: int = 32
    """Number of charges to go up to, 100 at most."""
    restarts: int = 64
    """Random starts for each number of charges."""
    seed: int = 0
    """Seed of the starts."""

    study: ClassVar[str] = "thomson"

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.largest <= 100:
            raise ValueError(f"--largest must be in [2, 100], got {self.largest}.")
        if not 2 <= self.smallest <= self.largest:
            raise ValueError(
                f"--smallest must be in [2, {self.largest}], got {self.smallest}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return "charges"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        ends = {"smallest": 2, "largest": 32}
        flags = [
            f" {runs.flag(name)} {getattr(self, name)}"
            for name, usual in ends.items()
            if getattr(self, name) != usual
        ]
        return "thomson" + "".join(flags)


@functools.cache
def lowest_known() -> dict[int, float]:
    """Lowest published energy, the sum over pairs, by the number of charges."""
    numbers, energies = np.loadtxt(_LOWEST, unpack=True)
    return dict(zip(numbers.astype(int).tolist(), energies.tolist(), strict=True))


def presets() -> Iterator[Config]:
    """The settings of the study's table."""
    yield Config(largest=100)


def planned(config: Config) -> list[runs.Run]:
    """One run for each number of charges."""
    return [
        runs.Run(
            dataclasses.replace(config, smallest=n, largest=n),
            config.group,
            f"{n}-charges",
            config.seed,
            1,
        )
        for n in range(config.smallest, config.largest + 1)
    ]
