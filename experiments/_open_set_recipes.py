"""How the open-set experiment trains: one recipe for a dataset, whatever the loss."""

import argparse
import dataclasses
from typing import get_args

import optax

import sphax as sx
from experiments import _command_line, _open_set, _results
from experiments._objectives import METHODS
from experiments._settings import Recipe, kernels, stretched

# What the dissertation's Table 2.5 compares, the triplet loss of FaceNet and the later
# margins: trained with on the larger sets, and drawn.
MAIN = (
    "softmax",
    "softmax-contrastive",
    "triplet",
    "l-softmax-2",
    "l-softmax-4",
    "sphereface",
    "cosface",
    "arcface",
)


@dataclasses.dataclass(frozen=True)
class Config(_results.Config, Recipe):
    """Open-set verification and identification with the losses of sphax.

    Without arguments: scikit-learn's handwritten digits, trained on 0 to 4 and tested
    on 5 to 9, all losses, five seeds, about five minutes on two cores.
    """

    dataset: _open_set.Name = "digits"
    """Images and protocol, and where the defaults of everything else come from.
    "digits" is embedded; the others must have been prepared for TensorFlow Datasets."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Losses to train with."""
    components: int | None = None
    """Principal components of the training features, to verify in them too."""

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"--methods must be some of {', '.join(METHODS)}, got {unknown}."
            )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam: its steps do not depend on the unit of a loss, and these differ."""
        return optax.adamw(self.rate, weight_decay=self.weight_decay, mask=kernels)

    @property
    def name(self) -> str:
        """Name of the result files."""
        return f"verify_{self.dataset}"


def recipe(dataset: _open_set.Name = "digits") -> Config:
    """The defaults for a dataset."""
    common = Config(dataset=dataset, learning_rate=3e-3, batch=60, per_class=12)
    common = stretched(common, 200)
    if dataset == "digits":
        return common
    common = dataclasses.replace(common, methods=MAIN, per_class=4)
    if dataset == "omniglot":
        return stretched(dataclasses.replace(common, seeds=3, batch=128), 1_000)
    of_faces = dataclasses.replace(common, augment=True)
    if dataset == "orl_faces":
        return stretched(of_faces, 300)
    of_faces = dataclasses.replace(of_faces, seeds=1, batch=64, components=64)
    return stretched(of_faces, 600)


def of_method(config: Config, name: str) -> Config:
    """The recipe with the lambda that the authors of a loss have published for it.

    L-Softmax's is the one of the settings. SphereFace's falls faster, to 5 and not to
    0, within 28 000 steps: here in as many as there are.
    """
    if name != "sphereface":
        return config
    gamma = 0.12 * 28_000 / config.steps
    return dataclasses.replace(config, annealing=(1000.0, gamma, 1.0, 5.0))


def parse(arguments: list[str] | None = None) -> Config:
    """The command line's configuration: flags over the defaults of their dataset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", nargs="?")
    chosen, _ = first.parse_known_args(arguments)
    # What has no such name is refused with all else.
    is_known = chosen.dataset in get_args(_open_set.Name)
    default = recipe(chosen.dataset if is_known else "digits")
    return _command_line.parse("experiments.verify", Config, arguments, default)


def architecture(shape: tuple[int, int, int]) -> sx.networks.Design:
    """The one network, for images of a shape."""
    stage = sx.networks.Stage
    if shape[0] < 16:
        return sx.networks.Design(shape, (stage(16), stage(32)), 128)
    strided = (stage(n, stride=2, pool=None) for n in (16, 32, 64))
    return sx.networks.Design(shape, tuple(strided), 128)
