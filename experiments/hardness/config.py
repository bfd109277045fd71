"""The settings of the study of hardness, its presets, and the runs of both."""

import dataclasses
import pathlib
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
# As the authors of CIFAR-10H call it, in the folder of the command.
_COUNTS = pathlib.Path("cifar10h-counts.npy")


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """How hard test images are to a classifier, by angle, confidence and norm.

    Without arguments: scikit-learn's handwritten digits, two losses, five seeds, about
    a minute on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do, or
    the dissertation's for Table 2.2 (MNIST), 2.3 (CIFAR-10), 2.4 (CIFAR-100)."""
    dataset: images.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[MarginName, ...] = ("softmax", "cosface")
    """Losses to train with."""
    network: str = "small"
    """A small network for a CPU, a column of the dissertation's Table 2.1 (mnist,
    cifar10, cifar100), or one of sphax.networks.BACKBONES."""
    human_counts: pathlib.Path | None = None
    """File of CIFAR-10H's counts, cifar10h-counts.npy, for --dataset cifar10: how often
    people chose each class for each test image."""

    study: ClassVar[str] = "hardness"
    # Whether there are counts, the name of the table says.
    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "human_counts")

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError(
                f"--methods must name at least one of {', '.join(MARGINS)}."
            )
        networks.check(self.network)
        if self.human_counts is not None and self.dataset != "cifar10":
            raise ValueError(
                "--human-counts are for the test images of CIFAR-10, got dataset"
                f" {self.dataset}: add --dataset cifar10."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        human = "-human" * (self.human_counts is not None)
        return f"{self.preset}-{self.dataset}{human}" + "-augmented" * self.augment

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["hardness", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        words += [f"--dataset {self.dataset}"] * (self.dataset != "digits")
        if self.human_counts is not None:
            words.append(f"--human-counts {self.human_counts.name}")
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
    for name in ("quick", "table-2.3"):
        chosen = preset(name, "cifar10")
        yield dataclasses.replace(chosen, human_counts=_COUNTS)


planned = runs.of_methods
