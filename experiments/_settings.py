"""What every experiment that trains lets its user set, and how a setting is named."""

import abc
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax
from flax import nnx

from experiments._results import ELSEWHERE


@dataclasses.dataclass(frozen=True)
class Recipe(abc.ABC):
    """How one run of one method is trained, and on what."""

    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    seeds: int = 5
    """Runs of each method, with seeds 0, 1, ..."""
    augment: bool = False
    """Pad by 4 pixels, crop at random, flip at random."""
    flip: bool = False
    """Flip at random, without cropping."""
    steps: int = 400
    """Optimisation steps of a run; the settings below do not move with them."""
    batch: int = 64
    """Images in a step."""
    per_class: int | None = None
    """Images of one class in a step, of classes drawn at random; if None, images come
    in epochs, whatever their class."""
    learning_rate: float = 0.03
    """Learning rate at the start."""
    drops: tuple[int, ...] = (267, 333)
    """Steps at which the learning rate is divided by ten."""
    weight_decay: float = 5e-4
    """Decay of kernels and prototypes."""
    scale: float = 30.0
    """Scale s of the losses on cosines."""
    annealing: tuple[float, float, float, float] = (1000.0, 1.125e-3, 35.0, 0.0)
    """Base, gamma, power and minimum of lambda, with which a multiplicative margin is
    approached."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    @property
    def rate(self) -> optax.Schedule:
        """Learning rate by step."""
        return optax.piecewise_constant_schedule(
            self.learning_rate, dict.fromkeys(self.drops, 0.1)
        )

    @property
    def conv(self) -> Callable[..., Any]:
        """Constructor of the network's convolutions."""
        return nnx.Conv

    @property
    @abc.abstractmethod
    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into updates."""

    def without(self, *names: str) -> dict[str, Any]:
        """All settings but these, by name."""
        settings = dataclasses.asdict(self)
        return {name: value for name, value in settings.items() if name not in names}

    def digest(self, *names: str) -> str:
        """Of what a run depends on, all but ``names`` and where its files go."""
        told = repr(self.without(*ELSEWHERE, *names))
        return hashlib.sha256(told.encode()).hexdigest()[:8]


def kernels(params: Any) -> Any:
    """Which parameters decay: those that are neither a bias nor a scale."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


_AnyRecipe = TypeVar("_AnyRecipe", bound=Recipe)


def stretched(config: _AnyRecipe, steps: int) -> _AnyRecipe:
    """The same recipe in another number of steps: rate and lambda fall as much."""
    base, gamma, power, minimum = config.annealing
    factor = steps / config.steps
    return dataclasses.replace(
        config,
        steps=steps,
        drops=tuple(round(drop * factor) for drop in config.drops),
        annealing=(base, gamma / factor, power, minimum),
    )
