"""The settings of the robustness study, its presets, and the runs of both."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import ClassVar, Literal

from experiments.common import recipes, runs
from experiments.common.images import Name
from experiments.common.operators import operator

TrainingName = Literal["natural", "adversarial"]
DATASETS: tuple[Name, ...] = typing.get_args(Name)
OWN = "length-preserving"  # a network of its own, whose accuracy is certified
OPERATORS = ("plain", "sphere-cosine", "ball-cosine", "tanh-cosine", "log-cosine", OWN)
# Radii of the curves, in units of eps.
RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
# Steps of BIM in its curve; more of them should not leave a greater accuracy.
STEPS = (1, 2, 5, 10, 20, 50)
# How far loss surfaces go to either side, in units of eps.
REACH = 2.0


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Decoupled networks under attack, trained naturally and on attacks."""

    dataset: Name = "digits"
    """Images, and where the defaults come from; only "digits" need not be prepared."""
    operators: tuple[str, ...] = OPERATORS
    """Operators to compare: length-preserving, plain, sphere-learned-sigmoid,
    sphere-norm, or any MAGNITUDE-ANGULAR[-weighted|-nonlinear]."""
    trainings: tuple[TrainingName, ...] = ("natural", "adversarial")
    """On the images as they are, on attacks by PGD, or both."""
    seeds: int = 3
    """Runs of each operator and training, with seeds 0, 1, ..."""
    eps: float = 0.1
    """Radius of the attacks, in training too; a pixel is in [0, 1]."""
    images: int = 384
    """Test images that are attacked, the first ones."""
    restarts: int = 2
    """Random starts of PGD, the strongest of which counts for each image."""
    inner_steps: int = 3
    """Steps of the attack in adversarial training."""
    checked: int = 128
    """How many of the attacked images the checks for masked gradients take."""

    study: ClassVar[str] = "robustness"

    def __post_init__(self):
        super().__post_init__()
        for name in ("operators", "trainings"):
            if not getattr(self, name):
                raise ValueError(f"--{name} must name at least one.")
        if self.eps > 1.0:
            raise ValueError(
                f"--eps must be in (0, 1], as a pixel is, got {self.eps}; divide one of"
                " 0 to 255 by 255."
            )
        for name in self.operators:
            title(name)  # raises if it is not a name

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.dataset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        is_default = self.dataset == "digits"
        return "robustness" if is_default else f"robustness --dataset {self.dataset}"


def title(name: str) -> str:
    """Name of an operator in tables."""
    is_own = name == OWN
    return "Length-preserving" if is_own else operator(name, "--operators").title


def preset(dataset: Name) -> Config:
    """The settings for some images: what a CPU can do.

    8/255 is the usual radius. For digits, with 16 steps from black to white, it is half
    a step; 0.1 is one and a half: such noise costs nothing, and people still read them.
    """
    if dataset == "digits":
        return Config()
    return dataclasses.replace(
        Config(dataset=dataset),
        operators=tuple(name for name in OPERATORS if name != "ball-cosine"),
        seeds=1,
        learning_rate=0.1,
        eps={"mnist": 0.3, "fashion_mnist": 0.1}.get(dataset, 8 / 255),
        images=1_000,
        restarts=1,
    )


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield from map(preset, DATASETS)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a training and operator in a row."""
    found = []
    for training in config.trainings:
        for name in config.operators:
            one = dataclasses.replace(config, trainings=(training,), operators=(name,))
            found += [
                runs.Run(one, config.group, f"{training}-{name}", seed, one.steps)
                for seed in range(config.seeds)
            ]
    return found
