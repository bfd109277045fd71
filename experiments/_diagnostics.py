"""Classifiers trained to be looked at: what ``confusion`` and ``hardness`` share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import tyro
from flax import nnx
from tqdm import tqdm

import sphax as sx
from experiments import (
    _checkpoints,
    _data,
    _evaluation,
    _progress,
    _recipes,
    _results,
    _training,
)

# Of a recipe, what one run of one method does not depend on.
_ELSEWHERE = (
    "preset",
    "methods",
    "seeds",
    "side_by_side",
    "plane",
    "plane_steps",
    "checkpoint_every",
    "data_dir",
    "checkpoints",
    "results",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Which classifiers to train, and on what."""

    methods: tuple[_recipes.MethodName, ...] = tuple(_recipes.METHODS)
    """Losses to train with."""
    preset: _recipes.PresetName = "quick"
    """Recipe: one that a CPU can do, or the dissertation's for Table 2.2 (MNIST), 2.3
    (CIFAR-10), 2.4 (CIFAR-100)."""
    dataset: _data.Name | None = None
    """Images; those of the preset if None, which for "quick" are the embedded digits.
    The other sets must have been prepared for TensorFlow Datasets."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    augment: bool = False
    """Pad by 4 pixels, crop at random, flip at random."""
    seed: int = 0
    """Of the one run of each method."""
    steps: int | None = None
    """Optimisation steps, learning rate and annealing stretched to them; those of the
    preset if None."""
    checkpoints: pathlib.Path = pathlib.Path("checkpoints")
    """Folder for checkpoints; they are removed at the end."""
    results: pathlib.Path = pathlib.Path("experiments/results")
    """Folder for the figure and the JSON file."""

    experiment: ClassVar[str] = ""

    def __post_init__(self):
        if not self.methods:
            known = ", ".join(_recipes.METHODS)
            raise ValueError(f"methods must name at least one of {known}.")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}.")

    @property
    def recipe(self) -> _recipes.Config:
        """Of the training."""
        recipe = _recipes.preset(self.preset, self.dataset, self.augment)
        return recipe if self.steps is None else _recipes.stretched(recipe, self.steps)

    def result(self, ending: str) -> pathlib.Path:
        """A result file, by the ending of its name."""
        parts = [self.experiment, self.recipe.dataset]
        parts[1:1] = [self.preset] * (self.preset != "quick")
        return self.results / ("_".join(parts + ["augmented"] * self.augment) + ending)


class Trained(NamedTuple):
    """The head of a trained classifier, and what it all says of the test images."""

    head: sx.layers.MarginHead
    outputs: _evaluation.Outputs


def trained(
    config: Config, data: _data.ImageSet
) -> Iterator[tuple[_recipes.MethodName, Trained]]:
    """Trains one method after the other, each from where it was killed.

    Args:
        config: What to train.
        data: The images of its recipe.

    Yields:
        Name and classifier of each method.

    Raises:
        FloatingPointError: If a loss is not a number.
    """
    run = f"{config.experiment}-{config.recipe.digest()}-{config.seed}"
    folder = config.checkpoints / run
    total = len(config.methods) * config.recipe.steps
    with tqdm(total=total, unit=" steps", dynamic_ncols=True) as bar:
        for name in config.methods:
            bar.set_description(_recipes.METHODS[name].title)
            yield name, _train(config, name, data, folder / name, bar)
    _checkpoints.clear(folder)


def _train(config, name, data, folder, bar) -> Trained:
    recipe, method = config.recipe, _recipes.METHODS[name]
    design = _recipes.architecture(recipe, data.shape)
    seeds, report = (config.seed,), _progress.steps_on(bar)
    setting, (state,) = _training.fit(
        recipe, design, method, data, seeds, folder, report
    )
    model = nnx.merge(setting.graph, state.params, state.rest)
    outputs = _evaluation.outputs(setting, state, data, data.test.images)
    return Trained(model.head, outputs)


def save(
    config: Config, methods: dict[_recipes.MethodName, Any], seconds: float
) -> Any:
    """Writes what was measured, with its provenance; returns all that is written."""
    recipe = config.recipe.without(*_ELSEWHERE)
    found = {"recipe": recipe, "methods": methods}
    return _results.save(config, found, seconds)


def main(
    kind: type[Config],
    train: Callable[[Any], dict[str, Any]],
    table: Callable[[dict[str, Any]], Iterator[str]],
) -> None:
    """Runs from the command line, with the settings of ``kind``."""
    _progress.main(lambda: tyro.cli(kind), train, table)
