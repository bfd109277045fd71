"""What the classification experiment trains, and how: settings and their presets."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import optax

from experiments import _command_line, _data, _descent, _networks, _results
from experiments._methods import METHODS, MethodName
from experiments._operators import DCNET, SPHERENET, operator
from experiments._settings import Recipe, stretched

PresetName = Literal[
    "quick",
    "table-2.2",
    "table-2.3",
    "table-2.4",
    "operators",
    "spherenet-9",
    "sphereresnet-32",
    "dcnet-32",
]


@dataclasses.dataclass(frozen=True)
class Config(_results.Config, Recipe):
    """Any network with any operator, by softmax with and without margins, on images.

    Without arguments: scikit-learn's handwritten digits, seven losses, five seeds,
    under three minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do; the
    dissertation's for Table 2.2 (MNIST), 2.3 (CIFAR-10), 2.4 (CIFAR-100); operators by
    a recipe that a CPU can do; or the published ones of three networks of operators."""
    dataset: _data.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Losses to train with."""
    operator: tuple[str, ...] = ("plain",)
    """What stands in place of convolutions: plain, sphere-learned-sigmoid, sphere-norm,
    or any MAGNITUDE-ANGULAR[-weighted|-nonlinear], such as tanh-cosine."""
    network: _networks.NetworkName = "small"
    """A small network for a CPU, a column of the dissertation's Table 2.1, or one of
    sphax.networks.BACKBONES."""
    width: float = 1.0
    """Share of the network's published filters."""
    gray: bool = False
    """Whether pixels are centred on 127.5, and not on the mean training image."""
    label_smoothing: float = 0.0
    """Share of the target that all classes have in common."""
    orthogonality: float = 0.0
    """Weight of an orthogonality penalty of filters whose length does not count."""
    of_directions: bool = False
    """Whether that penalty is of their directions alone."""
    decay_norms: bool = False
    """Whether scales and shifts of batch normalisation decay too. Filters whose length
    does not count never do."""
    update: _descent.Update = "momentum"
    """How gradients become updates."""
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
        if not self.methods:
            raise ValueError(
                f"--methods must name at least one of {', '.join(METHODS)}."
            )
        if not self.operator:
            raise ValueError("--operator must have at least one name, such as plain.")
        for name in self.operator:
            operator(name)  # raises if there is none of that name

    @property
    def conv(self) -> Callable[..., Any]:
        """Constructor of the network's convolutions, for the one operator of a run."""
        return operator(self.operator[0]).conv

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Momentum or Adam, with decay and orthogonality as parts of the gradient."""
        is_adam = self.update == "adam"
        return _descent.regularized(
            optax.adam(self.rate) if is_adam else optax.sgd(self.rate, self.momentum),
            has_length=operator(self.operator[0]).has_length,
            weight_decay=self.weight_decay,
            decay_norms=self.decay_norms,
            orthogonality=self.orthogonality,
            of_directions=self.of_directions,
        )

    @property
    def name(self) -> str:
        """Name of the result files."""
        is_of_margins = self.preset == "quick" or self.preset.startswith("table")
        compared = is_of_margins and self.operator != ("plain",)
        plus = "_operators" * compared + "_augmented" * self.augment
        return f"classify_{self.preset}_{self.dataset}{plus}"


_FITTING: dict[PresetName, tuple[_data.Name, ...]] = {
    "quick": ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"),
    "table-2.2": ("mnist", "fashion_mnist"),
    "table-2.3": ("cifar10",),
    "table-2.4": ("cifar100",),
    "operators": ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"),
    "spherenet-9": ("cifar10",),
    "sphereresnet-32": ("cifar10",),
    "dcnet-32": ("cifar100",),
}


def preset(
    name: PresetName, dataset: _data.Name | None = None, augment: bool = False
) -> Config:
    """The recipe of a preset for a dataset, by default its own."""
    fitting = _FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(
            f"--preset {name} is for {' or '.join(fitting)}, not {dataset}: give"
            f" --dataset {fitting[0]}."
        )
    common = Config(preset=name, dataset=dataset, augment=augment)
    if name == "quick":
        return _quick(common)
    if name == "operators":
        return _quick_operators(common)
    return _margins(common) if name.startswith("table") else _operators(common)


def _quick(common: Config) -> Config:
    """What a CPU can do: Table 2.2 to 2.4 in fewer steps."""
    if common.dataset == "digits":
        return common
    steps = 4_000 if common.dataset.startswith("cifar") else 2_000
    paper = dataclasses.replace(_margins(common), network="small", batch=64)
    quick = stretched(paper, steps)
    return dataclasses.replace(quick, plane_steps=2 * steps, checkpoint_every=100)


def _margins(common: Config) -> Config:
    """The dissertation's recipe for Tables 2.2 to 2.4."""
    is_cifar = common.dataset.startswith("cifar")
    # The authors' published lambda. None is published for CIFAR-100.
    gamma = (1e-5 if common.augment else 2e-5) if is_cifar else 2.5e-5
    return dataclasses.replace(
        common,
        network=common.dataset if is_cifar else "mnist",
        steps=18_000,
        batch=256,
        learning_rate=0.1,
        drops=(12_000, 15_000),
        annealing=(1000.0, gamma, 45.0 if is_cifar else 35.0, 0.0),
        plane_steps=18_000,
        checkpoint_every=1_000,
    )


