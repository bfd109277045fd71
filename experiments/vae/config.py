"""The settings of the study of variational autoencoders, and its runs."""

import dataclasses
import pathlib
import typing
from collections.abc import Iterator
from typing import ClassVar, Literal

import optax

from experiments.common import runs
from experiments.common.images import Name

PresetName = Literal["quick", "mnist"]
PRESETS: tuple[PresetName, ...] = typing.get_args(PresetName)
Latent = Literal["gaussian", "von-mises-fisher", "power-spherical"]
LATENTS: dict[Latent, str] = {
    "gaussian": "Gaussian",
    "von-mises-fisher": "von Mises-Fisher",
    "power-spherical": "power spherical",
}

# Codes of an image that are decoded at a time.
TOGETHER = 10


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Variational autoencoders of binary images with several kinds of codes.

    Without arguments: scikit-learn's handwritten digits, three kinds of codes, four
    dimensions, five seeds.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: digits, for a CPU; or MNIST with
    wider layers and more steps."""
    dataset: Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    seeds: int = 5
    """Autoencoders of each row, with seeds 0, 1, ..."""
    side_by_side: bool = True
    """Whether all seeds of a row are trained in one compiled step."""
    latents: tuple[Latent, ...] = tuple(LATENTS)
    """Kinds of codes."""
    dimensions: tuple[int, ...] = (2, 5, 10, 20)
    """Degrees of freedom of a code: m numbers of a Gaussian one, a point on the sphere
    in m + 1 dimensions otherwise."""
    hidden: tuple[int, ...] = (128, 64)
    """Units of the layers of the encoder; the decoder has them in reverse."""
    steps: int = 1500
    """Optimization steps of a run."""
    batch: int = 64
    """Images in a step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    samples: int = 100
    """Codes of an image from which its likelihood is estimated."""
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a killed run goes on."""

    study: ClassVar[str] = "vae"

    def __post_init__(self):
        super().__post_init__()
        for name, values in (
            ("--latents", self.latents),
            ("--dimensions", self.dimensions),
            ("--hidden", self.hidden),
        ):
            if not values:
                raise ValueError(f"{name} must be one or more, got none.")
        if self.samples % TOGETHER:
            raise ValueError(
                f"--samples must be a multiple of {TOGETHER}, got {self.samples}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        return "vae" if self.preset == "quick" else f"vae --preset {self.preset}"

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a constant rate."""
        return optax.adam(self.learning_rate)


def preset(name: PresetName) -> Config:
    """The settings of a preset."""
    common = Config(preset=name)
    if name == "quick":
        return common
    return dataclasses.replace(
        common,
        dataset="mnist",
        dimensions=(2, 5, 10, 20, 40),
        hidden=(256, 128),
        steps=60_000,
        batch=100,
        samples=500,
        checkpoint_every=5_000,
    )


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield from map(preset, PRESETS)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a row after each other."""
    return [
        runs.Run(
            dataclasses.replace(config, latents=(latent,), dimensions=(dimension,)),
            config.group,
            f"{latent}-{dimension}",
            seed,
            config.steps,
        )
        for dimension in config.dimensions
        for latent in config.latents
        for seed in range(config.seeds)
    ]
