"""Angular visual hardness against model confidence and feature norm (Figure 1.2).

    python -m experiments.hardness
    python -m experiments.hardness --dataset cifar10 --data-dir DIR
    --human-counts cifar10h-counts.npy

For a test image with feature ``x`` and class ``y`` these are three quantities of the
classifier: the hardness ``AVH = angle(w_y, x) / sum_i angle(w_i, x)``, the confidence
``softmax(logits)_y`` and the norm ``|x|``. The figure holds them against how many
people see class ``y`` in the image, their human selection frequency (HSF). CIFAR-10H
has counted it for the test images of CIFAR-10: ``data/cifar10h-counts.npy`` of
https://github.com/jcpeterson/cifar-10h (Peterson et al., ICCV 2019). Without counts the
hardness is held against the other two.

Hardness and figure are of Chen et al., `Angular Visual Hardness
<https://arxiv.org/abs/1912.02279>`_, ICML 2020.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import special, stats

import sphax as sx
from experiments import _data, _diagnostics, _figures, _human, _progress, _recipes
from experiments._jobs import Jobs

# What is drawn and correlated, upright against across; with human counts these too.
_PAIRS = (("avh", "confidence"), ("avh", "norm"))
_HUMAN_PAIRS = (("hsf", "avh"), ("hsf", "confidence"), ("hsf", "norm"))


@dataclasses.dataclass(frozen=True)
class Config(_diagnostics.Config):
    """How hard test images are to a classifier, by angle, confidence and norm.

    Without arguments: scikit-learn's handwritten digits, two losses, half a minute on
    two cores.
    """

    methods: tuple[_recipes.MethodName, ...] = ("softmax", "cosface")
    """Losses to train with."""
    human_counts: pathlib.Path | None = None
    """File of CIFAR-10H's counts, cifar10h-counts.npy, for --dataset cifar10: how often
    people chose each class for each test image."""

    experiment: ClassVar[str] = "hardness"

    def __post_init__(self):
        super().__post_init__()
        if self.human_counts is not None and self.recipe.dataset != "cifar10":
            raise ValueError(
                "--human-counts are for the test images of CIFAR-10, got dataset"
                f" {self.recipe.dataset}: add --dataset cifar10."
            )


def train(config: Config) -> dict[str, Any]:
    """Trains every method; writes and returns the results, and draws them.

    Raises:
        FileNotFoundError: If the images are not prepared, or the counts not there.
        ValueError: If the human counts are not of these images.
        FloatingPointError: If a loss is not a number.
    """
    measured: dict[_recipes.MethodName, dict[str, np.ndarray]] = {}
    methods: dict[_recipes.MethodName, Any] = {}
    human, pairs = {}, _PAIRS
    with Jobs(config, config.root) as jobs:
        data = _data.load(config.recipe.dataset, config.data_dir)
        labels = data.test.labels
        if config.human_counts is not None:
            counts = _human.counts(config.human_counts, config.data_dir, labels)
            human = {"hsf": _human.frequency(counts, labels)}
            pairs = _PAIRS + _HUMAN_PAIRS
        for name, classifier in _diagnostics.trained(config, data, jobs):
            measured[name] = measure(classifier, labels) | human
            error = float(100.0 * np.mean(classifier.outputs.predictions != labels))
            methods[name] = {"error": error, **summary(measured[name], pairs)}
    results = _diagnostics.save(config, methods, jobs.seconds)
    _figures.hardness(config.result(".png"), measured, pairs)
    jobs.clear()
    return results


def measure(
    classifier: _diagnostics.Trained, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Hardness, confidence and norm of each test image, ``[n]`` each."""
    head, embeddings = classifier.head, classifier.outputs.embeddings
    # In float64, where the confidences near one can still be told apart.
    logits = np.asarray(head(jnp.asarray(embeddings)), np.float64)
    confidence = special.softmax(logits, axis=-1)[np.arange(len(labels)), labels]
    hardness = sx.metrics.angular_visual_hardness(
        embeddings, head.prototypes[...], labels
    )
    return {
        "avh": np.asarray(hardness),
        "confidence": confidence,
        "norm": np.linalg.norm(embeddings, axis=-1),
    }


def summary(
    measured: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Mean hardness, and the rank correlations of pairs of quantities."""
    return {
        "avh": float(np.mean(measured["avh"])),
        "rank_correlations": {
            f"{y}_{x}": rank_correlation(measured[y], measured[x]) for y, x in pairs
        },
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, with the mean of their ranks for those that tie."""
    ranks = stats.rankdata(first), stats.rankdata(second)
    return float(np.corrcoef(*ranks)[0, 1])


def table(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the results: rank correlations, one row for each method."""
    methods = results["methods"]
    pairs = list(next(iter(methods.values()))["rank_correlations"])
    names = [" and ".join(map(_title, pair.split("_"))) for pair in pairs]
    heads = [f"rank correlation, {name}" for name in names]
    rows = [["", "error, %", "mean AVH", *heads]]
    for name, row in methods.items():
        cells = [f"{row['rank_correlations'][pair]:.3f}" for pair in pairs]
        title = _recipes.METHODS[name].title
        rows.append([title, f"{row['error']:.2f}", f"{row['avh']:.3f}", *cells])
    return _progress.markdown(rows)


def _title(quantity: str) -> str:
    return quantity.upper() if quantity in ("avh", "hsf") else quantity


def main() -> None:
    """Runs from the command line."""
    _diagnostics.main(Config, train, table)


if __name__ == "__main__":
    main()
