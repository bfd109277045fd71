"""The settings of the study of cosines between classes, its presets, and their runs."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

from experiments.common import images, networks, recipes, runs
from experiments.common.margins import MARGINS, MarginName

PresetName = Literal["quick", "table-2.2", "table-2.3", "table-2.4"]
FITTING: dict[PresetName, tuple[images.Name, ...]] = {
    "quick": ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"),
    "table-2.2": ("mnist", "fashion_mnist"),
    "table-2.3": ("cifar10",),
    "table-2.4": ("cifar100",),
}


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Cosines between the test features of every two classes, for several losses.

    Without arguments: scikit-learn's handwritten digits, five losses, five seeds, about
    three minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do, or
    the dissertation's for Table 2.2 (MNIST), 2.3 (CIFAR-10), 2.4 (CIFAR-100)."""
    dataset: images.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[MarginName, ...] = (
        "softmax",
        "l-softmax-4",
        "a-softmax",
        "cosface",
        "arcface",
    )
    """Losses to train with, one matrix each."""
    network: str = "small"
    """A small network for a CPU, a column of the dissertation's Table 2.1 (mnist,
    cifar10, cifar100), or one of sphax.networks.BACKBONES."""

    study: ClassVar[str] = "confusion"

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError(
                f"--methods must name at least one of {', '.join(MARGINS)}."
            )
        networks.check(self.network)

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}" + "-augmented" * self.augment

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["confusion", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        words += [f"--dataset {self.dataset}"] * (self.dataset != "digits")
        return " ".join(words + ["--augment"] * self.augment)


def preset(
    name: PresetName, dataset: images.Name | None = None, augment: bool = False
) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    fitting = FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(
            f"--preset {name} is for {' or '.join(fitting)}, not {dataset}: give"
            f" --dataset {fitting[0]}."
        )
    common = Config(preset=name, dataset=dataset, augment=augment)
    if name == "quick":
        return recipes.quick(common, dataset)
    column = dataset if dataset.startswith("cifar") else "mnist"
    return recipes.dissertation(dataclasses.replace(common, network=column), dataset)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)
    yield preset("table-2.3", augment=True)


planned = runs.of_methods
