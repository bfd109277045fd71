"""The settings of the study of orthogonal training, its methods and presets."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

import sphax as sx
from experiments.common import images, runs

PresetName = Literal["mlp", "cnn", "gcn", "pointnet", "cnn-6"]
DatasetName = Literal[
    images.Name, "citations", "cora", "citeseer", "pubmed", "shapes", "modelnet40"
]
MethodName = Literal[
    "plain", "gs", "hr", "ls", "cp", "ogd", "relaxed", "s-opt", "oft", "boft", "poet"
]
_IMAGES: tuple[DatasetName, ...] = get_args(images.Name)
# By preset, the first being the default. For CNN-6, digits are too small.
FITTING: dict[PresetName, tuple[DatasetName, ...]] = {
    "mlp": _IMAGES,
    "cnn": _IMAGES,
    "gcn": ("citations", "cora", "citeseer", "pubmed"),
    "pointnet": ("shapes", "modelnet40"),
    "cnn-6": ("cifar100", "cifar10", "mnist", "fashion_mnist"),
}
_BLOCK = 32
_RADIX, _FACTORS = 4, 2


class Method(NamedTuple):
    """What is trained in place of the kernels of hidden layers.

    Attributes:
        title: Its name in tables.
        training: Makes the reparameterization; called with ``where`` and options.
        released: Options with which it is that of its authors' code.
        is_descent: Whether rotations are params themselves, with another optimizer.
        is_redrawn: Whether rotations are absorbed and resampled every so many steps.
        divisor: Of the dimensions of all neurons that it can rotate.
    """

    title: str
    training: Callable[..., sx.reparam.Reparameterization]
    released: Mapping[str, Any] = MappingProxyType({})
    is_descent: bool = False
    is_redrawn: bool = False
    divisor: int = 1


def _plain(**_: Any) -> sx.reparam.Reparameterization:
    """Params as they are, which all others are compared with."""
    return sx.reparam.Reparameterization(
        init=lambda key, params: (params, {}),
        apply=lambda free, frozen: free,
        advance=lambda key, free, frozen: (free, frozen, None),
        penalty=lambda free: jnp.zeros([]),
    )


def _given(make: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Starts from the neurons of the network, as all methods do."""
    return partial(make, neuron_init="given", **options)


def _opt(title: str, method: str) -> Method:
    """OPT by a map onto the orthogonal matrices; released, of raw normal arrays."""
    training = _given(sx.reparam.orthogonal, method=method)
    return Method(f"OPT, {title}", training, {"scale": 1.0, "rotation_init": "normal"})


