"""The settings of the energy study, its presets, and the runs of both."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import optax

import sphax as sx
from experiments.common import networks, recipes, runs
from experiments.common.images import Name
from experiments.energy.regularizers import REGULARIZERS, regularizer

PresetName = Literal["quick", "cnn-9", "cnn-9-short"]
_CIFAR: tuple[Name, ...] = ("cifar100", "cifar10")
FITTING: dict[PresetName, tuple[Name, ...]] = {
    "quick": ("digits", "mnist", "fashion_mnist", *_CIFAR),
    "cnn-9": _CIFAR,
    "cnn-9-short": _CIFAR,
}
_FEWER = ("none", "decay", "orthogonality", "mhe-2", "mhe-2-half", "rp-comhe")
# Records of the energies in a run, about: curves of more points look the same.
_RECORDS = 30


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Regularizers that keep neurons apart: error, and energies during training.

    Without arguments: scikit-learn's handwritten digits, 24 regularizers, five seeds,
    half an hour on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do; that
    of the authors of MHE and CoMHE; or three regularizers by the latter, in fewer
    steps."""
    dataset: Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    regularizers: tuple[str, ...] = tuple(REGULARIZERS)
    """Regularizers to compare, by the names of experiments/energy/regularizers.py."""
    network: Literal["small", "cnn-9"] = "small"
    """A small network for a CPU, or the authors' with nine convolutions."""
    width: float = 1.0
    """Share of the filters of CNN-9."""
    strength: float = 1.0
    """Factor of the regularizers' weights."""
    decay_norms: bool = False
    """Whether scales and shifts of batch normalization decay too."""
    steps: int = 300
    """Optimization steps of a run; the settings below do not move with them."""
    drops: tuple[int, ...] = (200, 250)
    """Steps at which the learning rate is divided by ten."""
    long_steps: int | None = None
    """Steps with regularizers whose authors trained for longer; None: no more steps."""
    long_drops: tuple[int, ...] = (30_000, 50_000, 65_000)
    """Steps at which their learning rate is divided by ten."""

    study: ClassVar[str] = "energy"
    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "long_steps", "long_drops")

    def __post_init__(self):
        super().__post_init__()
        if not self.regularizers:
            raise ValueError("--regularizers must name at least one, such as mhe-2.")
        for name in self.regularizers:
            regularizer(name)  # raises if it is not a name

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}" + "-augmented" * self.augment

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["energy", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        usual = FITTING[self.preset][0]
        words += [f"--dataset {self.dataset}"] * (self.dataset != usual)
        return " ".join(words + ["--augment"] * self.augment)

    @property
    def record_every(self) -> int:
        """Steps from one record of the energies to the next."""
        return -(-self.steps // _RECORDS)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Momentum; decay and regularizer are parts of the gradient."""
        chosen = regularizer(self.regularizers[0])
        decays = partial(recipes.decaying, has_length=True, norms=self.decay_norms)
        decay = self.weight_decay if chosen.decays else 0.0
        return optax.chain(
            optax.add_decayed_weights(decay, mask=decays),
            *chosen.gradients(self.strength),
            optax.sgd(self.rate, momentum=0.9),
        )

    def design(self, shape: tuple[int, int, int]) -> networks.Design:
        """The network for images of a shape."""
        if self.network == "small":
            return networks.design("small", shape)
        filters = [max(1, round(self.width * number)) for number in (64, 128, 256)]
        stages = tuple(sx.networks.Stage(number, 3) for number in filters)
        return sx.networks.Design(shape, stages, filters[-1])


def preset(name: PresetName, dataset: Name | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    fitting = FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(
            f"--preset {name} is for {' or '.join(fitting)}, not {dataset}: give"
            f" --dataset {fitting[0]}."
        )
    common = Config(preset=name, dataset=dataset)
    if dataset not in _CIFAR:
        return common
    paper = dataclasses.replace(
        common,
        seeds=1,
        network="cnn-9",
        steps=42_500,
        drops=(20_000, 30_000, 37_500),
        learning_rate=0.1,
        batch=128,
        decay_norms=True,
        precision="tf32",
        checkpoint_every=1_000,
    )
    if name == "cnn-9":
        return dataclasses.replace(paper, long_steps=75_000)
    if name == "cnn-9-short":
        few = dataclasses.replace(paper, regularizers=("decay", "mhe-2", "mhe-2-half"))
        return recipes.stretched(few, 20_000)
    quick = dataclasses.replace(
        paper,
        regularizers=_FEWER,
        width=0.125,
        precision="float32",
        checkpoint_every=100,
    )
    return recipes.stretched(quick, 400)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a regularizer after each other."""
    found = []
    for name in config.regularizers:
        changed: dict[str, Any] = {"regularizers": (name,)}
        if config.long_steps and regularizer(name).is_long:
            changed |= {"steps": config.long_steps, "drops": config.long_drops}
        one = dataclasses.replace(config, **changed)
        found += [
            runs.Run(one, config.group, name, seed, one.steps)
            for seed in range(config.seeds)
        ]
    return found
