"""Metrics of sphax and those of scikit-learn and pytorch-metric-learning."""

import ctypes
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import sphax as sx
from experiments.benchmarks._peer_case import import_peer, medians

# Of the embeddings that are searched.
_PER_CLASS = 20
_FAR = 1e-3
_NEAREST = 10


class Metric(NamedTuple):
    """A number by both libraries.

    Attributes:
        name: Its name in sphax.
        peer: Its name in the other library.
        package: The package that has it.
        ours: Computes it.
        theirs: Computes it by the other library.
    """

    name: str
    peer: str
    package: str
    ours: Callable[[], float]
    theirs: Callable[[], float]


def metrics(pairs: int, rows: int, features: int) -> list[Metric]:
    """Metrics of so many scores, and of the nearest ones of so many embeddings."""
    random = np.random.default_rng(0)
    same = random.random(pairs) < 0.1
    scores = (random.normal(size=pairs) + 2.0 * same).astype(np.float32)
    labels = np.arange(rows) // _PER_CLASS
    centers = random.normal(size=(labels[-1] + 1, features))
    x = centers[labels] + 3.0 * random.normal(size=(rows, features))
    x = x.astype(np.float32)
    # The same for both, whose cosines then differ by rounding only.
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return [*_of_scores(scores, same), *_of_nearest(x, labels)]


def _of_scores(scores: np.ndarray, same: np.ndarray) -> list[Metric]:
    def curve():
        learn = import_peer("sklearn", "metrics").metrics
        return learn.roc_curve(same, scores)[:2]

    def area():
        learn = import_peer("sklearn", "metrics").metrics
        return float(learn.roc_auc_score(same, scores))

    def equal_error_rate():
        far, tar = curve()
        excess = far + tar - 1.0
        return float(np.interp(0.0, excess, far))

    def tar_at_far():
        far, tar = curve()
        return float(tar[far <= _FAR].max())

    name = "scikit-learn"
    return [
        Metric(
            "roc_auc",
            "roc_auc_score",
            name,
            lambda: sx.metrics.roc_auc(scores, same),
            area,
        ),
        Metric(
            "equal_error_rate",
            "roc_curve",
            name,
            lambda: sx.metrics.equal_error_rate(scores, same),
            equal_error_rate,
        ),
        Metric(
            "tar_at_far",
            "roc_curve",
            name,
            lambda: float(sx.metrics.tar_at_far(scores, same, _FAR).tar),
            tar_at_far,
        ),
    ]


def _of_nearest(x: np.ndarray, labels: np.ndarray) -> list[Metric]:
    def theirs(*names: str) -> Callable[[], float]:
        def run():
            found = _calculator(names).get_accuracy(x, labels)
            return float(np.mean([found[each] for each in names]))

        return run

    def recall() -> float:
        return float(sx.metrics.recall_at_k(x, labels).recall[0])

    def r_precision() -> float:
        return sx.metrics.r_precision(x, labels).precision

    def map_at_r() -> float:
        return sx.metrics.mean_average_precision_at_r(x, labels).precision

    def nearest() -> float:
        return float(sx.metrics.nearest(x, x, _NEAREST)[0].mean())

    def neighbors() -> float:
        learn = import_peer("sklearn", "neighbors").neighbors
        search = learn.NearestNeighbors(
            n_neighbors=_NEAREST, metric="cosine", algorithm="brute"
        )
        return 1.0 - float(search.fit(x).kneighbors(x)[0].mean())

    name = "pytorch-metric-learning"
    kinds = "precision_at_1", "r_precision", "mean_average_precision_at_r"
    return [
        Metric("recall_at_k, k = 1", kinds[0], name, recall, theirs(kinds[0])),
        Metric("r_precision", kinds[1], name, r_precision, theirs(kinds[1])),
        Metric(
            "mean_average_precision_at_r", "the same", name, map_at_r, theirs(kinds[2])
        ),
        Metric(
            "all three",
            "AccuracyCalculator",
            name,
            lambda: float(np.mean([recall(), r_precision(), map_at_r()])),
            theirs(*kinds),
        ),
        Metric(
            f"nearest, {_NEAREST}",
            "NearestNeighbors",
            "scikit-learn",
            nearest,
            neighbors,
        ),
    ]


def _calculator(names: tuple[str, ...]) -> Any:
    modules = "utils.accuracy_calculator", "utils.inference", "distances"
    package = import_peer("pytorch-metric-learning", *modules)
    knn = package.utils.inference.CustomKNN(package.distances.CosineSimilarity())
    return package.utils.accuracy_calculator.AccuracyCalculator(
        include=names,
        k=1 if names == ("precision_at_1",) else "max_bin_count",
        device=import_peer("torch").device("cpu"),
        knn_func=knn,
    )


def measure(
    metric: Metric, *, clock: Callable[[], float], repetitions: int, seconds: float
) -> dict[str, Any]:
    """Values, seconds and memory of both libraries."""
    value, peer_value = metric.ours(), metric.theirs()
    calls = {"seconds": metric.ours, "peer_seconds": metric.theirs}
    return {
        "value": value,
        "peer_value": peer_value,
        "bytes": _growth(metric.ours),
        "peer_bytes": _growth(metric.theirs),
        **medians(calls, clock, repetitions, seconds),
    }


def _growth(run: Callable[[], Any]) -> int | None:
    """Bytes by which the process grows at most while it runs, as Linux counts them."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])
