"""The settings of the few-shot study, its presets, and the runs of both."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import optax

from experiments.common import recipes, runs

Dataset = Literal["digits", "omniglot"]
PresetName = Literal["quick", "long"]
FITTING: dict[PresetName, tuple[Dataset, ...]] = {
    "quick": ("digits", "omniglot"),
    "long": ("omniglot",),
}
# The rows of a table. No network is trained for the first.
METHODS = {
    "pixels": "pixels",
    "prototypical": "prototypical",
    "prototypical-sphere": "prototypical, sphere",
    "cosine": "cosine classifier, imprinted",
}


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Few-shot classification of classes that no network was trained on.

    Without arguments: scikit-learn's handwritten digits, trained on 0 to 4 and tested
    on 5 to 9, five seeds, about a minute on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do, or
    one of as many steps as prototypical networks were published with."""
    dataset: Dataset = "digits"
    """Images. "digits" is embedded; "omniglot" must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[str, ...] = tuple(METHODS)
    """What to train: prototypical, prototypical-sphere, cosine; pixels compares the
    images without a network."""
    shots: int = 1
    """Images of support of each class in a training episode; the others of --per-class
    are queries. A cosine classifier is trained on all of them."""
    filters: int = 32
    """Filters of each convolution."""
    episodes: int = 600
    """Test episodes for each number of classes and shots."""
    queries: int = 15
    """Queries of each class in a test episode."""

    study: ClassVar[str] = "few_shot"

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"--methods must be some of {', '.join(METHODS)}, got"
                f" {', '.join(unknown) or 'none'}."
            )
        if self.per_class is None or self.per_class <= self.shots:
            raise ValueError(
                f"--per-class must be above --shots = {self.shots}, so that a class has"
                f" queries, got {self.per_class}."
            )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, with decay of the kernels."""
        return optax.adamw(
            self.rate, weight_decay=self.weight_decay, mask=recipes.kernels
        )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["few_shot", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        default = FITTING[self.preset][0]
        return " ".join(
            words + [f"--dataset {self.dataset}"] * (self.dataset != default)
        )

    @property
    def tasks(self) -> tuple[tuple[int, int], ...]:
        """Numbers of classes and shots of the tests."""
        ways = (5,) if self.dataset == "digits" else (5, 20)
        return tuple((way, shot) for way in ways for shot in (1, 5))


def preset(name: PresetName, dataset: Dataset | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    dataset = dataset or FITTING[name][0]
    if dataset not in FITTING[name]:
        raise ValueError(
            f"--preset {name} is for {' or '.join(FITTING[name])}, not {dataset}: give"
            f" --dataset {FITTING[name][0]}."
        )
    # Five classes, or twenty, of one image of support and five queries.
    common = Config(
        preset=name, dataset=dataset, learning_rate=3e-3, per_class=6, batch=30
    )
    if dataset == "digits":
        return recipes.stretched(common, 150)
    common = dataclasses.replace(common, batch=120, seeds=3)
    if name == "quick":
        return recipes.stretched(common, 150)
    # Sixty classes and 64 filters, as published; the published rate is halved every
    # 2 000 episodes.
    return dataclasses.replace(
        recipes.stretched(common, 20_000),
        batch=360,
        filters=64,
        learning_rate=1e-3,
        precision="tf32",
        checkpoint_every=1_000,
    )


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a method after each other."""
    found = []
    for name in config.methods:
        one = dataclasses.replace(config, methods=(name,))
        seeds, steps = (1, 1) if name == "pixels" else (config.seeds, config.steps)
        found += [runs.Run(one, config.group, name, s, steps) for s in range(seeds)]
    return found
