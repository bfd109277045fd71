"""Recipes of image classifiers: the settings that several studies share."""

import dataclasses
import pathlib
from typing import Any, Literal, TypeVar

import jax
import optax

from experiments.common import runs

Precision = Literal["float32", "tf32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Recipe(runs.Config):
    """Settings of the training of an image classifier."""

    data_dir: pathlib.Path | None = None
    """Folder of the data; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    seeds: int = 5
    """Runs of each method, with seeds 0, 1, ..."""
    side_by_side: bool | None = None
    """Whether the seeds of a method train in one vmapped step; None: on an accelerator.
    """
    augment: bool = False
    """Pad by 4 pixels, crop at random, flip at random."""
    flip: bool = False
    """Flip at random, without cropping."""
    steps: int = 400
    """Optimization steps of a run; the settings below do not change with them."""
    batch: int = 64
    """Images in a step."""
    per_class: int | None = None
    """Images of each class in a step, for classes drawn at random; if None, a step
    takes the next images of an epoch, whatever their class."""
    learning_rate: float = 0.03
    """Learning rate at the start."""
    drops: tuple[int, ...] = (267, 333)
    """Steps at which the learning rate is divided by ten."""
    weight_decay: float = 5e-4
    """Decay of kernels and prototypes."""
    scale: float = 30.0
    """Scale s of the losses on cosines."""
    annealing: tuple[float, float, float, float] = (1000.0, 1.125e-3, 35.0, 0.0)
    """Base, gamma, power and minimum of lambda, by which a multiplicative margin is
    introduced gradually."""
    precision: Precision = "float32"
    """Precision of convolutions and products on an accelerator; with bfloat16,
    convolutions compute in that type, and products in TF32."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run continues."""

    @property
    def rate(self) -> optax.Schedule:
        """Learning rate by step."""
        return optax.piecewise_constant_schedule(
            self.learning_rate, dict.fromkeys(self.drops, 0.1)
        )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Gradient descent with momentum and decay of the kernels."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=kernels),
            optax.sgd(self.rate, momentum=0.9),
        )


_AnyRecipe = TypeVar("_AnyRecipe", bound=Recipe)


def stretched(config: _AnyRecipe, steps: int) -> _AnyRecipe:
    """The same recipe in another number of steps: rate and lambda fall by as much."""
    base, gamma, power, minimum = config.annealing
    factor = steps / config.steps
    return dataclasses.replace(
        config,
        steps=steps,
        drops=tuple(round(drop * factor) for drop in config.drops),
        annealing=(base, gamma / factor, power, minimum),
    )


def dissertation(config: _AnyRecipe, dataset: str) -> _AnyRecipe:
    """The recipe of the dissertation's Tables 2.2 to 2.4 for a dataset."""
    is_cifar = dataset.startswith("cifar")
    # The authors' published lambda; for CIFAR-100 none is published.
    gamma = (1e-5 if config.augment else 2e-5) if is_cifar else 2.5e-5
    return dataclasses.replace(
        config,
        steps=18_000,
        batch=256,
        learning_rate=0.1,
        drops=(12_000, 15_000),
        annealing=(1000.0, gamma, 45.0 if is_cifar else 35.0, 0.0),
        precision="tf32",
        checkpoint_every=1_000,
    )


def quick(config: _AnyRecipe, dataset: str) -> _AnyRecipe:
    """A recipe for a CPU: the defaults for digits, else the tables' in fewer steps."""
    if dataset == "digits":
        return config
    paper = dissertation(config, dataset)
    found = stretched(paper, 4_000 if dataset.startswith("cifar") else 2_000)
    return dataclasses.replace(
        found, batch=64, precision="float32", checkpoint_every=100
    )


def kernels(params: Any) -> Any:
    """Mask of the parameters that are neither a bias nor a scale."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def filters(params: Any) -> Any:
    """Mask of the filters of convolutions, except those of shortcuts."""
    return jax.tree.map_with_path(_is_filter, params)


def decaying(params: Any, *, has_length: bool, norms: bool) -> Any:
    """Mask of the parameters that decay.

    Args:
        params: The parameters.
        has_length: Whether the length of a filter counts. If not, filters do not decay.
        norms: Whether scales and shifts of normalizations decay too.
    """

    def decays(path, leaf):
        if _is_filter(path, leaf):
            return has_length
        return leaf.ndim >= 2 or (
            norms and not {"scale", "bias"}.isdisjoint(_names(path))
        )

    return jax.tree.map_with_path(decays, params)


def _is_filter(path: Any, leaf: Any) -> bool:
    return leaf.ndim == 4 and "shortcut" not in _names(path)


def _names(path: Any) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator="/").split("/")