_UNSCALED = {"scale": 1.0}
METHODS: dict[MethodName, Method] = {
    "plain": Method("plain", _plain),
    "gs": _opt("Gram-Schmidt", "gram_schmidt"),
    "hr": _opt("Householder", "householder"),
    "ls": _opt("Löwdin", "lowdin"),
    "cp": _opt("Cayley", "cayley"),
    "ogd": Method(
        "OPT, orthogonal descent",
        _given(sx.reparam.orthogonal, method="identity"),
        is_descent=True,
    ),
    "relaxed": Method("relaxed OPT", _given(sx.reparam.relaxed_orthogonal)),
    "s-opt": Method(
        "S-OPT", _given(sx.reparam.stochastic_orthogonal), _UNSCALED, is_redrawn=True
    ),
    "oft": Method("OFT", partial(sx.reparam.oft, block_size=_BLOCK), _UNSCALED),
    "boft": Method(
        "BOFT",
        partial(sx.reparam.boft, block_size=_RADIX, factors=_FACTORS, pattern="digits"),
        _UNSCALED,
        divisor=_RADIX**_FACTORS,
    ),
    "poet": Method(
        "POET",
        _given(sx.reparam.poet, block_size=_BLOCK, method="cayley"),
        _UNSCALED,
        is_redrawn=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Orthogonal training and its descendants: energies, losses and errors.

    Without arguments: a perceptron on scikit-learn's handwritten digits, eleven
    methods, five seeds, some minutes on two cores.

    With drops, maps and optimizer are those of the authors of OPT, momentum with
    learning rates that fall at these steps. Without any, it is Adam, with rates that
    fall to zero along a cosine.
    """

    preset: PresetName = "mlp"
    """What learns, and where the defaults of everything else come from: by recipes that
    a CPU can do, a perceptron or a convolutional network on images, a graph convolution
    network, or a PointNet; or CNN-6 by the recipe of the authors of OPT."""
    dataset: DatasetName = "digits"
    """What it learns from. "digits" is embedded, "citations" and "shapes" are
    generated; the others are read from --data-dir."""
    data_dir: pathlib.Path | None = None
    """Folder of the images prepared for TensorFlow Datasets (TFDS_DATA_DIR or
    ~/tensorflow_datasets if None), of Planetoid's ind.*, or of ModelNet40's meshes."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """What is trained in place of the kernels of hidden layers."""
    seeds: int = 5
    """Runs of each method, with seeds 0, 1, ..."""
    steps: int = 400
    """Optimization steps of a run; drops do not move with them."""
    batch: int = 64
    """Examples in a step; a graph has all of its labeled nodes in each."""
    width: float = 0.25
    """Share of the published widths: 64 filters for the CNN, 16 units for the graph
    convolution network, 64 to 1024 for PointNet; 512 for the perceptron."""
    learning_rate: float = 0.01
    """Learning rate of all params but rotations, at the start."""
    rotation_rate: float = 0.03
    """Learning rate of the arrays that rotations are made from."""
    descent_rate: float = 0.5
    """Learning rate of rotations that are params themselves."""
    weight_decay: float = 5e-4
    """Decay of kernels of hidden layers, or with drops of all, as published."""
    redrawn_every: int = 20
    """Steps between resamplings of the rotations, of methods that do it."""
    drops: tuple[int, ...] = ()
    """Steps at which learning rates fall."""
    precision: Literal["float32", "tf32"] = "float32"
    """Precision of convolutions and products on an accelerator."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    study: ClassVar[str] = "opt"
    # The preset counts: it is the network.
    free: ClassVar[tuple[str, ...]] = tuple(
        name for name in runs.Config.free if name != "preset"
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError("--methods must have at least one name, such as plain.")
        fitting = FITTING[self.preset]
        if self.dataset not in fitting:
            raise ValueError(
                f"--preset {self.preset} is for {' or '.join(fitting)}, not"
                f" {self.dataset}: give --dataset {fitting[0]}."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.dataset}"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        return f"opt --preset {self.preset} --dataset {self.dataset}"

    @property
    def method(self) -> Method:
        """The method of a run."""
        return METHODS[self.methods[0]]

    @property
    def training(self) -> sx.reparam.Reparameterization:
        """What is trained in place of the kernels of hidden layers."""
        divisor = self.method.divisor

        def where(path: str, kernel: jax.Array) -> bool:
            dimensions = kernel.size // kernel.shape[-1]
            return is_hidden(path) and dimensions % divisor == 0

        options = self.method.released if self.drops else {}
        return self.method.training(where=where, allow_large=True, **options)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, or with drops momentum as in the authors' code; descent beside it."""
        rotations = sx.reparam.rotation_mask

        def falling(rate: float, factor: float) -> optax.Schedule:
            if not self.drops:
                return optax.cosine_decay_schedule(rate, self.steps)
            drops = dict.fromkeys(self.drops, factor)
            return optax.piecewise_constant_schedule(rate, drops)

        rate, is_released = falling(self.learning_rate, 0.1), bool(self.drops)
        # As released, everything beside orthogonal descent decays by a tenth.
        share = 0.1 if is_released and self.method.is_descent else 1.0
        decaying = partial(_decaying, as_released=is_released)
        decay = optax.add_decayed_weights(share * self.weight_decay, mask=decaying)
        if is_released:
            optimizer = optax.chain(decay, optax.sgd(rate, momentum=0.9))
        else:
            # Not by `optax.partition`, in whose state the moments of rotations have no
            # place to be reset in.
            ratio = optax.scale(self.rotation_rate / self.learning_rate)
            optimizer = optax.chain(
                decay,
                optax.scale_by_adam(),
                optax.masked(ratio, rotations),
                optax.scale_by_learning_rate(rate),
            )
        if not self.method.is_descent:
            return optimizer
        descent = sx.optim.orthogonal_descent(falling(self.descent_rate, 0.2))
        return optax.partition({True: descent, False: optimizer}, rotations)


def is_hidden(path: str) -> bool:
    """Whether a parameter, by its path, is not of the output layer."""
    return not path.startswith("classifier")


def _decaying(free: Any, *, as_released: bool) -> Any:
    """Mask of kernels of hidden layers that are trained; as released, of others too."""

    def is_rotated(leaf):
        return isinstance(leaf, sx.reparam.Rotations)

    def decays(path, leaf):
        if is_rotated(leaf):
            # Never the lengths of neurons.
            raw = sx.reparam.rotation_mask(leaf)
            return jax.tree.map(lambda is_raw: is_raw and as_released, raw)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim >= 2 and (as_released or is_hidden(name))

    return jax.tree.map_with_path(decays, free, is_leaf=is_rotated)


def preset(name: PresetName, dataset: DatasetName | None = None) -> Config:
    """The recipe of a preset for a dataset, by default its first."""
    dataset = dataset or FITTING[name][0]
    seeds = 3 if dataset in _IMAGES[1:] else 5
    common = Config(preset=name, dataset=dataset, seeds=seeds)
    changes: dict[PresetName, dict[str, Any]] = {
        "cnn": dict(steps=300),
        "gcn": dict(width=1.0, descent_rate=5.0),
        "pointnet": dict(steps=200, batch=32, width=0.125, descent_rate=0.1),
        "cnn-6": dict(
            seeds=1,
            steps=75_000,
            batch=128,
            width=1.0,
            learning_rate=0.1,
            rotation_rate=0.1,
            descent_rate=0.02,
            redrawn_every=750,
            drops=(30_000, 50_000, 65_000),
            precision="tf32",
            checkpoint_every=1_000,
        ),
    }
    return dataclasses.replace(common, **changes.get(name, {}))


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield preset("mlp")
    yield from (preset("cnn", dataset) for dataset in ("digits", "mnist", "cifar10"))
    yield from (preset("gcn", dataset) for dataset in FITTING["gcn"])
    yield from (preset("pointnet", dataset) for dataset in FITTING["pointnet"])
    yield preset("cnn-6")


planned = runs.of_methods