def _quick_operators(common: Config) -> Config:
    """What a CPU can do: on CIFAR-10 SphereNet-9, narrow and in fewer steps."""
    if common.dataset == "cifar10":
        narrow = dataclasses.replace(
            _operators(common),
            operator=(*SPHERENET, DCNET[0]),
            width=0.125,
            batch=64,
            seeds=1,
        )
        return dataclasses.replace(stretched(narrow, 400), checkpoint_every=100)
    return dataclasses.replace(
        _quick(common), methods=("softmax",), plane=False, operator=(*SPHERENET, *DCNET)
    )


def _operators(common: Config) -> Config:
    """The recipes of the authors of SphereNet and DCNet."""
    spherenet = dataclasses.replace(
        common,
        methods=("softmax",),
        plane=False,
        operator=SPHERENET,
        network="vgg9",
        gray=True,
        flip=True,
        steps=64_000,
        batch=128,
        update="adam",
        learning_rate=1e-3,
        drops=(34_000, 54_000),
        decay_norms=True,
        orthogonality=1e-4,
        label_smoothing=0.01,
        checkpoint_every=1_000,
    )
    if common.preset in ("operators", "spherenet-9"):
        return spherenet
    # Trained as SphereNet-9: its own schedule is not known to us.
    residual = dataclasses.replace(spherenet, augment=True, network="sphereresnet32")
    if common.preset == "sphereresnet-32":
        return dataclasses.replace(residual, operator=SPHERENET[:2])
    return dataclasses.replace(
        residual,
        operator=("plain", *DCNET),
        network="dcnet_resnet32",
        steps=45_000,  # the drops are published, the end is not known to us
        drops=(20_000, 30_000, 37_500, 42_500),
        orthogonality=5e-6,
        of_directions=True,
    )


def parse(arguments: list[str] | None = None) -> Config:
    """The command line's configuration: flags over the defaults of their preset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?", default="quick")
    first.add_argument("--dataset", nargs="?")
    first.add_argument("--augment", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    default = preset("quick")
    # What has no such name is refused with all else.
    if chosen.preset in _FITTING and chosen.dataset in (None, *_FITTING["quick"]):
        default = preset(chosen.preset, chosen.dataset, chosen.augment)
    return _command_line.parse("experiments.classify", Config, arguments, default)


def architecture(
    config: Config, shape: tuple[int, int, int], *, in_plane: bool = False
) -> _networks.Design:
    """The network for images of a shape, or the one with two features to look at."""
    return _networks.design(config.network, shape, config.width, in_plane=in_plane)
