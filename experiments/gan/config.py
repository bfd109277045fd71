"""The settings of the study of adversarial networks, its presets, and their runs."""

import dataclasses
import pathlib
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import optax

import sphax as sx
from experiments.common import runs

DatasetName = Literal["digits", "mixture", "mnist"]
DATASETS: tuple[DatasetName, ...] = typing.get_args(DatasetName)
MethodName = Literal["plain", "sphere", "energy", "half-energy", "spectral"]
TITLES: dict[MethodName, str] = {
    "plain": "Non-saturating",
    "sphere": "Sphere GAN",
    "energy": "MHE, full space",
    "half-energy": "MHE, half space",
    "spectral": "Spectral norm",
}

# Steps that are compiled together.
TOGETHER = 20


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Small adversarial networks with five kinds of critics.

    Without arguments: scikit-learn's handwritten digits, five seeds.
    """

    dataset: DatasetName = "digits"
    """Data. "digits" is embedded, "mixture" is made: 8 Gaussians on a circle; "mnist"
    must have been prepared."""
    data_dir: pathlib.Path | None = None
    """Folder of the data; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    methods: tuple[MethodName, ...] = tuple(TITLES)
    """Critics: of the non-saturating objective as it is, of the sphere GAN, or of the
    first with the energy of its neurons or with spectral normalization."""
    seeds: int = 5
    """Runs of each method, with seeds 0, 1, ..."""
    steps: int = 5_000
    """Steps, each one of the critic and one of the generator; a multiple of 20."""
    batch: int = 64
    """Samples of the data in a step, and as many of the generator."""
    rates: tuple[float, ...] = (1e-3, 1e-3, 1e-3, 1e-3, 3e-4)
    """Learning rate of Adam for both players, with each method."""
    latent: int = 16
    """Numbers that the generator makes a sample of."""
    width: int = 128
    """Neurons of a hidden layer, of which each player has two."""
    outputs: int = 2
    """Outputs of the critic of the sphere GAN; others have one."""
    weight: float = 1.0
    """Weight of the energy, the mean over the critic's hidden layers."""
    checkpoint_every: int = 50
    """Calls of 20 steps between checkpoints, from which a killed run continues."""

    study: ClassVar[str] = "gan"

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError(
                f"--methods must name at least one of {', '.join(TITLES)}."
            )
        if len(self.rates) != len(self.methods):
            raise ValueError(
                f"--rates must have one number for each of {len(self.methods)} methods,"
                f" got {len(self.rates)}."
            )
        if self.steps % TOGETHER:
            raise ValueError(
                f"--steps must be a multiple of {TOGETHER}, got {self.steps}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.dataset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        return "gan" + f" --dataset {self.dataset}" * (self.dataset != "digits")

    @property
    def players(self) -> tuple[optax.GradientTransformation, Any]:
        """Optimizers of the critic and the generator."""
        adam = optax.adam(self.rates[0], b1=0.0, b2=0.99)
        if "energy" not in self.methods[0]:
            return adam, adam
        half = self.methods[0] == "half-energy"
        energy = sx.optim.add_energy_gradient(self.weight, half_space=half)
        return optax.chain(energy, adam), adam


def preset(dataset: DatasetName) -> Config:
    """The settings for some data."""
    found = Config(dataset=dataset)
    if dataset == "mixture":
        rates = (1e-3, 3e-4, 1e-3, 1e-3, 3e-4)
        return dataclasses.replace(found, batch=128, latent=4, rates=rates)
    if dataset == "mnist":
        return dataclasses.replace(found, steps=20_000, latent=32, width=512, seeds=3)
    return found


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield from map(preset, DATASETS)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a method after each other."""
    return [
        runs.Run(
            dataclasses.replace(config, methods=(method,), rates=(rate,)),
            config.group,
            method,
            seed,
            config.steps // TOGETHER,
        )
        for method, rate in zip(config.methods, config.rates, strict=True)
        for seed in range(config.seeds)
    ]
