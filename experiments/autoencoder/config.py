"""The settings of the autoencoder study, its presets, and the runs of both."""

import dataclasses
import pathlib
import typing
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import optax

from experiments.common import runs
from experiments.common.images import Name

DATASETS: tuple[Name, ...] = typing.get_args(Name)
Factor = Literal["output", "magnitude", "angle"]


class Source(NamedTuple):
    """What images are decoded from.

    Attributes:
        title: Its name in tables.
        factor: What the last convolution of the encoder emits.
        everywhere: Whether the convolutions before it return the same factor.
    """

    title: str
    factor: Factor
    everywhere: bool = False


SOURCES = {
    "output": Source("inner product", "output"),
    "magnitude": Source("magnitude", "magnitude"),
    "angle": Source("angle", "angle"),
    "magnitude_everywhere": Source("magnitude, all layers", "magnitude", True),
    "angle_everywhere": Source("angle, all layers", "angle", True),
}


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """An autoencoder decoded from inner products, from magnitudes, and from angles.

    Without arguments: scikit-learn's handwritten digits, five seeds, a minute on two
    cores.
    """

    dataset: Name = "digits"
    """Images, and where the defaults come from. "digits" is embedded; the others must
    have been prepared for TensorFlow Datasets."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    seeds: int = 5
    """Autoencoders, with seeds 0, 1, ..."""
    channels: tuple[int, ...] = (32, 16)
    """After each convolution of the encoder; the last are those of the code."""
    steps: int = 600
    """Optimization steps of a run."""
    batch: int = 64
    """Images in a step."""
    learning_rate: float = 3e-3
    """Learning rate of Adam at the start; it falls to zero along a cosine."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    study: ClassVar[str] = "autoencoder"

    def __post_init__(self):
        super().__post_init__()
        if not self.channels:
            raise ValueError("--channels must be one or more numbers, got none.")

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.dataset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        is_default = self.dataset == "digits"
        return "autoencoder" if is_default else f"autoencoder --dataset {self.dataset}"

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, with the falling rate."""
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))


def preset(dataset: Name) -> Config:
    """The settings for some images: what a CPU can do."""
    common = Config(dataset=dataset)
    if dataset == "digits":
        return common
    if dataset.startswith("cifar"):
        return dataclasses.replace(common, channels=(32, 64, 64), seeds=2)
    return dataclasses.replace(common, channels=(32, 8), steps=1_000)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield from map(preset, DATASETS)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings."""
    return [
        runs.Run(config, config.group, "autoencoder", seed, config.steps)
        for seed in range(config.seeds)
    ]
