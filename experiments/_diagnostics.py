"""Classifiers trained to be looked at: what ``confusion`` and ``hardness`` share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

from flax import nnx

import sphax as sx
from experiments import (
    _command_line,
    _data,
    _evaluation,
    _recipes,
    _results,
    _training,
)
from experiments._jobs import Jobs

# Of a recipe, what one run of one method does not depend on.
_ELSEWHERE = (
    "preset",
    "methods",
    "seeds",
    "side_by_side",
    "plane",
    "plane_steps",
    "checkpoint_every",
    *_results.ELSEWHERE,
)


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
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

    experiment: ClassVar[str] = ""

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            known = ", ".join(_recipes.METHODS)
            raise ValueError(f"--methods must name at least one of {known}.")
        _ = self.recipe  # raises if preset and images do not fit

    @property
    def recipe(self) -> _recipes.Config:
        """Of the training."""
        recipe = _recipes.preset(self.preset, self.dataset, self.augment)
        return recipe if self.steps is None else _recipes.stretched(recipe, self.steps)

    @property
    def name(self) -> str:
        """Name of the result files."""
        parts = [self.experiment, self.recipe.dataset]
        parts[1:1] = [self.preset] * (self.preset != "quick")
        return "_".join(parts + ["augmented"] * self.augment)

    @property
    def root(self) -> str:
        """Name of the folder of the checkpoints."""
        return f"{self.experiment}-{self.recipe.digest()}-{self.seed}"


class Trained(NamedTuple):
    """The head of a trained classifier, and what it all says of the test images."""

    head: sx.layers.MarginHead
    outputs: _evaluation.Outputs


def trained(
    config: Config, data: _data.ImageSet, jobs: Jobs
) -> Iterator[tuple[_recipes.MethodName, Trained]]:
    """Trains one method after the other, each from where it was killed.

    Args:
        config: What to train.
        data: The images of its recipe.
        jobs: Runs of the experiment.

    Yields:
        Name and classifier of each method.

    Raises:
        FloatingPointError: If a loss is not a number.
    """
    jobs.progress.expect(len(config.methods) * config.recipe.steps)
    for name in config.methods:
        with jobs.job(name) as folder:
            found = _train(config, name, data, folder, jobs)
        yield name, found


def _train(config, name, data, folder, jobs) -> Trained:
    recipe, method = config.recipe, _recipes.METHODS[name]
    design = _recipes.architecture(recipe, data.shape)
    setting, (state,) = _training.fit(
        recipe, design, method, data, (config.seed,), folder, jobs.steps()
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
    name = f"experiments.{kind.experiment}"
    _command_line.main(name, lambda: _command_line.parse(name, kind), train, table)
