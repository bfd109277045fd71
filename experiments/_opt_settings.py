"""What the experiment with orthogonal training compares, and on what."""

import dataclasses
import functools
import hashlib
import pathlib
from typing import Literal

from experiments import _citations, _data, _modelnet, _planetoid, _results, _shapes
from experiments._opt_clouds import point_network
from experiments._opt_graphs import graph_convolutional
from experiments._opt_images import convolutional, perceptron
from experiments._opt_methods import METHODS, MethodName
from experiments._opt_problems import Problem
from experiments._opt_recipes import Recipe

PresetName = Literal["quick", "cnn-6"]
ProblemName = Literal["mlp", "cnn", "gcn", "pointnet"]

_QUICK = Recipe(
    "plain",
    steps=400,
    batch=64,
    learning_rate=0.01,
    rotation_rate=0.03,
    descent_rate=0.5,
    weight_decay=5e-4,
    redrawn_every=20,
)
_RECIPES: dict[tuple[PresetName, ProblemName], Recipe] = {
    ("quick", "mlp"): _QUICK,
    ("quick", "cnn"): dataclasses.replace(_QUICK, steps=300),
    ("quick", "gcn"): dataclasses.replace(_QUICK, descent_rate=5.0),
    ("quick", "pointnet"): dataclasses.replace(
        _QUICK, steps=200, batch=32, descent_rate=0.1
    ),
    # The published recipe of CNN-6.
    ("cnn-6", "cnn"): Recipe(
        "plain",
        steps=75_000,
        batch=128,
        learning_rate=0.1,
        rotation_rate=0.1,
        descent_rate=0.02,
        weight_decay=5e-4,
        redrawn_every=750,
        drops=(30_000, 50_000, 65_000),
        checkpoint_every=1_000,
    ),
}


# Shares of the widths that are published, or with the perceptron usual.
_WIDTHS: dict[tuple[PresetName, ProblemName], float] = {
    ("quick", "mlp"): 0.25,
    ("quick", "cnn"): 0.25,
    ("quick", "gcn"): 1.0,
    ("quick", "pointnet"): 0.125,
    ("cnn-6", "cnn"): 1.0,
}
# Settings of a recipe that a user may choose.
_OF_RECIPE = (
    "steps",
    "learning_rate",
    "rotation_rate",
    "descent_rate",
    "redrawn_every",
    "checkpoint_every",
)


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
    """Orthogonal training and its descendants: energies, losses and errors.

    Without arguments: a perceptron and a convolutional network on scikit-learn's
    handwritten digits, eleven methods, five seeds, some minutes on two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of what is None come from: a recipe that a CPU can do, or that
    of the authors of OPT for CNN-6."""
    dataset: _data.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    problems: tuple[ProblemName, ...] | None = None
    """What learns: "mlp" and "cnn" on images, "gcn" on a graph, "pointnet" on point
    clouds; networks for the images if None."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """What stands in the place of the kernels of hidden layers."""
    seeds: int | None = None
    """Runs of each method, with seeds 0, 1, ..."""
    steps: int | None = None
    """Optimisation steps of a run."""
    width: float | None = None
    """Share of the widths that are published: 64 filters for the CNN, 16 units for the
    graph convolution network, 64 to 1024 for PointNet; 512 for the perceptron."""
    learning_rate: float | None = None
    """Of all params but rotations."""
    rotation_rate: float | None = None
    """Learning rate of what rotations are made from."""
    descent_rate: float | None = None
    """Learning rate of rotations that are params themselves."""
    redrawn_every: int | None = None
    """Steps from one redrawing to the next, of methods that do it."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, about, from which a killed run goes on."""
    graph: Literal["cora", "citeseer", "pubmed"] = "cora"
    """Of the files in ``graph_dir``."""
    graph_dir: pathlib.Path | None = None
    """Folder of the files of Planetoid, ind.cora.x and others; a generated graph if
    None."""
    clouds_dir: pathlib.Path | None = None
    """Folder of ModelNet, with chair/train/*.off and others; generated shapes if None.
    """
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("methods", "problems"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} must name at least one.")
        for name in self.chosen:
            if (self.preset, name) not in _RECIPES:
                raise ValueError(
                    f"--preset {self.preset} has no {name}: leave it out of --problems."
                )
        if self.preset == "cnn-6" and self.dataset == "digits":
            raise ValueError(
                "--preset cnn-6 is for larger images than digits: give --dataset"
                " cifar100."
            )

    @property
    def chosen(self) -> tuple[ProblemName, ...]:
        """What learns."""
        if self.problems is not None:
            return self.problems
        # Neurons of a perceptron on colour images would have 3072 dimensions.
        is_gray = not self.dataset.startswith("cifar")
        return ("mlp", "cnn") if is_gray and self.preset == "quick" else ("cnn",)

    @property
    def runs(self) -> int:
        """Of each method on each problem."""
        is_small = self.dataset == "digits" and self.preset == "quick"
        return self.seeds or (5 if is_small else 1)

    def recipe(self, problem: ProblemName, method: MethodName) -> Recipe:
        """How a run is trained: the same for all methods."""
        default = _RECIPES[self.preset, problem]
        if self.steps is not None:
            default = default.stretched(self.steps)
        values = {name: getattr(self, name) for name in _OF_RECIPE}
        chosen = {name: value for name, value in values.items() if value is not None}
        return dataclasses.replace(default, method=method, **chosen)

    def load(self, problem: ProblemName) -> Problem:
        """A problem, with what it is learned from.

        Raises:
            DatasetNotFoundError: If that is not where it should be.
        """
        width = self._width(problem)
        if problem == "mlp":
            return perceptron(self._images, max(2, round(512 * width)))
        if problem == "cnn":
            return convolutional(self._images, max(2, round(64 * width)))
        if problem == "gcn":
            graph = _citations.generate()
            if self.graph_dir is not None:
                graph = _planetoid.read(self.graph, self.graph_dir)
            return graph_convolutional(graph, max(2, round(16 * width)))
        clouds = _shapes.generate(points=128)
        if self.clouds_dir is not None:
            clouds = _modelnet.read(self.clouds_dir)
        return point_network(clouds, width)

    @functools.cached_property
    def _images(self) -> _data.ImageSet:
        return _data.load(self.dataset, self.data_dir)

    @property
    def digest(self) -> str:
        """Of all that the outcomes depend on, but for method and seed."""
        told = [
            (
                self._source(name),
                self._width(name),
                self.recipe(name, "plain").without("checkpoint_every"),
            )
            for name in self.chosen
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Name of the result files."""
        sources = dict.fromkeys(map(self._source, self.chosen))
        return f"opt_{self.preset}_{'_'.join(sources)}"

    def _width(self, problem: ProblemName) -> float:
        return self.width or _WIDTHS[self.preset, problem]

    def _source(self, problem: ProblemName) -> str:
        if problem == "gcn":
            return "graph" if self.graph_dir is None else self.graph
        if problem == "pointnet":
            return "shapes" if self.clouds_dir is None else "modelnet40"
        return self.dataset
