"""The settings of the study of prototypes, its presets, and the runs of both."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import optax

from experiments.common import images, networks, recipes, runs

PresetName = Literal["quick", "poles", "resnet-32"]
FITTING: dict[PresetName, tuple[images.Name, ...]] = {
    "quick": ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"),
    "poles": ("digits", "mnist"),
    "resnet-32": ("cifar100",),
}
# The rows of the tables: of classification, and of regression.
CLASSES = {
    "softmax": "softmax, learned",
    "cosine": "softmax of cosines, learned",
    "fixed": "softmax of cosines, fixed",
    "squared": "squared distance, fixed",
    "ranked": "squared distance, fixed and ranked",
    "vmf": "von Mises-Fisher, fixed",
}
NUMBERS = {
    "linear": "linear layer",
    "poles": "poles",
    "poles-1": "poles, radius 1",
}


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Fixed prototypes against learned ones, in few and in many dimensions.

    Without arguments: scikit-learn's handwritten digits, six losses in 2, 3 and 64
    dimensions, five seeds, a few minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do;
    poles, regression of angle and contrast of turned images; or ResNet-32 by the
    paper's schedule."""
    dataset: images.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[str, ...] = tuple(CLASSES)
    """Losses to train with: softmax, cosine, fixed, squared, ranked, vmf; or linear,
    poles, poles-1, for --preset poles."""
    features: tuple[int, ...] = (2, 3, 64)
    """Dimensions of the embedding."""
    network: str = "small"
    """A small network for a CPU, a column of the dissertation's Table 2.1 (mnist,
    cifar10, cifar100), or one of sphax.networks.BACKBONES."""

    update: Literal["adam", "momentum"] = "adam"
    """How gradients become updates. The steps of Adam do not depend on the unit of a
    loss, and these differ."""

    study: ClassVar[str] = "prototypes"

    def __post_init__(self):
        super().__post_init__()
        known = NUMBERS if self.preset == "poles" else CLASSES
        unknown = [name for name in self.methods if name not in known]
        if unknown or not self.methods:
            raise ValueError(
                f"--methods must be some of {', '.join(known)}, got"
                f" {', '.join(unknown) or 'none'}."
            )
        if not self.features or min(self.features) < 2:
            raise ValueError(
                "--features must be numbers of dimensions, 2 or more, got"
                f" {runs.shown(self.features) or 'none'}."
            )
        networks.check(self.network)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, or momentum, with decay of the kernels and the learned prototypes."""
        if self.update == "momentum":
            return super().optimizer
        return optax.adamw(
            self.rate, weight_decay=self.weight_decay, mask=recipes.kernels
        )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}" + "-augmented" * self.augment

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["prototypes", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        default = FITTING[self.preset][0]
        return " ".join(
            words + [f"--dataset {self.dataset}"] * (self.dataset != default)
        )


def preset(name: PresetName, dataset: images.Name | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    fitting = FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(
            f"--preset {name} is for {' or '.join(fitting)}, not {dataset}: give"
            f" --dataset {fitting[0]}."
        )
    methods = tuple(NUMBERS if name == "poles" else CLASSES)
    common = Config(preset=name, dataset=dataset, methods=methods)
    if name == "resnet-32":
        # The paper's: 250 epochs, with drops after 100 and 200 of them.
        return dataclasses.replace(
            common,
            network="resnet32",
            features=(5, 25, 100),
            augment=True,
            seeds=3,
            steps=97_500,
            batch=128,
            learning_rate=0.01,
            drops=(39_000, 78_000),
            update="momentum",
            weight_decay=1e-4,
            precision="tf32",
            checkpoint_every=1_000,
        )
    quick = recipes.quick(common, dataset)
    quick = dataclasses.replace(quick, learning_rate=3e-3)
    if dataset == "digits":
        quick = recipes.stretched(quick, 200)
    if name == "poles":
        return dataclasses.replace(quick, features=(3, 64))
    return quick


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a method after each other."""
    return [
        runs.Run(
            dataclasses.replace(config, methods=(method,), features=(features,)),
            config.group,
            f"{method}-{features}",
            seed,
            config.steps,
        )
        for features in config.features
        for method in config.methods
        for seed in range(config.seeds)
    ]
