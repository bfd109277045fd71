"""What the robustness experiment trains and attacks, and how far it goes."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import optax

from experiments import _data, _operators, _results
from experiments._attackers import Threat
from experiments._settings import Recipe, kernels, stretched

TrainingName = Literal["natural", "adversarial"]


@dataclasses.dataclass(frozen=True)
class Run(Recipe):
    """How one classifier is trained."""

    operator: str = "plain"
    """What stands in place of its convolutions."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""

    @property
    def conv(self) -> Callable[..., Any]:
        """Constructor of the operator."""
        return _operators.operator(self.operator).conv

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """As the quick recipe of the classification experiment has it."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=kernels),
            optax.sgd(self.rate, self.momentum),
        )


class Size(NamedTuple):
    """How much of everything a set of images allows on a CPU.

    Attributes:
        operators: What is compared.
        seeds: Runs of each.
        steps: Of the training.
        learning_rate: At its start.
        eps: Radius of the attacks.
        images: Test images that are attacked.
        restarts: Of PGD.
    """

    operators: tuple[str, ...]
    seeds: int
    steps: int
    learning_rate: float
    eps: float
    images: int
    restarts: int


_OPERATORS = ("plain", "sphere-cosine", "ball-cosine", "tanh-cosine", "log-cosine")
_FEWER = ("plain", "sphere-cosine", "tanh-cosine", "log-cosine")

# 8/255 is the protocol's. Of the digits, with 16 steps from black to white, it is half
# of one; 0.1 is one and a half: noise of it costs nothing, and people still read them.
_DIGITS = Size(
    operators=_OPERATORS,
    seeds=3,
    steps=400,
    learning_rate=0.03,
    eps=0.1,
    images=384,
    restarts=2,
)
_CIFAR = Size(
    operators=_FEWER,
    seeds=1,
    steps=400,
    learning_rate=0.1,
    eps=8 / 255,
    images=1_000,
    restarts=1,
)
SIZES: dict[_data.Name, Size] = {
    "digits": _DIGITS,
    "mnist": _CIFAR._replace(eps=0.3),
    "fashion_mnist": _CIFAR._replace(eps=0.1),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
    """Decoupled networks under attack, trained naturally and on attacks.

    Without arguments: scikit-learn's handwritten digits, five operators, three seeds,
    some minutes on two cores.
    """

    dataset: _data.Name = "digits"
    """Images, and where the defaults of what is None come from. "digits" is embedded;
    the others must have been prepared for TensorFlow Datasets."""
    operators: tuple[str, ...] | None = None
    """Operators to compare, by the names of experiments/_operators.py."""
    trainings: tuple[TrainingName, ...] = ("natural", "adversarial")
    """On the images as they are, on attacks of PGD on them, or each."""
    seeds: int | None = None
    """Runs of each operator and training, with seeds 0, 1, ..."""
    steps: int | None = None
    """Optimisation steps of a run."""
    eps: float | None = None
    """Radius of the attacks, in training too; a pixel is in [0, 1]."""
    images: int | None = None
    """Test images that are attacked, the first ones."""
    restarts: int | None = None
    """Random starts of PGD, the strongest of which counts for each image."""
    inner_steps: int = 3
    """Steps of the attack in adversarial training."""
    checked: int = 128
    """Of the images attacked, those that the checks for masked gradients take."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("operators", "trainings"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} must name at least one.")
        if self.eps is not None and self.eps > 1.0:
            raise ValueError(
                "--eps must be in (0, 1], as a pixel is, got"
                f" {self.eps}; divide one of 0 to 255 by 255."
            )
        for name in self.operators or ():
            _operators.operator(name, "--operators")

    @property
    def size(self) -> Size:
        """What is chosen, and what the images choose."""
        default = SIZES[self.dataset]
        chosen = {name: getattr(self, name, None) for name in Size._fields}
        return default._replace(
            **{name: value for name, value in chosen.items() if value is not None}
        )

    @property
    def threat(self) -> Threat:
        """Attacks of full length."""
        return Threat(self.size.eps, self.size.restarts)

    @property
    def digest(self) -> str:
        """Of all that the outcome of one run depends on."""
        own = self.inner_steps, self.checked, self.size._replace(operators=(), seeds=0)
        told = repr((self.dataset, self.run("plain").digest(), own))
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def run(self, operator: str) -> Run:
        """The recipe of an operator, the same for all."""
        common = Run(
            learning_rate=self.size.learning_rate,
            operator=operator,
        )
        return stretched(common, self.size.steps)

    @property
    def name(self) -> str:
        """Name of the result files."""
        return f"robustness_{self.dataset}"
