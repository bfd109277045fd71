"""What the energy experiment trains, and how: settings and their presets."""

import dataclasses
import hashlib
import pathlib
from functools import partial
from typing import Literal, NamedTuple

import optax

import sphax as sx
from experiments import _data, _descent, _energies, _networks, _results
from experiments._regularizers import REGULARIZERS, regularizer
from experiments._settings import Recipe, stretched
from experiments._trace import trace

PresetName = Literal["quick", "cnn-9"]
# Values kept of a run, about: curves of more points look the same.
_KEPT = 30


@dataclasses.dataclass(frozen=True)
class Run(Recipe):
    """How one classifier is trained."""

    regularizer: str = "decay"
    """What keeps its neurons apart."""
    strength: float = 1.0
    """Factor of the authors' weights."""
    decay_norms: bool = False
    """Whether scales and shifts of batch normalisation decay too."""

    @property
    def every(self) -> int:
        """Steps from one record of the energies to the next."""
        return -(-self.steps // _KEPT)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Momentum; decay and regulariser are parts of the gradient."""
        chosen = regularizer(self.regularizer)
        decays = partial(_descent.decaying, has_length=True, norms=self.decay_norms)
        decay = self.weight_decay if chosen.decays else 0.0
        return optax.chain(
            trace(_energies.of_params, every=self.every, steps=self.steps),
            optax.add_decayed_weights(decay, mask=decays),
            *chosen.gradients(self.strength),
            optax.sgd(self.rate, momentum=0.9),
        )


class Plan(NamedTuple):
    """How much of everything is done.

    Attributes:
        regularizers: What is compared.
        seeds: Runs of each.
        steps: Of the training; the learning rate falls at the same shares of it.
        width: Share of CNN-9's filters; None for the small network.
        long: Steps with regularisers whose authors trained for longer.
    """

    regularizers: tuple[str, ...]
    seeds: int
    steps: int
    width: float | None
    long: int | None = None


_FEWER = ("none", "decay", "orthogonality", "mhe-2", "mhe-2-half", "rp-comhe")
_PLANS: dict[tuple[PresetName, str], Plan] = {
    ("quick", "digits"): Plan(tuple(REGULARIZERS), 5, 300, None),
    ("quick", "cifar"): Plan(_FEWER, 1, 400, 0.125),
    ("cnn-9", "cifar"): Plan(tuple(REGULARIZERS), 1, 42_500, 1.0, 75_000),
}


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
    """Regularisers that keep neurons apart: error, and energies during training.

    Without arguments: scikit-learn's handwritten digits, 24 regularisers, five seeds,
    some minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of what is None come from: a recipe that a CPU can do, or
    that of the authors of MHE and CoMHE."""
    dataset: _data.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    regularizers: tuple[str, ...] | None = None
    """What to compare, by the names of experiments/_regularizers.py."""
    seeds: int | None = None
    """Runs of each, with seeds 0, 1, ..."""
    steps: int | None = None
    """Optimisation steps of a run."""
    width: float | None = None
    """Share of the filters of CNN-9, which CIFAR is trained with."""
    strength: float = 1.0
    """Factor of the authors' weights."""
    augment: bool = False
    """Pad by 4 pixels, crop at random, flip at random."""
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a killed run goes on."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""

    def __post_init__(self):
        super().__post_init__()
        if self.regularizers == ():
            raise ValueError("--regularizers must name at least one, such as mhe-2.")
        for name in self.regularizers or ():
            regularizer(name)  # raises if there is none of that name
        if self.preset == "cnn-9" and not self._is_of_cifar:
            raise ValueError(
                f"--preset cnn-9 is for cifar10 or cifar100, not {self.dataset}: give"
                " --dataset cifar100."
            )

    @property
    def plan(self) -> Plan:
        """What is chosen, and what preset and images choose."""
        kind = "cifar" if self._is_of_cifar else "digits"
        default = _PLANS[self.preset, kind]
        chosen = {name: getattr(self, name, None) for name in Plan._fields}
        if self.steps is not None:
            default = default._replace(long=None)
        return default._replace(
            **{name: value for name, value in chosen.items() if value is not None}
        )

    def run(self, name: str) -> Run:
        """The recipe of a regulariser: the same for all, but for the authors' steps."""
        plan = self.plan
        common = Run(
            regularizer=name,
            strength=self.strength,
            augment=self.augment,
            checkpoint_every=self.checkpoint_every,
        )
        if self._is_of_cifar:
            common = dataclasses.replace(
                common,
                steps=42_500,
                drops=(20_000, 30_000, 37_500),
                learning_rate=0.1,
                batch=128,
                decay_norms=True,
            )
        if plan.long and regularizer(name).is_long:
            return dataclasses.replace(
                common, steps=plan.long, drops=(30_000, 50_000, 65_000)
            )
        return stretched(common, plan.steps)

    def design(self, shape: tuple[int, int, int]) -> _networks.Design:
        """The network for images of a shape."""
        width = self.plan.width
        if width is None:
            return _networks.design("small", shape, 1.0)
        filters = [max(1, round(width * number)) for number in (64, 128, 256)]
        stages = tuple(sx.networks.Stage(number, 3) for number in filters)
        return sx.networks.Design(shape, stages, filters[-1])

    @property
    def digest(self) -> str:
        """Of all that the outcome of one run depends on, but its regulariser."""
        told = repr((self.dataset, self.plan.width, self.run("decay").digest()))
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Name of the result files."""
        return f"energy_{self.preset}_{self.dataset}"

    @property
    def _is_of_cifar(self) -> bool:
        return self.dataset.startswith("cifar")
