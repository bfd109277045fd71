"""The settings of the study of optimizers, its methods and presets."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import optax

import sphax as sx
from experiments.common import images, runs

PresetName = Literal["mlp"]
FITTING: dict[PresetName, tuple[images.Name, ...]] = {
    "mlp": ("digits", "mnist", "fashion_mnist")
}
MethodName = Literal[
    "adam",
    "sgd",
    "muon",
    "riemannian-adam",
    "orthogonal-descent",
    "adam-h",
    "muon-h",
    "pion",
    "pion-series",
    "spectral-sphere",
    "muon-sphere",
    "stiefel-muon",
]


class Method(NamedTuple):
    """What moves the kernels of hidden layers.

    Attributes:
        title: Its name in tables.
        make: Makes the optimizer; called with a schedule of the learning rate.
        is_orthonormal: Whether kernels start from the nearest ones with orthonormal
            neurons.
    """

    title: str
    make: Callable[[optax.Schedule], optax.GradientTransformation]
    is_orthonormal: bool = False


def _hyperball(base: optax.GradientTransformation) -> Callable[[optax.Schedule], Any]:
    """The steps of another optimizer, whose own rate has no effect, at fixed norm."""
    return lambda rate: optax.chain(base, sx.optim.project_to_norm(rate))


# At the norms of the first kernels, as all others but those of frames.
_spectral_sphere = partial(sx.optim.spectral_sphere, radius="initial")
METHODS: dict[MethodName, Method] = {
    "adam": Method("Adam", optax.adam),
    "sgd": Method("SGD, momentum", partial(optax.sgd, momentum=0.9)),
    "muon": Method("Muon", optax.contrib.muon),
    "riemannian-adam": Method("Riemannian Adam, sphere", sx.optim.riemannian_adam),
    "orthogonal-descent": Method(
        "orthogonal descent", sx.optim.orthogonal_descent, is_orthonormal=True
    ),
    "adam-h": Method("Hyperball of Adam", _hyperball(optax.adam(1.0))),
    "muon-h": Method("Hyperball of Muon", _hyperball(optax.contrib.muon(1.0))),
    "pion": Method("Pion, Cayley", sx.optim.pion),
    "pion-series": Method("Pion, series", partial(sx.optim.pion, rotation="series")),
    "spectral-sphere": Method("spectral sphere", _spectral_sphere),
    "muon-sphere": Method("MuonSphere", partial(_spectral_sphere, multiplier="zero")),
    "stiefel-muon": Method("Stiefel Muon", sx.optim.stiefel_muon, is_orthonormal=True),
}


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Optimizers on spheres and orthogonal matrices, beside Adam, Muon and SGD.

    Without arguments: a perceptron on scikit-learn's handwritten digits, twelve
    optimizers at eight learning rates, eight seeds, five minutes on two cores.

    An optimizer moves the kernels of hidden layers; everything else is moved by Adam at
    one learning rate. Each run trains at all rates. The table has the errors on the
    test images at the rate that is best, in the mean over the seeds, on images that
    were held out of the training.
    """

    preset: PresetName = "mlp"
    """What learns: a perceptron with two hidden layers."""
    dataset: images.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    data_dir: pathlib.Path | None = None
    """Folder of the data; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """What moves the kernels of hidden layers."""
    seeds: int = 8
    """Runs of each method, with seeds 0, 1, ..."""
    steps: int = 400
    """Optimization steps at each learning rate."""
    batch: int = 64
    """Images in a step."""
    width: int = 32
    """Units of a hidden layer."""
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
    """Learning rates at the start, which fall to zero along a cosine."""
    other_rate: float = 0.01
    """Learning rate of Adam for biases and the output layer."""
    validation: float = 0.2
    """Share of the training images that chooses the learning rate."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    study: ClassVar[str] = "optimizers"

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError("--methods must have at least one name, such as adam.")
        if not self.validation < 1.0:
            raise ValueError(
                f"--validation must be a share below 1, got {self.validation}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        is_default = self.dataset == "digits"
        return "optimizers" + f" --dataset {self.dataset}" * (not is_default)

    @property
    def method(self) -> Method:
        """The method of a run."""
        return METHODS[self.methods[0]]

    def optimizer(self, rate: jax.typing.ArrayLike) -> optax.GradientTransformation:
        """The method at a learning rate, which may be traced, and Adam for the rest."""
        fall = optax.cosine_decay_schedule(1.0, self.steps)
        other = optax.cosine_decay_schedule(self.other_rate, self.steps)
        hidden = self.method.make(lambda count: rate * fall(count))
        return optax.partition({True: hidden, False: optax.adam(other)}, is_hidden)


def is_hidden(params: Any) -> Any:
    """Mask of the kernels of hidden layers."""

    def decide(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim == 2 and not name.startswith("classifier")

    return jax.tree.map_with_path(decide, params)


def preset(name: PresetName, dataset: images.Name | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    fitting = FITTING[name]
    dataset = dataset or fitting[0]
    if dataset not in fitting:
        raise ValueError(
            f"--preset {name} is for {' or '.join(fitting)}, not {dataset}: give"
            f" --dataset {fitting[0]}."
        )
    return Config(preset=name, dataset=dataset)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield preset("mlp")
    yield preset("mlp", "mnist")


planned = runs.of_methods
