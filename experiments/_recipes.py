"""What the classification experiment trains, and how: methods, presets, settings."""

import argparse
import dataclasses
import pathlib
from typing import Literal, NamedTuple

import optax
import tyro
from flax import nnx

import sphax as sx
from experiments import _data
from experiments._settings import Recipe, kernels, stretched

PresetName = Literal["quick", "table-2.2", "table-2.3", "table-2.4"]
MethodName = Literal[
    "softmax",
    "l-softmax-2",
    "l-softmax-3",
    "l-softmax-4",
    "a-softmax",
    "cosface",
    "arcface",
]


class Method(NamedTuple):
    """A margin, what it normalises, and its name in tables."""

    title: str
    margin: sx.margins.Margin
    normalize: Literal["none", "prototypes", "both"]

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> sx.layers.MarginHead:
        """What stands on the network while it trains; ``scale`` if it is used."""
        return sx.layers.MarginHead(
            features,
            classes,
            margin=self.margin,
            normalize=self.normalize,
            scale=scale if self.normalize == "both" else None,
            rngs=rngs,
        )


METHODS: dict[MethodName, Method] = {
    "softmax": Method("Softmax", sx.margins.NoMargin(), "none"),
    "l-softmax-2": Method("L-Softmax, m = 2", sx.margins.SphereFace(m=2), "none"),
    "l-softmax-3": Method("L-Softmax, m = 3", sx.margins.SphereFace(m=3), "none"),
    "l-softmax-4": Method("L-Softmax, m = 4", sx.margins.SphereFace(m=4), "none"),
    "a-softmax": Method("A-Softmax, m = 4", sx.margins.SphereFace(m=4), "prototypes"),
    "cosface": Method("CosFace, m = 0.35", sx.margins.CosFace(margin=0.35), "both"),
    "arcface": Method("ArcFace, m = 0.5", sx.margins.ArcFace(margin=0.5), "both"),
}

# Error rates of the dissertation's Tables 2.2 to 2.4, by preset and augmentation.
PUBLISHED: dict[tuple[PresetName, bool], tuple[float, float, float, float]] = {
    ("table-2.2", False): (0.40, 0.32, 0.31, 0.31),
    ("table-2.3", False): (9.05, 7.73, 7.66, 7.58),
    ("table-2.3", True): (6.50, 6.01, 5.94, 5.92),
    ("table-2.4", False): (32.74, 29.95, 29.87, 29.53),
}


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    """Softmax with and without angular margins, on images.

    Without arguments: scikit-learn's handwritten digits, seven losses, five seeds,
    under three minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do, or
    the dissertation's for Table 2.2 (MNIST), 2.3 (CIFAR-10), 2.4 (CIFAR-100)."""
    dataset: _data.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Losses to train with."""
    network: Literal["small", "mnist", "cifar10", "cifar100"] = "small"
    """Column of the dissertation's Table 2.1, or a small network for a CPU."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""
    plane: bool = True
    """Whether to train two-dimensional features too, and draw them (Figure 2.2)."""
    plane_steps: int = 1200
    """Steps of a run in the plane; drops and annealing are stretched to them."""
    side_by_side: bool | None = None
    """Whether the seeds of a method train in one vmapped step; None: on accelerators.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.plane_steps < 1:
            raise ValueError(f"plane_steps must be positive, got {self.plane_steps}.")
        if not self.methods:
            raise ValueError(f"methods must name at least one of {', '.join(METHODS)}.")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Momentum, with decay of what has rank two or more, as the paper's recipe."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=kernels),
            optax.sgd(self.rate, self.momentum),
        )

    @property
    def name(self) -> str:
        """Of the result files."""
        plus = "_augmented" if self.augment else ""
        return f"classify_{self.preset}_{self.dataset}{plus}"

    def result(self, ending: str) -> pathlib.Path:
        """A result file, by the ending of its name."""
        # Not with_suffix, which would cut off what follows the dot of "table-2.2".
        return self.results / f"{self.name}{ending}"


_FITTING: dict[PresetName, tuple[_data.Name, ...]] = {
    "quick": ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"),
    "table-2.2": ("mnist", "fashion_mnist"),
    "table-2.3": ("cifar10",),
    "table-2.4": ("cifar100",),
}

# The authors' published lambda, for 18 000 steps. None is published for CIFAR-100.
_MNIST = (1000.0, 2.5e-5, 35.0, 0.0)
_CIFAR = (1000.0, 2e-5, 45.0, 0.0)
_CIFAR_AUGMENTED = (1000.0, 1e-5, 45.0, 0.0)


def preset(
    name: PresetName, dataset: _data.Name | None = None, augment: bool = False
) -> Config:
    """The recipe of a preset for a dataset, by default its own."""
    fitting = _FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(f"preset {name} is for {' or '.join(fitting)}, not {dataset}.")
    common = Config(preset=name, dataset=dataset, augment=augment)
    if dataset == "digits":
        return common
    is_cifar = dataset.startswith("cifar")
    paper = dataclasses.replace(
        common,
        steps=18_000,
        learning_rate=0.1,
        drops=(12_000, 15_000),
        annealing=_annealing(is_cifar, augment),
    )
    if name == "quick":
        steps = 4_000 if is_cifar else 2_000
        return dataclasses.replace(stretched(paper, steps), plane_steps=2 * steps)
    return dataclasses.replace(
        paper,
        network=dataset if is_cifar else "mnist",
        batch=256,
        plane_steps=18_000,
        checkpoint_every=1_000,
    )


def _annealing(is_cifar, augment):
    if is_cifar:
        return _CIFAR_AUGMENTED if augment else _CIFAR
    return _MNIST


def parse(arguments: list[str] | None = None) -> Config:
    """The command line's configuration: flags over the defaults of their preset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="quick", choices=_FITTING)
    first.add_argument("--dataset", choices=_FITTING["quick"])
    first.add_argument("--augment", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    default = preset(chosen.preset, chosen.dataset, chosen.augment)
    return tyro.cli(Config, args=arguments, default=default)


def architecture(
    config: Config, shape: tuple[int, int, int], *, in_plane: bool = False
) -> sx.networks.Architecture:
    """The network for images of a shape, or the one with two features to look at."""
    if config.network == "small":
        found = _small(shape)
    elif config.network == "mnist" and in_plane:
        found = sx.networks.TABLE_2_1["mnist_2d"]
    else:
        found = sx.networks.TABLE_2_1[config.network]
    return found._replace(features=2) if in_plane else found


def _small(shape: tuple[int, int, int]) -> sx.networks.Architecture:
    stage = sx.networks.Stage
    if shape[0] < 16:
        return sx.networks.Architecture(shape, (stage(16, 2), stage(32, 2)), 64)
    first = stage(16, stride=2, pool=False)
    return sx.networks.Architecture(shape, (first, stage(32), stage(64)), 64)
