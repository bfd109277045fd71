"""The settings of the open-set study, its presets, and the runs of both."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import optax

from experiments.common import recipes, runs
from experiments.common.objectives import METHODS

Dataset = Literal["digits", "orl_faces", "omniglot", "lfw_aligned"]
PresetName = Literal["quick", "long"]
FITTING: dict[PresetName, tuple[Dataset, ...]] = {
    "quick": ("digits", "orl_faces", "omniglot", "lfw_aligned"),
    "long": ("omniglot", "lfw_aligned"),
}
# A row of the table that no network is trained for: cosines of the images themselves.
PIXELS = "pixels"
# What the dissertation's Table 2.5 compares, the triplet loss of FaceNet and the later
# margins: trained with on the larger sets, and drawn.
MAIN = (
    "softmax",
    "softmax-contrastive",
    "triplet",
    "l-softmax-2",
    "l-softmax-4",
    "sphereface",
    "cosface",
    "arcface",
)


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Open-set verification and identification with the losses of sphax.

    Without arguments: scikit-learn's handwritten digits, trained on 0 to 4 and tested
    on 5 to 9, all losses, five seeds, about seven minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do, or
    the same in ten times as many steps."""
    dataset: Dataset = "digits"
    """Images and protocol. "digits" is embedded; the others must have been prepared for
    TensorFlow Datasets."""
    methods: tuple[str, ...] = (PIXELS, *METHODS)
    """Losses to train with; "pixels" compares the images without a network."""
    components: int | None = None
    """Principal components of the training features, to verify in them too."""

    study: ClassVar[str] = "verify"

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.methods if name not in (PIXELS, *METHODS)]
        if unknown or not self.methods:
            raise ValueError(
                f"--methods must be some of {', '.join((PIXELS, *METHODS))}, got"
                f" {', '.join(unknown) or 'none'}."
            )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam: its steps do not depend on the unit of a loss, and these differ."""
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
        words = ["verify", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        return " ".join(
            words + [f"--dataset {self.dataset}"] * (self.dataset != "digits")
        )


def preset(name: PresetName = "quick", dataset: Dataset | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first; for all losses."""
    dataset = dataset or FITTING[name][0]
    if dataset not in FITTING[name]:
        raise ValueError(
            f"--preset {name} is for {' or '.join(FITTING[name])}, not {dataset}: give"
            f" --dataset {FITTING[name][0]}."
        )
    common = Config(preset=name, dataset=dataset, learning_rate=3e-3, batch=60)
    common = recipes.stretched(dataclasses.replace(common, per_class=12), 200)
    if dataset == "digits":
        return common
    common = dataclasses.replace(common, methods=(PIXELS, *MAIN), per_class=4)
    if dataset == "omniglot":
        common = dataclasses.replace(common, seeds=3, batch=128)
        common = recipes.stretched(common, 1_000)
    elif dataset == "orl_faces":
        common = recipes.stretched(dataclasses.replace(common, augment=True), 300)
    else:
        common = dataclasses.replace(
            common, augment=True, seeds=1, batch=64, components=64
        )
        common = recipes.stretched(common, 600)
    if name == "quick":
        return common
    common = recipes.stretched(common, 10 * common.steps)
    return dataclasses.replace(common, precision="tf32", checkpoint_every=1_000)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a method after each other."""
    splits = 10 if config.dataset == "lfw_aligned" else 1
    found = []
    for name in config.methods:
        one = dataclasses.replace(config, methods=(name,))
        if name == "sphereface":
            # L-Softmax's lambda is that of the settings. SphereFace's authors let it
            # fall faster, to 5, in 28 000 steps: here in as many as there are.
            gamma = 0.12 * 28_000 / config.steps
            one = dataclasses.replace(one, annealing=(1000.0, gamma, 1.0, 5.0))
        seeds, steps = config.seeds, splits * config.steps
        if name == PIXELS:
            seeds, steps = 1, 1
        found += [runs.Run(one, config.group, name, s, steps) for s in range(seeds)]
    return found
