"""Cosines between classes, as a confusion matrix (Figure 2.5).

    python -m experiments.confusion
    python -m experiments.confusion --preset table-2.3 --data-dir DIR

Of the figure the dissertation says that "we normalize the learned features and then
calculate the cosine distance between these features". Here the entry of two classes is
the mean cosine over all pairs of test images, one of each class; on the diagonal, over
the pairs of different images of the class. Prototypes play no part.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

import sphax as sx
from experiments import _data, _diagnostics, _figures, _progress, _recipes
from experiments._jobs import Jobs


@dataclasses.dataclass(frozen=True)
class Config(_diagnostics.Config):
    """Cosines between the test features of every two classes, for several losses.

    Without arguments: scikit-learn's handwritten digits, five losses, a minute on
    two cores.
    """

    methods: tuple[_recipes.MethodName, ...] = (
        "softmax",
        "l-softmax-4",
        "a-softmax",
        "cosface",
        "arcface",
    )
    """Losses to train with, one matrix each."""

    experiment: ClassVar[str] = "confusion"


def train(config: Config) -> dict[str, Any]:
    """Trains every method; writes and returns the results, and draws them.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
    """
    methods: dict[_recipes.MethodName, Any] = {}
    with Jobs(config, config.root) as jobs:
        data = _data.load(config.recipe.dataset, config.data_dir)
        for name, (_, outputs) in _diagnostics.trained(config, data, jobs):
            labels = data.test.labels
            cosines = class_cosines(outputs.embeddings, labels, data.classes)
            error = float(100.0 * np.mean(outputs.predictions != labels))
            methods[name] = {"error": error, **summary(cosines)}
    results = _diagnostics.save(config, methods, jobs.seconds)
    _figures.confusion(
        config.result(".png"), {name: row["cosines"] for name, row in methods.items()}
    )
    jobs.clear()
    return results


def class_cosines(
    embeddings: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Mean cosine over the pairs of different embeddings of two classes.

    Args:
        embeddings: ``[n, features]``.
        labels: ``[n]``; each class must occur at least twice.
        classes: Their number.

    Returns:
        ``[classes, classes]`` in float64, symmetric.
    """
    units = np.asarray(sx.sphere.normalize(embeddings), np.float64)
    members = np.eye(classes)[labels]
    number, sums = members.sum(0), members.T @ units
    pairs = np.outer(number, number) - np.diag(number)
    # The mean over pairs is the product of sums, less each image's with itself.
    with_itself = np.diag(members.T @ np.sum(units * units, axis=1))
    return (sums @ sums.T - with_itself) / pairs


def summary(cosines: np.ndarray) -> dict[str, Any]:
    """The matrix in numbers.

    Returns:
        ``within``: mean of the diagonal. ``between``: mean of the rest. ``closest``:
        the largest of the rest, and ``closest_classes``, whose it is. ``cosines``: the
        matrix, rounded.
    """
    is_between = ~np.eye(len(cosines), dtype=bool)
    others = np.where(is_between, cosines, -np.inf)
    pair = np.unravel_index(np.argmax(others), others.shape)
    return {
        "within": float(np.mean(np.diag(cosines))),
        "between": float(np.mean(cosines[is_between])),
        "closest": float(others[pair]),
        "closest_classes": [int(index) for index in pair],
        "cosines": np.round(cosines, 4).tolist(),
    }


def table(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the results: one row for each method."""
    rows = [["", "error, %", "cosine within", "between", "of the closest two"]]
    for name, row in results["methods"].items():
        cells = [f"{row[key]:.3f}" for key in ("within", "between", "closest")]
        rows.append([_recipes.METHODS[name].title, f"{row['error']:.2f}", *cells])
    return _progress.markdown(rows)


def main() -> None:
    """Runs from the command line."""
    _diagnostics.main(Config, train, table)


if __name__ == "__main__":
    main()
