"""The settings of the classification study, its presets, and the runs of both."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import optax

import sphax as sx
from experiments.common import images, networks, recipes, runs
from experiments.common.margins import MARGINS, MarginName
from experiments.common.operators import operator

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
# Those of SphereNet's published results, and some of DCNet's.
SPHERENET = (
    "plain",
    "sphere-linear",
    "sphere-cosine",
    "sphere-sigmoid",
    "sphere-learned-sigmoid",
)
DCNET = (
    "tanh-cosine",
    "ball-cosine",
    "linear-cosine",
    "log-cosine",
    "linear-square-cosine",
)
# Drawn in the plane, as in Figure 2.2.
PLANE: tuple[MarginName, ...] = ("softmax", "l-softmax-2", "l-softmax-3", "l-softmax-4")


@dataclasses.dataclass(frozen=True)
class Config(recipes.Recipe):
    """Any network with any operator, by softmax with and without margins, on images.

    Without arguments: scikit-learn's handwritten digits, seven losses, five seeds,
    under three minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a recipe that a CPU can do; the
    dissertation's for Table 2.2 (MNIST), 2.3 (CIFAR-10), 2.4 (CIFAR-100); operators by
    a recipe that a CPU can do; or the published ones of three networks of operators."""
    dataset: images.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    methods: tuple[MarginName, ...] = tuple(MARGINS)
    """Losses to train with."""
    operator: tuple[str, ...] = ("plain",)
    """Operators in place of convolutions: plain, sphere-learned-sigmoid, sphere-norm,
    or any MAGNITUDE-ANGULAR[-weighted|-nonlinear], such as tanh-cosine."""
    network: str = "small"
    """A small network for a CPU, OPT's cnn-6, a column of the dissertation's Table 2.1
    (mnist, cifar10, cifar100), or one of sphax.networks.BACKBONES."""
    width: float = 1.0
    """Share of the network's published filters."""
    gray: bool = False
    """Whether pixels are centered on 127.5, and not on the mean training image."""
    label_smoothing: float = 0.0
    """Share of the target that all classes have in common."""
    orthogonality: float = 0.0
    """Weight of an orthogonality penalty of filters whose length does not count."""
    of_directions: bool = False
    """Whether that penalty is of their directions alone."""
    decay_norms: bool = False
    """Whether scales and shifts of batch normalization decay too. Filters whose length
    does not count never do."""
    update: Literal["momentum", "adam"] = "momentum"
    """How gradients become updates."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""
    plane: bool = True
    """Whether to train two-dimensional features too, and draw them (Figure 2.2)."""
    plane_steps: int = 1200
    """Steps of a run in the plane; drops and annealing are stretched to them."""

    study: ClassVar[str] = "classify"
    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "plane_steps")

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError(
                f"--methods must name at least one of {', '.join(MARGINS)}."
            )
        if not self.operator:
            raise ValueError("--operator must have at least one name, such as plain.")
        for name in self.operator:
            operator(name)  # raises if it is not a name
        networks.check(self.network)

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}" + "-augmented" * self.augment

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["classify", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        words += [f"--dataset {self.dataset}"] * (self.dataset != "digits")
        return " ".join(words + ["--augment"] * self.augment)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Momentum or Adam, with decay and orthogonality as parts of the gradient.

        If the length of a filter counts, filters decay like other kernels; if not, they
        are kept orthogonal.
        """
        has_length = operator(self.operator[0]).has_length
        decays = partial(
            recipes.decaying, has_length=has_length, norms=self.decay_norms
        )
        parts = [optax.add_decayed_weights(self.weight_decay, mask=decays)]
        if self.orthogonality and not has_length:
            penalty = sx.optim.add_orthogonality_gradient(
                self.orthogonality,
                normalize=self.of_directions,
                precision="highest",
                mask=recipes.filters,
            )
            parts.append(penalty)
        is_adam = self.update == "adam"
        update = (
            optax.adam(self.rate) if is_adam else optax.sgd(self.rate, self.momentum)
        )
        return optax.chain(*parts, update)


FITTING: dict[PresetName, tuple[images.Name, ...]] = {
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
    if name.startswith("table"):
        return dataclasses.replace(
            recipes.dissertation(common, dataset),
            network=dataset if dataset.startswith("cifar") else "mnist",
            plane_steps=18_000,
        )
    if name not in ("quick", "operators"):
        return _operators(common)
    if (name, dataset) == ("operators", "cifar10"):
        # SphereNet-9, narrow and in fewer steps.
        narrow = dataclasses.replace(
            _operators(common),
            operator=(*SPHERENET, DCNET[0]),
            width=0.125,
            batch=64,
            seeds=1,
            precision="float32",
            checkpoint_every=100,
        )
        return recipes.stretched(narrow, 400)
    quick = recipes.quick(common, dataset)
    if dataset != "digits":
        quick = dataclasses.replace(quick, plane_steps=2 * quick.steps)
    if name == "quick":
        return quick
    return dataclasses.replace(
        quick, methods=("softmax",), plane=False, operator=(*SPHERENET, *DCNET)
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
        precision="tf32",
        checkpoint_every=1_000,
    )
    if common.preset in ("operators", "spherenet-9"):
        return spherenet
    # Trained as SphereNet-9: its authors' schedule is not known to us.
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


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    for name, datasets in FITTING.items():
        yield from (preset(name, dataset) for dataset in datasets)
    yield preset("table-2.3", augment=True)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a method after each other."""
    found = []
    for name in config.operator:
        for method in config.methods:
            one = dataclasses.replace(
                config, operator=(name,), methods=(method,), plane=False
            )
            title = method if name == "plain" else f"{name}-{method}"
            found += [
                runs.Run(one, config.group, title, seed, one.steps)
                for seed in range(config.seeds)
            ]
    for method in PLANE:
        if config.plane and method in config.methods:
            one = dataclasses.replace(
                config, operator=config.operator[:1], methods=(method,)
            )
            one = recipes.stretched(one, config.plane_steps)
            title = f"plane-{method}"
            found.append(runs.Run(one, config.group, title, 0, one.steps))
    return found
