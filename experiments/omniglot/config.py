"""The settings of the study of Omniglot, its presets, and the runs of both."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import ClassVar, Literal

import optax
from scipy.stats import qmc

from experiments.common import recipes, runs, store
from experiments.omniglot.losses import LOSSES, RATE, Choice

PresetName = Literal["test", "search"]
PRESETS: tuple[PresetName, ...] = ("test", "search")
# A row of the table that no network is trained for: cosines of the images themselves.
PIXELS = "pixels"


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Open-set verification of characters, with hyperparameters that were searched.

    Without arguments: trains each loss that has been searched on the rotated characters
    of all background alphabets, five seeds, and tests on the evaluation alphabets. With
    --preset search: tries hyperparameters of each loss on some background alphabets,
    and validates on the others.
    """

    preset: PresetName = "test"
    """Whether to search hyperparameters, or to train with the chosen ones and test."""
    data_dir: pathlib.Path | None = None
    """Folder of the data; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    methods: tuple[str, ...] = (PIXELS, *LOSSES)
    """Losses; "pixels" compares the images without a network."""
    seeds: int = 5
    """Runs of each loss, with seeds 0, 1, ..."""
    trials: int = 6
    """Trainings of each loss in its search."""
    steps: int = 20_000
    """Steps of a training."""
    batch: int = 64
    """Images in a step."""
    per_class: int = 4
    """Images of each class in a step, for classes drawn at random."""
    weight_decay: float = 5e-4
    """Decay of kernels and prototypes."""
    learning_rate: float = 1.0
    """Learning rate at the start, which falls to zero along a cosine; what the search
    has chosen, as are margin and scale."""
    margin: float = 1.0
    """Margin of a loss that has one."""
    scale: float = 1.0
    """Scale of a loss that has one, or the weight of its second term."""
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a killed run continues."""

    study: ClassVar[str] = "omniglot"

    def __post_init__(self):
        super().__post_init__()
        known = (*LOSSES, *[PIXELS] * (self.preset == "test"))
        unknown = [name for name in self.methods if name not in known]
        if unknown or not self.methods:
            raise ValueError(
                f"--methods must be some of {', '.join(known)}, got"
                f" {', '.join(unknown) or 'none'}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.preset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        return "omniglot" + " --preset search" * (self.preset == "search")

    def optimizer(self, learning_rate) -> optax.GradientTransformation:
        """Adam at a rate, which may be traced, with decay of the kernels."""
        fall = optax.cosine_decay_schedule(1.0, self.steps)
        return optax.adamw(
            lambda count: learning_rate * fall(count),
            weight_decay=self.weight_decay,
            mask=recipes.kernels,
        )


def preset(name: PresetName = "test") -> Config:
    """The recipe of a preset."""
    if name == "test":
        return Config()
    return Config(preset="search", methods=tuple(LOSSES), seeds=1, steps=4_000)


def presets() -> Iterator[Config]:
    """The settings of the study's tables; what has to be searched first."""
    yield from (preset("search"), preset("test"))


def choices(name: str, trials: int) -> list[Choice]:
    """The hyperparameters that are tried of a loss.

    First the defaults, then the points of a Halton sequence in the cube of learning
    rate, margin and scale, which are the same for each loss; a loss without one of them
    leaves that coordinate out.
    """
    ranges = RATE, LOSSES[name].margin, LOSSES[name].scale
    points = qmc.Halton(3, scramble=False).random(trials)[1:]
    first = Choice(*(1.0 if each is None else each.default for each in ranges))
    others = (
        Choice(
            *(
                1.0 if each is None else each.at(float(share))
                for each, share in zip(ranges, point, strict=True)
            )
        )
        for point in points
    )
    return [first, *others]


def chosen(name: str) -> Choice | None:
    """The trial with the lowest error, if the search of a loss is published."""
    (run,) = planned(dataclasses.replace(preset("search"), methods=(name,)))
    record = store.load(run, store.published(Config.study))
    if record is None:
        return None
    trials = [x for x in record["metrics"]["trials"] if x["eer"] is not None]
    return Choice(*min(trials, key=lambda trial: trial["eer"])["choice"])


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a loss after each other.

    To be tested are the losses whose search is published.
    """
    found = []
    for name in config.methods:
        one, seeds, steps = config, config.seeds, config.steps
        if name == PIXELS:
            seeds, steps = 1, 1
        elif config.preset == "search":
            steps = config.trials * config.steps
        elif choice := chosen(name):
            one = dataclasses.replace(config, **choice._asdict())
        else:
            continue
        one = dataclasses.replace(one, methods=(name,))
        found += [runs.Run(one, config.group, name, s, steps) for s in range(seeds)]
    if not found:
        raise ValueError(
            f"--methods {runs.shown(config.methods)} have not been searched: run"
            " python -m experiments.omniglot --preset search --publish first."
        )
    return found
